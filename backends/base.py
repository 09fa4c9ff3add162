"""What a backend must provide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from nnc.ir import loops

RECORD_VERSION = 2
"""What the first word of a call record holds. An entry refuses another version with code 2."""

# Layout of the call record, an array of 64-bit words. Words from HEADER on are the addresses of
# the program's buffers in order, then the values of its dims in order. A buffer inside another is
# found by the other's address; its own word is not read.
VERSION, TEAM, FAULT_COUNT, FAULT_SITE, FAULT_VALUE = range(5)
HEADER = 8


class Code(Protocol):
    """Loaded code of one program."""

    def entry(self, name: str) -> int:
        """Return the address of an entry, a C function ``int32 (int64 *record)``.

        It returns 0, 1 where a check of the data failed (the record's FAULT words then say how
        many did, and the first one's site and value), or 2 for a record of another version.
        Raises KeyError for an unknown name.
        """
        ...


class Backend(Protocol):
    """Turns loops into code: bytes that can be kept in a file, and back."""

    name: str

    def compile(self, program: loops.Program, options: Mapping[str, str]) -> bytes:
        """Compile to object bytes.

        ``options`` may hold ``triple``, ``cpu`` and ``features`` of another machine than this.
        """
        ...

    def load(self, code: bytes, program_name: str) -> Code:
        """Make compiled code callable in this process."""
        ...
