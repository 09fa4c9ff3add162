"""The ``data`` key of a train block: where arrays come from, and whether those in the file fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nnc.frontend import ast
from nnc.frontend.elaborate.elaborator import Elaborator
from nnc.frontend.elaborate.faults import did_you_mean, fault
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.types import type_name
from nnc.frontend.elaborate.values import Bool, Float, Int, ListValue, Text, Value, describe
from nnc.frontend.recipe.keys import Given, Key
from nnc.ir.expr import Number
from nnc.ir.index import Dim, Poly
from nnc.ir.model import DataSource, Port
from nnc.ir.span import Span

READERS = ("npz", "idx")
LATER = ("tokens", "csv", "images", "folder")
HELD_OUT = ("validation", "test")


@dataclass(frozen=True, slots=True)
class Reader:
    """What evaluating the ``data`` key needs: the scope of the train block, the model's ports."""

    elab: Elaborator
    scope: Scope
    ports: Sequence[Port]

    def source(self, expr: ast.Expr) -> DataSource:
        """Return where data comes from. Raises Fault where the value is no source of data."""
        match expr:
            case ast.Record(entries):
                items = [(_key(e), e.value) for e in entries]
                return self._source("arrays", items, expr.span, self._arrays)
            case ast.Call(ast.Name("npz"), args, kwargs):
                return self._npz(args, kwargs, expr.span)
            case ast.Call(ast.Name("idx"), args, kwargs):
                if args:
                    raise fault("E0409", "idx takes files by name", args[0].span,
                                hint='idx(image = "images.gz", label = "labels.gz")')  # fmt: skip
                named = [(k.name, k.value) for k in kwargs]
                return self._source("idx", named, expr.span, self._files)
            case ast.Call(ast.Name(kind) as name) if kind in LATER:
                raise fault("E0404", f"data from {kind}(...) is not supported yet", name.span)
            case ast.Call(ast.Name(kind) as name):
                hint, fix = did_you_mean(kind, READERS, name.span)
                raise fault("E0409", f"there is no reader of data called {kind}", name.span,
                            notes=[f"there are {', '.join(READERS)}, and data written in the file"],
                            hint=hint, fix=fix)  # fmt: skip
        raise fault("E0409", "data is read by npz(...) or idx(...), or written in a record",
                    expr.span, "not a source of data",
                    hint="data = { x = [[0.0], [1.0]], y = [0, 1] }")  # fmt: skip

    def _npz(
        self, args: Sequence[ast.Expr], kwargs: Sequence[ast.Keyword], span: Span
    ) -> DataSource:
        if len(args) != 1:
            raise fault("E0409", "npz takes one file", span, f"{len(args)} are given",
                        hint='npz("data.npz", validation = 0.1)')  # fmt: skip
        arguments: dict[str, Any] = {"files": self._file(args[0])}
        for keyword in kwargs:
            arguments[keyword.name.text] = self._held_out(keyword.name, keyword.value, self._file)
        return DataSource("npz", arguments, span)

    def _source(
        self, kind: str, items: Sequence[tuple[ast.Ident, ast.Expr]], span: Span,
        read: Callable[[Sequence[tuple[ast.Ident, ast.Expr]], Span], dict[str, Any]],
    ) -> DataSource:  # fmt: skip
        """Return a source whose arrays are given one by one, held-out ones in records."""

        def record(expr: ast.Expr) -> dict[str, Any]:
            if not isinstance(expr, ast.Record):
                raise fault("E0409", "a share of the rows or a record is needed", expr.span)
            return read([(_key(e), e.value) for e in expr.entries], expr.span)

        own = {port.name for port in self.ports}
        apart = [(k, v) for k, v in items if k.text in HELD_OUT and k.text not in own]
        arguments: dict[str, Any] = {"files": read([i for i in items if i not in apart], span)}
        for key, value in apart:
            arguments[key.text] = self._held_out(key, value, record)
        return DataSource(kind, arguments, span)

    def _held_out(self, key: ast.Ident, expr: ast.Expr, read: Callable[[ast.Expr], Any]) -> Any:
        if key.text not in HELD_OUT:
            hint, fix = did_you_mean(key.text, HELD_OUT, key.span)
            raise fault("E0409", f"data has no option {key}", key.span,
                        notes=[f"there are {' and '.join(HELD_OUT)}"],
                        hint=hint, fix=fix)  # fmt: skip
        if isinstance(expr, ast.Record | ast.String):
            return read(expr)
        value = self.elab.evaluate(expr, self.scope)
        if isinstance(value, Float) and 0 < value.value < 1 and key.text == "validation":
            return value.value
        raise fault("E0409", f"{key} is a share between 0 and 1, or data of its own"
                    if key.text == "validation" else f"{key} is data of its own",
                    expr.span, f"this is {describe(value)}")  # fmt: skip

    def _file(self, expr: ast.Expr) -> str:
        value = self.elab.evaluate(expr, self.scope)
        if not isinstance(value, Text):
            raise fault("E0409", "a file name is needed here", expr.span,
                        f"this is {describe(value)}")  # fmt: skip
        return value.value

    def _files(self, items: Sequence[tuple[ast.Ident, ast.Expr]], span: Span) -> dict[str, Any]:
        self._check_names([key for key, _ in items], span)
        return {key.text: self._file(expr) for key, expr in items}

    # arrays in the file -----------------------------------------------------------------------

    def _arrays(self, items: Sequence[tuple[ast.Ident, ast.Expr]], span: Span) -> dict[str, Any]:
        self._check_names([key for key, _ in items], span)
        sizes: dict[str, tuple[int, Span]] = {}
        arrays: dict[str, Any] = {}
        ports = {port.name: port for port in self.ports}
        for key, expr in items:
            numbers, shape = _numbers(self.elab.evaluate(expr, self.scope), expr.span)
            arrays[key.text] = nested(numbers, shape)
            _check_shape(ports[key.text], shape, expr.span, sizes)
        return arrays

    def _check_names(self, keys: Sequence[ast.Ident], span: Span) -> None:
        names = [port.name for port in self.ports]
        seen: dict[str, Span] = {}
        for key in keys:
            if key.text not in names:
                hint, fix = did_you_mean(key.text, names, key.span)
                raise fault(
                    "E0410", f"the model has no input or target {key}", key.span,
                    notes=[f"it has {', '.join(names)}"],
                    hint=hint, fix=fix,
                )  # fmt: skip
            if key.text in seen:
                raise fault("E0410", f"{key} is given twice", key.span, "the second",
                            related=[(seen[key.text], "the first")])  # fmt: skip
            seen[key.text] = key.span
        missing = [port for port in self.ports if port.trains and port.name not in seen]
        if missing:
            raise fault("E0410", f"the data lacks {', '.join(p.name for p in missing)}", span,
                        related=[(missing[0].span, "declared here")])  # fmt: skip


