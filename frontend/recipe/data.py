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
from nnc.frontend.recipe.readers import KINDS, Kind, Options
from nnc.ir.expr import Number
from nnc.ir.index import Dim, Poly
from nnc.ir.model import DataSource, Port
from nnc.ir.span import Span

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
            case ast.Call(ast.Name(name), args, kwargs) if name in KINDS:
                return self._call(KINDS[name], args, kwargs, expr.span)
            case ast.Call(ast.Name(name) as where):
                hint, fix = did_you_mean(name, KINDS, where.span)
                raise fault("E0409", f"there is no reader of data called {name}", where.span,
                            notes=[f"there are {', '.join(KINDS)}, and data written in the file"],
                            hint=hint, fix=fix)  # fmt: skip
        raise fault("E0409", f"data is read by {', '.join(KINDS)}, or written in a record",
                    expr.span, "not a source of data",
                    hint="data = { x = [[0.0], [1.0]], y = [0, 1] }")  # fmt: skip

    def _call(
        self, kind: Kind, args: Sequence[ast.Expr], kwargs: Sequence[ast.Keyword], span: Span
    ) -> DataSource:
        named = [(k.name, k.value) for k in kwargs]
        if kind.files == "named":
            if args:
                raise fault("E0409", f"{kind.name} takes files by name", args[0].span,
                            hint=kind.example)  # fmt: skip
            return self._source(kind.name, named, span, self._files, kind)
        if len(args) != 1:
            what = "folder" if kind.name == "images" else "file"
            raise fault("E0409", f"{kind.name} takes one {what}", span, f"{len(args)} are given",
                        hint=kind.example)  # fmt: skip
        read = self._several if kind.files == "several" else self._file
        return self._filled(kind.name, {"files": read(args[0])}, named, read, kind, span)

    def _source(
        self, name: str, items: Sequence[tuple[ast.Ident, ast.Expr]], span: Span,
        read: Callable[[Sequence[tuple[ast.Ident, ast.Expr]], Span], dict[str, Any]],
        kind: Kind | None = None,
    ) -> DataSource:  # fmt: skip
        """Return a source whose arrays are given one by one, held-out ones in records."""

        def record(expr: ast.Expr) -> dict[str, Any]:
            if not isinstance(expr, ast.Record):
                raise fault("E0409", "a share of the rows or a record is needed", expr.span)
            return read([(_key(e), e.value) for e in expr.entries], expr.span)

        own = {port.name for port in self.ports}
        words = {*HELD_OUT, *(kind.options if kind is not None else ())} - own
        apart = [(k, v) for k, v in items if k.text in words]
        arguments = {"files": read([i for i in items if i not in apart], span)}
        return self._filled(name, arguments, apart, record, kind, span)

    def _filled(
        self, name: str, arguments: dict[str, Any], named: Sequence[tuple[ast.Ident, ast.Expr]],
        read: Callable[[ast.Expr], Any], kind: Kind | None, span: Span,
    ) -> DataSource:  # fmt: skip
        """Return a source with its options and held-out rows. Raises Fault for unknown ones."""
        known = kind.options if kind is not None else ()
        options: dict[str, Any] = {}
        seen: dict[str, Span] = {}
        for key, expr in named:
            if key.text in seen:
                raise fault("E0409", f"{key} is given twice", key.span, "the second",
                            related=[(seen[key.text], "the first")])  # fmt: skip
            seen[key.text] = key.span
            if key.text in HELD_OUT:
                arguments[key.text] = self._held_out(key, expr, read)
            elif key.text in known:
                taken = Options(self.elab, self.scope, self.ports)
                options[key.text] = taken.read(key.text, expr)
            else:
                words = [*known, *HELD_OUT]
                hint, fix = did_you_mean(key.text, words, key.span)
                raise fault("E0409", f"{name}(...) has no option {key}", key.span,
                            notes=[f"there are {', '.join(words)}"],
                            hint=hint, fix=fix)  # fmt: skip
        missing = [n for n in (kind.needed if kind is not None else ()) if n not in options]
        if missing and kind is not None:
            raise fault("E0409", f"{name}(...) needs {missing[0]}", span,
                        hint=kind.example)  # fmt: skip
        return DataSource(name, {**arguments, "options": options} if options else arguments, span)

    def _held_out(self, key: ast.Ident, expr: ast.Expr, read: Callable[[ast.Expr], Any]) -> Any:
        if isinstance(expr, ast.Record | ast.String | ast.List):
            return read(expr)
        value = self.elab.evaluate(expr, self.scope)
        if isinstance(value, Float) and 0 < value.value < 1 and key.text == "validation":
            return value.value
        raise fault("E0409", f"{key} is a share between 0 and 1, or data of its own"
                    if key.text == "validation" else f"{key} is data of its own",
                    expr.span, f"this is {describe(value)}")  # fmt: skip

    def _several(self, expr: ast.Expr) -> Any:
        """Return one file, or a list of them."""
        if isinstance(expr, ast.List | ast.Tuple):
            return [self._file(item) for item in expr.items]
        return self._file(expr)

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
