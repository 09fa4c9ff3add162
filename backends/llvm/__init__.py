"""Native CPU code through LLVM."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

from nnc.backends.llvm.entries import public_symbol
from nnc.backends.llvm.loader import Loaded
from nnc.backends.llvm.module import emit
from nnc.backends.llvm.objects import LLVMError, assembly, compilations, compile_text
from nnc.backends.llvm.target import Target, choose, host
from nnc.backends.llvm.team import settle, team
from nnc.backends.llvm.values import EmitError
from nnc.backends.llvm.work import DEFAULT_GRAIN
from nnc.ir.loops import Program

__all__ = ["EmitError", "LLVMBackend", "LLVMCode", "LLVMError", "compilations", "machine", "team"]


def machine() -> str:
    """Describe this machine as far as code depends on it: compiled code runs where it is equal."""
    here = host()
    return f"{here.triple} {here.cpu} {here.features}"


class LLVMCode:
    """Loaded code of one program. Entries may be called as long as it lives."""

    def __init__(self, code: bytes, program_name: str) -> None:
        self._loaded = Loaded(code)
        # The team's threads may be on their way out of it when its last call has returned. Nothing
        # is unloaded when the process ends.
        weakref.finalize(self, settle).atexit = False
        self._program = program_name
        self._entries: dict[str, int] = {}

    def entry(self, name: str) -> int:
        """Return the address of an entry. Raises KeyError for an unknown name."""
        address = self._entries.get(name)
        if address is None:
            # Not asked of LLVM twice: a lock it takes may be another thread's when a process forks.
            address = self._loaded.address(public_symbol(self._program, name))
            self._entries[name] = address
        return address


class LLVMBackend:
    """Implements ``backends.base.Backend``."""

    name = "cpu"

    def text(self, program: Program, options: Mapping[str, str] | None = None) -> str:
        """Return the LLVM IR of a program. Raises EmitError."""
        return _emit(program, options or {})[0]

    def assembly(self, program: Program, options: Mapping[str, str] | None = None) -> str:
        """Return the assembly of a program. Raises EmitError, LLVMError."""
        return assembly(*_emit(program, options or {}))

    def compile(self, program: Program, options: Mapping[str, str] | None = None) -> bytes:
        """Return object bytes. ``options`` may hold ``triple``, ``cpu``, ``features``, ``grain``.

        ``grain`` is the least work, in instructions, for which threads are woken.
        Raises EmitError for a program that breaks a rule, LLVMError where LLVM objects.
        """
        return compile_text(*_emit(program, options or {}))

    def load(self, code: bytes, program_name: str) -> LLVMCode:
        """Make object bytes callable. Raises LLVMError where they are no code for this machine."""
        return LLVMCode(code, program_name)


def _emit(program: Program, options: Mapping[str, str]) -> tuple[str, Target]:
    target = choose(options)
    return emit(program, target, int(options.get("grain", DEFAULT_GRAIN))), target
