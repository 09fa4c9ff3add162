"""Csv files, as pieces of text that are found once and then read in any order.

The first look through the file finds where pieces begin, how many rows each has, and the labels
of text columns. Numbers are read by NumPy, text by Python's csv module (RFC 4180: a header, fields
in double quotes where they hold the delimiter, quotes doubled or ends of lines).
"""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnc.runtime.arrays import Array
from nnc.runtime.data.columns import MOST_CLASSES, Bound, Labels, bind_columns
from nnc.runtime.data.door import split_of
from nnc.runtime.data.source import PortsOf, Split
from nnc.runtime.data.stream import Pieced
from nnc.runtime.errors import UserError

PIECE_BYTES = 1 << 20
MISSING = frozenset({"", "NA", "N/A", "na", "null", "NULL", "None", "?"})
"""What stands for a value that is not there."""
TRUTHS = {"true": "1", "false": "0", "True": "1", "False": "0", "TRUE": "1", "FALSE": "0"}
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Piece:
    offset: int
    line: int
    """Lines of the file before it."""
    rows: int


class CsvTable(Pieced):
    """A csv file as pieced data (see ``stream``)."""

    def __init__(
        self, path: Path, model: PortsOf, options: Mapping[str, Any], labels: Labels
    ) -> None:
        self._path = path
        self._model = model
        self._labels = labels
        self._finite = not options.get("allow_nan", False)
        self._delimiter = options.get("delimiter", ",")
        self._header = options.get("header", True)
        self._width = 0
        self._bound: list[Bound] = []
        self._places: dict[str, int] = {}
        self._numbered: set[str] = set()
        self._pieces: list[_Piece] = []
        self._look_through(options.get("columns", {}))
        self.pieces = [piece.rows for piece in self._pieces]
        if not self._pieces:
            raise UserError("E0618", f"'{path}' has no rows")

    # the first look -----------------------------------------------------------------------------

    def _look_through(self, columns: Mapping[str, Any]) -> None:
        texts: dict[str, set[str]] = {}
        begun, line, rows = 0, 0, 0
        for first, ended, offset, fields in self._records(0, 0):
            if not self._places:
                self._begin(fields, columns)
                texts = {b.port.name: set() for b in self._bound if b.may_be_labels}
                if self._header:
                    begun, line = offset, ended
                    continue
            self._check_width(fields, first)
            for bound in self._bound:
                if bound.port.name in texts:
                    self._note(bound, fields, texts[bound.port.name])
            rows += 1
            if offset - begun >= PIECE_BYTES:
                self._pieces.append(_Piece(begun, line, rows))
                begun, line, rows = offset, ended, 0
        if rows:
            self._pieces.append(_Piece(begun, line, rows))
        for bound in self._bound:
            found = texts.get(bound.port.name)
            known = bound.port.name in self._labels.classes
            if known or (found and not any(map(_is_number, found))):
                self._labels.settle(bound.port, found or set(), str(self._path))
                self._numbered.add(bound.port.name)

    def _begin(self, fields: list[str], columns: Mapping[str, Any]) -> None:
        names = (
            [n.strip() for n in fields] if self._header else [str(k) for k in range(len(fields))]
        )
        self._width = len(fields)
        self._places = {name: k for k, name in enumerate(names)}
        try:
            self._bound = bind_columns(self._model, columns, names, str(self._path))
        except UserError as fault:
            other = next((d for d in ";\t|" if d in fields[0]), None)
            if len(fields) == 1 and other is not None and other != self._delimiter:
                shown = "\\t" if other == "\t" else other
                fault.hint = f'its fields seem to be divided otherwise: delimiter = "{shown}"'
            raise

    def _note(self, bound: Bound, fields: list[str], texts: set[str]) -> None:
        text = fields[self._places[bound.names[0]]].strip()
        if text not in MISSING and len(texts) <= MOST_CLASSES:
            texts.add(text)

    def _check_width(self, fields: list[str], line: int) -> None:
        if len(fields) != self._width:
            raise UserError(
                "E0618",
                f"'{self._path}' has {len(fields)} fields in line {line}, not {self._width}",
                ("every line has as many fields as the first",),
                "a field that holds the delimiter stands in double quotes",
            )

    # records ------------------------------------------------------------------------------------

    def _records(
        self, offset: int, line: int
    ) -> Generator[tuple[int, int, int, list[str]], None, None]:
        """Give (its first line, its last, the byte behind it, fields) of each record."""
        at = offset

        def lines(file: Any) -> Iterator[str]:
            nonlocal at
            for number, raw in enumerate(file, line + 1):
                at += len(raw)
                bare = raw[len(BOM) :] if at == len(raw) and raw.startswith(BOM) else raw
                try:
                    yield bare.decode("utf-8")
                except UnicodeDecodeError:
                    raise UserError(
                        "E0618", f"'{self._path}' is not UTF-8 text in line {number}"
                    ) from None

        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                reader = csv.reader(lines(file), delimiter=self._delimiter, strict=True)
                ended = line
                for fields in reader:
                    first, ended = ended + 1, line + reader.line_num
                    if fields:
                        yield first, ended, at, fields
        except csv.Error as fault:
            raise UserError(
                "E0618",
                f"'{self._path}' is no csv text in line {ended + 1}",
                (str(fault),),
                "a quote within quotes is doubled, and each quote is closed",
            ) from None
        except OSError as fault:
            raise UserError("E0618", f"'{self._path}' cannot be read", (str(fault),)) from None

    # reading ------------------------------------------------------------------------------------

    def read(self, piece: int, start: int) -> Generator[Split, None, None]:
        """Read a piece from its row ``start`` on (see ``Pieced``)."""
        info = self._pieces[piece]
        records = self._records(info.offset, info.line)
        rows: list[list[str]] = []
        lines: list[int] = []
        try:
            for number, (line, _, _, fields) in enumerate(records):
                if number == info.rows:
                    break
                self._check_width(fields, line)
                if number >= start:
                    rows.append(fields)
                    lines.append(line)
        finally:
            records.close()
        if rows:
            arrays = {b.port.name: self._array(b, rows, lines) for b in self._bound}
            yield split_of(self._model, arrays, self._where(lines), finite=self._finite)

    def _place(self, line: int, column: str) -> str:
        return f"in line {line} of '{self._path}', column '{column}'"

    def _where(self, lines: list[int]) -> Any:
        bound = {b.port.name: b for b in self._bound}

        def where(name: str, place: tuple[int, ...]) -> str:
            names = bound[name].names
            column = names[place[1]] if bound[name].several else names[0]
            return self._place(lines[place[0]], column)

        return where

    def _array(self, bound: Bound, rows: list[list[str]], lines: list[int]) -> Array:
        places = [self._places[name] for name in bound.names]
        if bound.port.name in self._numbered:
            (at,) = places
            cells = [row[at].strip() for row in rows]
            for line, cell in zip(lines, cells, strict=True):
                if cell in MISSING:
                    raise self._missing(bound.port.name, cell, self._place(line, bound.names[0]))
            return self._labels.numbers(
                bound.port, np.array(cells), lambda k: self._place(lines[k], bound.names[0])
            )
        table = [[row[at] for at in places] for row in rows]
        array = self._numbers(bound, table, lines)
        return array if bound.several else array[:, 0]

    def _numbers(self, bound: Bound, table: list[list[str]], lines: list[int]) -> Array:
        """Return cells as numbers: whole ones where the port holds such, and all are."""
        whole = not bound.port.type.dtype.is_float
        for kind in (np.int64, np.float64) if whole else (np.float64,):
            try:
                return np.array(table, dtype=kind)
            except (ValueError, OverflowError):
                continue
        cleaned = [
            [
                self._cell(bound, name, cell, line)
                for name, cell in zip(bound.names, row, strict=True)
            ]
            for row, line in zip(table, lines, strict=True)
        ]
        return np.array(cleaned, dtype=np.float64)

    def _cell(self, bound: Bound, column: str, cell: str, line: int) -> str:
        """Return a cell as the text of a number. Raises UserError where it is none."""
        text = TRUTHS.get(cell.strip(), cell.strip())
        if text in MISSING:
            if self._finite or not bound.port.type.dtype.is_float:
                raise self._missing(bound.port.name, text, self._place(line, column))
            return "nan"
        if not _is_number(text):
            raise UserError(
                "E0605",
                f"'{bound.port.name}' has the text '{text}' {self._place(line, column)}",
                (f"the model declares {bound.port.name}: {bound.port.type}",),
                "text stands for classes where all of a column is text"
                if bound.may_be_labels
                else None,
            )
        return text

    def _missing(self, name: str, text: str, place: str) -> UserError:
        return UserError(
            "E0616",
            f"'{name}' has no value {place}",
            (f"there is {repr(text) if text else 'nothing'}",),
            "mend the data, or say allow_nan = true where it is read if the model expects "
            "not-a-number there",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
