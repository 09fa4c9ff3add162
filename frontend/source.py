"""The text of a file, and the way from an offset to a line and a column."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from nnc.ir.span import Span


@dataclass(frozen=True, slots=True)
class Source:
    """A named text. ``name`` is what messages call it, usually a path as the user wrote it.

    Lines end in a newline alone; the two other conventions are brought to it. ``path`` is where the
    text lies on the disk, None where it does not, or where it is not the user's to change.
    """

    name: str
    text: str
    path: Path | None = field(default=None, compare=False)
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = self.text.replace("\r\n", "\n").replace("\r", "\n")
        object.__setattr__(self, "text", text)
        lengths = (len(line) + 1 for line in text.split("\n"))
        object.__setattr__(self, "_starts", (0, *accumulate(lengths)))

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> Source:
        """Read a file as UTF-8. Raises OSError, and UnicodeDecodeError where it is not UTF-8."""
        return cls(name or str(path), path.read_bytes().decode("utf-8-sig"), path)

    def instead(self, texts: Mapping[str, str]) -> Source:
        """Return this source with the text that is given for its name, if one is."""
        text = texts.get(self.name)
        return self if text is None else Source(self.name, text, self.path)

    @property
    def lines(self) -> int:
        """Number of lines; a text that ends in a newline has an empty last one."""
        return len(self._starts) - 1

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset, both from 1; past the end counts as the end."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self._starts, offset, hi=self.lines)
        return line, offset - self._starts[line - 1] + 1

    def start(self, number: int) -> int:
        """Return where line ``number``, from 1, begins."""
        return self._starts[number - 1]

    def line(self, number: int) -> str:
        """Return line ``number``, from 1, without its newline."""
        return self.text[self._starts[number - 1] : self._starts[number] - 1]

    def excerpt(self, span: Span) -> str:
        """Return the text of a span."""
        return self.text[span.start : span.end]

    def span(self, start: int, end: int) -> Span:
        """Return the span of this source from ``start`` to ``end`` (exclusive)."""
        return Span(self.name, start, end)


def sources_by_name(sources: Iterable[Source]) -> dict[str, Source]:
    """Return the table that rendering a diagnostic needs."""
    return {source.name: source for source in sources}
