"""Model files spoilt token by token: a quick way to many programs that are nearly right.

Run alone, ``python -m tests.fuzz.mutations SEED SECONDS``, it checks as many as time allows, and
writes each new way to fail, and each text that takes long, beside the figures into ``fuzz-found/``.
"""

from __future__ import annotations

import json
import random
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.index import analyse
from nnc.frontend.layout import format_source
from nnc.frontend.rendering import render_all
from nnc.frontend.source import Source

ROOT = Path(__file__).parents[2]
TOKEN = re.compile(r'\s+|#[^\n]*|\d+\.\d+|\w+|\.\.\.|\.\.|\|>|->|[<>=!]=|//|"[^"\n]*"|.', re.DOTALL)
FOLDERS = ("frontend/stdlib", "examples", "benchmarks", "tests/data")
STRANGE = [
    "0", "-1", "2^70", "1e400", "9223372036854775807", "..", "...", "(", ")", "[", "]", "{", "}",
    "\0", "é", '"', "\\",
]  # fmt: skip
LONGEST = 20
"""Seconds after which a text is taken to hang."""


class Mutator:
    """Draws declarations of the repository's files and changes a few of their tokens."""

    def __init__(self, seed: int) -> None:
        paths = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.nn"))]
        texts = [p.read_text(encoding="utf-8") for p in paths]
        parts = [m for t in texts for m in re.split(r"\n\n(?=\w)", t) if len(m) < 1500]
        self._items = [TOKEN.findall(part) for part in parts]
        self._pool = sorted({w for item in self._items for w in item if w.strip()})
        self._draw = random.Random(seed)

    def text(self) -> str:
        """Return the next program."""
        draw = self._draw
        tokens = list(draw.choice(self._items))
        if draw.random() < 0.3:
            tokens += ["\n\n", *draw.choice(self._items)]
        for _ in range(draw.choice([1, 1, 1, 2, 3, 6])):
            if tokens:
                self._change(tokens)
        return "".join(tokens)

    def _change(self, tokens: list[str]) -> None:
        draw = self._draw
        k, j = draw.randrange(len(tokens)), draw.randrange(len(tokens))
        match draw.choices(range(9), [35, 15, 10, 10, 10, 7, 5, 4, 4])[0]:
            case 0:
                tokens[k] = draw.choice(self._pool)
            case 1:
                del tokens[k]
            case 2:
                tokens.insert(k, draw.choice(self._pool))
            case 3:
                tokens[k] = tokens[j]
            case 4:
                tokens[k], tokens[j] = tokens[j], tokens[k]
            case 5:
                tokens[k] *= 2
            case 6:
                tokens[k:k] = tokens[j : j + draw.randrange(12)]
            case 7:
                tokens[k] = draw.choice(STRANGE)
            case _:
                del tokens[k : k + draw.randrange(20)]


def check(text: str, *, layout: bool = True) -> bool:
    """Check a text as the command does; return whether it was accepted. Nothing else may happen."""
    found = analyse(Source("fuzz.nn", text))
    render_all(found.diagnostics, found.sources)
    if layout and found.program is not None:
        try:
            format_source(text)
        except SourceError:
            raise AssertionError("what parses once parses twice") from None
    return not found.diagnostics


class _Hangs(Exception):
    pass


def _alarm(*_: Any) -> None:
    raise _Hangs


def main(seed: int, seconds: float) -> None:
    """Check texts until the time is over."""
    signal.signal(signal.SIGALRM, _alarm)
    folder = Path("fuzz-found")
    folder.mkdir(exist_ok=True)
    mutator, crashes = Mutator(seed), dict[str, int]()
    inputs = accepted = 0
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        text = mutator.text()
        inputs += 1
        signal.alarm(LONGEST)
        try:
            accepted += check(text, layout=inputs % 4 == 0)
        except Exception as fault:
            place = traceback.extract_tb(fault.__traceback__)[-1]
            at = f"{Path(place.filename).name}:{place.lineno}"
            key = "hangs" if isinstance(fault, _Hangs) else f"{type(fault).__name__} {at}"
            crashes[key] = crashes.get(key, 0) + 1
            if crashes[key] == 1:
                (folder / f"{seed}-{inputs}.nn").write_text(text, encoding="utf-8")
                (folder / f"{seed}-{inputs}.txt").write_text(traceback.format_exc())
        finally:
            signal.alarm(0)
    figures = {"inputs": inputs, "accepted": accepted, "crashes": crashes}
    (folder / f"{seed}.json").write_text(json.dumps(figures, indent=1))
    print(figures)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
