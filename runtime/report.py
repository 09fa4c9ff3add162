"""What the command prints: faults, progress, tables. Nothing else writes to the terminal."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.lsp import to_json
from nnc.frontend.rendering import render, render_all
from nnc.runtime.errors import UserError

if TYPE_CHECKING:
    from nnc.runtime.train import Epoch, Progress

LINE_SECONDS = 0.2
"""The least time between two lines about epochs."""


def emit_json(data: Any) -> None:
    """Print one JSON object on a line of standard output; not-a-number becomes null."""
    print(json.dumps(finite(data), allow_nan=False))


def finite(data: Any) -> Any:
    """Return plain data with None in place of infinities and not-a-number, which JSON lacks."""
    match data:
        case float() if not math.isfinite(data):
            return None
        case dict():
            return {k: finite(v) for k, v in data.items()}
        case list() | tuple():
            return [finite(v) for v in data]
        case _:
            return data


def print_source_error(fault: SourceError, *, as_json: bool) -> None:
    """Print every diagnostic of a file: on stderr as text, on stdout as JSON."""
    if as_json:
        emit_json({"errors": [to_json(d, fault.sources) for d in fault.diagnostics]})
    else:
        shown = render_all(fault.diagnostics, fault.sources, colour=in_colour())
        print(shown, file=sys.stderr)


def print_user_error(fault: UserError, *, as_json: bool) -> None:
    """Print a fault in data, weights or arguments, likewise."""
    if as_json:
        emit_json({"errors": [to_json(fault.diagnostic, {})]})
    else:
        print(render(fault.diagnostic, {}, colour=in_colour()), file=sys.stderr)


def in_colour() -> bool:
    """Whether messages are painted: on a terminal, unless NO_COLOR (no-color.org) is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not plain


def table(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Return rows as aligned columns; those in ``right`` are aligned to the right."""
    if not rows:
        return ""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def epoch_line(epoch: Epoch, epochs: int | None) -> str:
    """Return one line that tells how an epoch went."""
    of = f"/{epochs}" if epochs is not None else ""
    parts = [f"epoch {epoch.epoch}{of}", f"loss {epoch.loss:.4f}"]
    parts += [f"held-out {name} {value:.4f}" for name, value in epoch.metrics.items()]
    parts.append(f"{epoch.seconds:.2f} s")
    return "  ".join(parts)


class Display:
    """Progress of training on stderr: a bar, and a line an epoch (fewer where epochs are short)."""

    def __init__(self, epochs: int | None) -> None:
        self._epochs = epochs
        self._shown = 0.0
        self._waiting: str | None = None
        self._bar: Any = None
        self._task: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} steps"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._waiting is not None:
            self._print(self._waiting)
        if self._bar is not None:
            self._bar.stop()

    def on_progress(self, at: Progress) -> None:
        """Show where the epoch stands."""
        if self._bar is None:
            return
        text = f"epoch {at.epoch}  loss {at.loss:.4f}"
        if self._task is None:
            self._task = self._bar.add_task(text, total=at.steps_in_epoch)
        self._bar.update(self._task, description=text, completed=at.step, total=at.steps_in_epoch)

    def on_epoch(self, epoch: Epoch) -> None:
        """Show how an epoch went: the first, the last, and between them one now and then."""
        line = epoch_line(epoch, self._epochs)
        if time.monotonic() - self._shown < LINE_SECONDS:
            self._waiting = line
            return
        self._print(line)
        self._shown = time.monotonic()

    def _print(self, line: str) -> None:
        self._waiting = None
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)
