"""``nnc check --fix``: fixes applied, the program checked again, until there is nothing to mend."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.edits import Fix, applied, by_file, together
from nnc.frontend.source import Source
from nnc.runtime.errors import UserError
from nnc.runtime.open import open_file

MOST_ROUNDS = 20
"""Times that a program is checked; each round mends all that can be mended together."""


@dataclass
class Mended:
    """What came of it: the texts as they were and as they are, what was done, what is left."""

    before: dict[str, Source] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    done: list[tuple[str, Fix]] = field(default_factory=list)
    error: SourceError | None = None

    @property
    def changed(self) -> dict[str, str]:
        """The new texts of the files that changed, by name."""
        return {n: t for n, t in self.texts.items() if t != self.before[n].text}

    def difference(self) -> str:
        """Return what changed as a unified diff."""
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for name, text in sorted(self.changed.items())
            for line in difflib.unified_diff(
                self.before[name].text.splitlines(keepends=True), text.splitlines(keepends=True),
                name, name,
            )
        )  # fmt: skip

    def as_data(self) -> list[dict[str, Any]]:
        """Return what was done as plain data."""
        return [{"code": code, "title": fix.title, "files": sorted(by_file(fix.edits))}
                for code, fix in self.done]  # fmt: skip


def mend(file: Path, config: Mapping[str, Any], **choice: Any) -> Mended:
    """Apply every fix that is offered, as often as there are new ones; nothing is written.

    Fixes that overlap wait for the next round. A text that was there before ends it.
    """
    found = Mended()
    seen: set[tuple[tuple[str, str], ...]] = set()
    for _ in range(MOST_ROUNDS):
        try:
            open_file(file, config, texts=found.texts, **choice)
        except SourceError as error:
            found.error = error
        else:
            found.error = None
            return found
        fixes = [(d.code, d.fix) for d in found.error.diagnostics if d.fix is not None]
        chosen = together(fix for _, fix in fixes)
        for name, edits in by_file(e for fix in chosen for e in fix.edits).items():
            source = found.error.sources[name]
            found.before.setdefault(name, source)
            found.texts[name] = applied(source.text, edits)
        state = tuple(sorted(found.texts.items()))
        if not chosen or state in seen:
            return found
        seen.add(state)
        codes = {id(fix): code for code, fix in reversed(fixes)}
        found.done += [(codes[id(fix)], fix) for fix in chosen]
    return found


def write(found: Mended) -> None:
    """Write the files that changed, each whole under its own name.

    Raises UserError where a file is not what was checked, or cannot be written; then none is.
    """
    pending = [(name, *_checked(found.before[name]), text) for name, text in found.changed.items()]
    for name, path, raw, text in pending:
        try:
            _replace(path, _as_written(text, raw))
        except OSError as fault:
            raise UserError(
                "E0634", f"'{name}' cannot be written", (fault.strerror or str(fault),)
            ) from None


def _checked(source: Source) -> tuple[Path, bytes]:
    """Return the path and the bytes of a file that still is what was checked."""
    path = source.path.resolve() if source.path is not None else None
    try:
        raw = path.read_bytes() if path is not None else b""
        same = path is not None and Source("", raw.decode("utf-8-sig")).text == source.text
    except (OSError, UnicodeDecodeError):
        same = False
    if path is None or not same:
        raise UserError(
            "E0656",
            f"'{source.name}' has changed since it was checked",
            ("nothing was written",),
            "check it again",
        )
    return path, raw


def _as_written(text: str, raw: bytes) -> bytes:
    """Return a text in the file's own way: its mark at the beginning, the ends of its lines."""
    ends = list(_line_ends(raw.decode("utf-8-sig")))
    usual = max(sorted(set(ends)), key=ends.count) if ends else "\n"
    joined = usual.join(text.split("\n"))
    mark = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
    return mark + joined.encode()


def _line_ends(text: str) -> Iterator[str]:
    return (line[len(line.rstrip("\r\n")) :] for line in text.splitlines(keepends=True)
            if line.endswith(("\r", "\n")))  # fmt: skip


def _replace(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
