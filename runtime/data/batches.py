"""Batches that Python code makes, as a source: each is one step, however many rows it has."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nnc.runtime.data.ahead import ahead
from nnc.runtime.data.door import split_of
from nnc.runtime.data.source import Draw, Portion, PortsOf, Split
from nnc.runtime.errors import UserError


class Batches:
    """An iterable of dicts of arrays. It is gone through anew for each epoch, read ahead."""

    def __init__(self, batches: Iterable[Any], model: PortsOf, *, finite: bool = True) -> None:
        self._batches = batches
        self._model = model
        self._finite = finite
        self._used = False

    @property
    def rows(self) -> int | None:
        """Nobody knows (see ``Source``)."""
        return None

    @property
    def once(self) -> bool:
        """Whether it can be gone through only once, as a generator can."""
        return isinstance(self._batches, Iterator)

    def epoch(self, draw: Draw) -> Generator[Portion, None, None]:
        """Give each batch as a portion of one step (see ``Source``).

        ``draw.start`` counts rows: batches before it are asked for and left.
        """
        blocks = ahead(self._read(draw.epoch, draw.start), depth=2)
        try:
            for block in blocks:
                size = -(-block.rows // draw.accumulate)
                yield Portion(block, np.arange(block.rows), size)
        finally:
            blocks.close()

    def in_order(self, batch: int) -> Generator[Portion, None, None]:
        """Give each batch (see ``Source``)."""
        return self.epoch(Draw(0, 0, batch))

    def _read(self, epoch: int, skip: int) -> Generator[Split, None, None]:
        if self.once and self._used:
            raise used_up(f"epoch {epoch + 1} has none left")
        self._used = True
        number = 0
        for number, given in enumerate(self._batches, 1):
            block = self._checked(given, number)
            if skip > 0:
                skip -= block.rows
                continue
            yield block
        if number == 0:
            raise used_up("it gave none at all")

    def _checked(self, given: Any, number: int) -> Split:
        if not isinstance(given, Mapping):
            raise UserError(
                "E0603",
                f"batch {number} is a {type(given).__name__}, not arrays by name",
                (f"the model has: {', '.join(port.name for port in self._model.ports)}",),
                "yield dicts: {'x': x, 'y': y}",
            )

        def where(name: str, place: tuple[int, ...]) -> str:
            return f"at {list(place)} of batch {number}"

        try:
            return split_of(self._model, given, where, finite=self._finite)
        except UserError as fault:
            fault.notes = (*fault.notes, f"in batch {number}")
            raise


def used_up(why: str) -> UserError:
    """Return the error of batches that cannot be gone through again."""
    return UserError(
        "E0626",
        "there are no batches left",
        (why, "a generator is used up once it was gone through"),
        "give what can be gone through again: a list, or an object whose __iter__ begins anew",
    )