def _key(entry: ast.RecordEntry) -> ast.Ident:
    if isinstance(entry.key, ast.Ident):
        return entry.key
    return ast.Ident(entry.key.value, span=entry.key.span)


def _numbers(value: Value, span: Span) -> tuple[tuple[Number, ...], tuple[int, ...]]:
    match value:
        case ListValue(numbers, shape):
            return numbers, shape
        case Int(size) if isinstance(size, int):
            return (size,), ()
        case Float(number):
            return (number,), ()
        case Bool(truth):
            return (truth,), ()
    raise fault("E0410", "numbers are needed here", span, f"this is {describe(value)}",
                hint="write them as a list: [[0.0, 1.0], [2.0, 3.0]]")  # fmt: skip


def nested(numbers: Sequence[Number], shape: Sequence[int]) -> Any:
    """Return row-major numbers as lists within lists."""
    if not shape:
        return numbers[0]
    if len(shape) == 1:
        return list(numbers)
    step = len(numbers) // shape[0] if shape[0] else 0
    return [nested(numbers[k * step : (k + 1) * step], shape[1:]) for k in range(shape[0])]


def _check_shape(
    port: Port, shape: tuple[int, ...], span: Span, sizes: dict[str, tuple[int, Span]]
) -> None:
    found = f"[{', '.join(map(str, shape))}]"
    declaration = (port.span, f"declared {type_name(port.type)}")
    if len(shape) != port.type.rank:
        raise fault("E0410", f"{port.name} has {port.type.rank} dims, not {len(shape)}", span,
                    f"these are {found}", related=[declaration])  # fmt: skip
    for size, declared in zip(shape, port.type.shape, strict=True):
        if isinstance(declared, int) and size != declared:
            raise fault("E0410", f"a dim of {port.name} is {declared}, not {size}", span,
                        f"these are {found}", related=[declaration])  # fmt: skip
        name = _symbol(declared) if isinstance(declared, Poly) else None
        if name is None:
            continue
        before = sizes.setdefault(name, (size, span))
        if before[0] != size:
            raise fault("E0410", f"{name} would be {before[0]} and {size}", span,
                        f"{name} is {size} here",
                        related=[(before[1], f"{name} is {before[0]} here")])  # fmt: skip


def _symbol(size: Poly) -> str | None:
    """Return the dim that a size is, or None where it is more than one symbol."""
    (first, *_) = size.atoms()
    return first.name if isinstance(first, Dim) and size == first.as_poly() else None


def data(given: Given) -> DataSource:
    """Return where data comes from."""
    return Reader(given.elab, given.scope, given.model.ports).source(given.expr)


ROWS = (Key("data", "a reader of files, or a record of arrays", data, of_model=True),)
