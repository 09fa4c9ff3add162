"""Files of arrays that are mapped, not read: ``.npy`` files by name, and files of token ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnc.ir.model import Port
from nnc.runtime.arrays import Array, admit
from nnc.runtime.data.door import split_of
from nnc.runtime.data.source import Order, PortsOf, Split, is_cut
from nnc.runtime.data.stream import Indexed
from nnc.runtime.errors import UserError
from nnc.runtime.files import ARCHIVE_FAULTS

NPY_MAGIC = b"\x93NUMPY"
TOKEN_TYPES = {"u8": "<u1", "u16": "<u2", "i32": "<i4", "u32": "<u4", "i64": "<i8"}


def map_npy(path: Path) -> Array:
    """Map the array of a NumPy file. Raises UserError for a damaged or pickled one."""
    with path.open("rb") as file:
        begins = file.read(len(NPY_MAGIC))
    if begins != NPY_MAGIC:
        raise UserError(
            "E0613", f"'{path}' cannot be read as .npy", (f"it begins with {begins!r}",)
        )
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ARCHIVE_FAULTS as fault:
        raise UserError("E0613", f"'{path}' cannot be read as .npy", (str(fault),)) from None


class Mapped(Indexed):
    """Arrays by name in ``.npy`` files, as indexed data (see ``stream``)."""

    def __init__(
        self, paths: Mapping[str, Path], model: PortsOf, options: Mapping[str, Any]
    ) -> None:
        self._model = model
        self._paths = paths
        self._finite = not options.get("allow_nan", False)
        arrays = {name: map_npy(path) for name, path in paths.items()}
        ports = {p.name: p for p in model.ports}
        self._cut = {n: a for n, a in arrays.items() if is_cut(ports[n], model.batch)}
        self._whole = {n: admit(ports[n], a) for n, a in arrays.items() if n not in self._cut}
        sizes = {n: a.shape[0] if a.ndim else 0 for n, a in self._cut.items()}
        self.rows = next(iter(sizes.values()), 1)
        for name, size in sizes.items():
            if size != self.rows:
                first = next(iter(sizes))
                raise UserError(
                    "E0607",
                    f"'{model.batch}' is {self.rows} in '{first}' and {size} in '{name}'",
                    tuple(
                        f"{n}: {list(self._cut[n].shape)} in '{paths[n]}'" for n in (first, name)
                    ),
                )

    def take(self, rows: Order) -> Split:
        """Read these rows (see ``Indexed``)."""

        def where(name: str, place: tuple[int, ...]) -> str:
            if name not in self._cut:
                return f"at {list(place)} of '{self._paths[name]}'"
            return f"at {[int(rows[place[0]]), *place[1:]]} of '{self._paths[name]}'"

        arrays = {name: array[rows] for name, array in self._cut.items()}
        return split_of(self._model, {**arrays, **self._whole}, where, finite=self._finite)


class Tokens(Indexed):
    """Windows of a long row of token ids, and for each the tokens that come next.

    Row k holds the tokens ``k*stride .. k*stride + window`` and, as what is to be said, those one
    place further on. The file is ``.npy`` (one dim of whole numbers), or nothing but the ids as
    little-endian numbers of ``type`` (u16 unless told).
    """

    def __init__(
        self,
        path: Path,
        model: PortsOf,
        options: Mapping[str, Any],
        span: tuple[float, float] = (0, 1),
    ) -> None:
        self._path = path
        self._model = model
        self._window = int(options["window"])
        self._stride = int(options.get("stride", self._window))
        self._given, self._next = _token_ports(model, options)
        whole = self._ids(path, options.get("type"))
        first, last = (round(len(whole) * share) for share in span)
        self._first, self._data = first, whole[first:last]
        self.rows = (len(self._data) - self._window - 1) // self._stride + 1
        if self.rows < 1:
            raise UserError(
                "E0620",
                f"'{path}' has {len(self._data)} tokens, too few for a window of {self._window}",
                ("a window needs one token more than it is long: the last one's next",),
            )

    @staticmethod
    def _ids(path: Path, kind: str | None) -> Array:
        if path.suffix == ".npy":
            array = map_npy(path)
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise UserError(
                    "E0620",
                    f"'{path}' holds {array.dtype}{list(array.shape)}",
                    ("tokens are one row of whole numbers",),
                )
            return array
        dtype = np.dtype(TOKEN_TYPES[kind or "u16"])
        size = path.stat().st_size
        if size % dtype.itemsize or not size:
            raise UserError(
                "E0620",
                f"'{path}' has {size} bytes, no row of {kind or 'u16'}",
                (f"each token has {dtype.itemsize} bytes",),
                'name the type of its numbers: tokens("...", window = 256, type = "u32")',
            )
        return np.memmap(path, dtype, "r")

    def take(self, rows: Order) -> Split:
        """Read these windows (see ``Indexed``)."""

        def where(name: str, place: tuple[int, ...]) -> str:
            at = self._first + int(rows[place[0]]) * self._stride + place[1]
            return f"at token {at + (name == self._next)} of '{self._path}'"

        places = rows[:, None] * self._stride + np.arange(self._window + 1)
        ids = self._data[places]
        arrays = {self._given: ids[:, :-1]}
        if self._next is not None:
            arrays[self._next] = ids[:, 1:]
        return split_of(self._model, arrays, where)


def _token_ports(model: PortsOf, options: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the ports that take the windows and the next tokens."""
    columns = options.get("columns", {})
    found = []
    for kind, word in (("input", "tokens"), ("target", "next")):
        named = [p.name for p in model.ports if columns.get(p.name) == word]
        fitting = named or [
            p.name for p in model.ports if p.kind == kind and _holds_tokens(p, model)
        ]
        if len(fitting) > 1 or (kind == "input" and not fitting):
            raise UserError(
                "E0620",
                f"no one {kind} can be told to take the {word} of tokens(...)",
                tuple(f"{p.name}: {p.type}, {p.kind} of the model" for p in model.ports),
                f'say which: columns = {{ NAME = "{word}" }}'
                if fitting
                else f"declare one: {kind} {word}: i32[batch, time]",
            )
        found.append(fitting[0] if fitting else None)
    given, following = found
    assert given is not None
    left = [p.name for p in model.ports if p.name not in found]
    if left:
        raise UserError("E0602", f"tokens(...) has nothing for {', '.join(left)}")
    return given, following


def _holds_tokens(port: Port, model: PortsOf) -> bool:
    return port.type.rank == 2 and port.type.dtype.is_int and is_cut(port, model.batch)
