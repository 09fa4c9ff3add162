"""The work of ``nnc fmt``: files laid out in place, compared, or only looked at."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.layout import format_source
from nnc.frontend.source import Source
from nnc.runtime.errors import UserError
from nnc.runtime.report import print_source_error, print_user_error
from nnc.runtime.weights import write_whole

STDIN = Path("-")


def format_files(files: Sequence[Path], *, check: bool, diff: bool) -> int:
    """Lay out every file; return the exit code.

    That is 1 where a file cannot be read or has syntax errors, which leave it as it is, and with
    ``check`` where one is laid out otherwise.
    """
    failed = changed = 0
    for path in _model_files(files):
        try:
            changed += _format(path, check=check, diff=diff)
        except SourceError as fault:
            print_source_error(fault, as_json=False)
            failed += 1
        except UserError as fault:
            print_user_error(fault, as_json=False)
            failed += 1
    return int(bool(failed or (check and changed)))


def _model_files(files: Sequence[Path]) -> Iterator[Path]:
    for path in files:
        if path.is_dir():
            yield from sorted(path.rglob("*.nn"))
        else:
            yield path


def _format(path: Path, *, check: bool, diff: bool) -> bool:
    """Lay out one file; return whether that changes it."""
    shown = "<stdin>" if path == STDIN else str(path)
    written = _read(path, shown)
    source = Source(shown, written.removeprefix("\ufeff"))
    try:
        result = format_source(source.text, shown)
    except SourceError as fault:
        fault.sources = {shown: source}
        raise
    changed = result != written
    if diff and changed:
        _print_diff(written, result, shown)
    if check and changed:
        print(f"{shown} would change", file=sys.stderr)
    if not check and not diff:
        if path == STDIN:
            sys.stdout.write(result)
        elif changed:
            _replace(path, result)
            print(f"{shown} changed", file=sys.stderr)
    return changed


def _read(path: Path, shown: str) -> str:
    """Return the text of a file with its own line ends. Raises UserError where there is none."""
    try:
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
        return data.decode("utf-8")
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise UserError("E0646", f"'{shown}' cannot be read", (reason,)) from None
    except UnicodeDecodeError as fault:
        place = f"the byte at {fault.start} does not fit"
        raise UserError("E0647", f"'{shown}' is not UTF-8 text", (place,)) from None


def _replace(path: Path, result: str) -> None:
    """Write a file whole, with the permissions it had; through a link, the file it leads to."""
    target = path.resolve()
    mode = target.stat().st_mode
    write_whole(target, result.encode("utf-8"))
    target.chmod(mode & 0o7777)


def _print_diff(before: str, after: str, name: str) -> None:
    import difflib

    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), name, name
    )
    for line in lines:
        sys.stdout.write(line if line.endswith("\n") else f"{line}\n\\ no newline at the end\n")
