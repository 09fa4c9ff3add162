"""The readers of data, as rows of a table: what files each takes, and with which options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nnc.frontend import ast
from nnc.frontend.elaborate.elaborator import Elaborator
from nnc.frontend.elaborate.faults import did_you_mean, fault
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.values import Bool, Int, Text, describe
from nnc.ir.model import Port

TOKEN_TYPES = ("u8", "u16", "i32", "u32", "i64")


@dataclass(frozen=True, slots=True)
class Kind:
    """One reader, with the options that it takes and those that it needs.

    ``files``: "one" file, a file or a list ("several"), or one for each port ("named").
    ``example`` is how it is written.
    """

    name: str
    files: str
    options: tuple[str, ...]
    example: str
    needed: tuple[str, ...] = ()


KINDS = {
    kind.name: kind
    for kind in (
        Kind("npz", "one", ("columns", "allow_nan"), 'npz("data.npz", validation = 0.1)'),
        Kind("idx", "named", (), 'idx(image = "images.gz", label = "labels.gz")'),
        Kind("npy", "named", ("allow_nan", "memory"), 'npy(image = "x.npy", label = "y.npy")'),
        Kind(
            "csv",
            "several",
            ("columns", "delimiter", "header", "allow_nan", "memory"),
            'csv("data.csv", columns = { x = ["a", "b"], y = "kind" })',
        ),
        Kind(
            "parquet",
            "several",
            ("columns", "allow_nan", "memory"),
            'parquet("data.parquet", columns = { x = "pixels", y = "label" })',
        ),
        Kind("images", "one", ("size", "memory"), 'images("folder", size = 64)'),
        Kind(
            "tokens",
            "one",
            ("window", "stride", "type", "columns", "memory"),
            'tokens("text.bin", window = 256)',
            needed=("window",),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Options:
    """Evaluates options. Each has a method of its name, which returns plain data."""

    elab: Elaborator
    scope: Scope
    ports: Sequence[Port]

    def read(self, name: str, expr: ast.Expr) -> Any:
        """Return an option's value. Raises Fault for one that it does not take."""
        take: Callable[[ast.Expr], Any] = getattr(self, f"_{name}")
        return take(expr)

    def _columns(self, expr: ast.Expr) -> dict[str, Any]:
        if not isinstance(expr, ast.Record):
            raise _wrong("columns", "a record that says for each input or target which columns "
                         "it takes", expr, None)  # fmt: skip
        names = [port.name for port in self.ports]
        found: dict[str, Any] = {}
        for entry in expr.entries:
            key = entry.key.text if isinstance(entry.key, ast.Ident) else entry.key.value
            if key not in names:
                hint, fix = did_you_mean(key, names, entry.key.span)
                raise fault("E0410", f"the model has no input or target {key}", entry.key.span,
                            notes=[f"it has {', '.join(names)}"], hint=hint, fix=fix)  # fmt: skip
            value = entry.value
            if isinstance(value, ast.List | ast.Tuple):
                found[key] = [self._column(item) for item in value.items]
            else:
                found[key] = self._column(value)
        return found

    def _column(self, expr: ast.Expr) -> str:
        value = self.elab.evaluate(expr, self.scope)
        if isinstance(value, Text):
            return value.value
        if isinstance(value, Int) and isinstance(value.size, int) and value.size >= 0:
            return str(value.size)
        raise _wrong("a column", "a name, or a number from 0 where the file has no header", expr,
                     value)  # fmt: skip

    def _delimiter(self, expr: ast.Expr) -> str:
        value = self.elab.evaluate(expr, self.scope)
        if isinstance(value, Text) and len(value.value) == 1 and value.value not in '"\r\n':
            return value.value
        raise _wrong("delimiter", 'one character: ",", ";" or "\\t"', expr, value)

    def _header(self, expr: ast.Expr) -> bool:
        return self._truth("header", expr)

    def _allow_nan(self, expr: ast.Expr) -> bool:
        return self._truth("allow_nan", expr)

    def _truth(self, name: str, expr: ast.Expr) -> bool:
        value = self.elab.evaluate(expr, self.scope)
        if isinstance(value, Bool):
            return value.value
        raise _wrong(name, "true or false", expr, value)

    def _memory(self, expr: ast.Expr) -> int:
        if isinstance(expr, ast.SizeLiteral) and expr.bytes > 0:
            return expr.bytes
        raise _wrong("memory", "an amount of memory, as 512MiB", expr, None)

    def _size(self, expr: ast.Expr) -> Any:
        if isinstance(expr, ast.Tuple) and len(expr.items) == 2:
            return [self._count("size", item) for item in expr.items]
        return self._count("size", expr)

    def _window(self, expr: ast.Expr) -> int:
        return self._count("window", expr)

    def _stride(self, expr: ast.Expr) -> int:
        return self._count("stride", expr)

    def _count(self, name: str, expr: ast.Expr) -> int:
        value = self.elab.evaluate(expr, self.scope)
        if isinstance(value, Int) and isinstance(value.size, int) and value.size >= 1:
            return value.size
        raise _wrong(name, "a whole number, at least 1", expr, value)

    def _type(self, expr: ast.Expr) -> str:
        value = self.elab.evaluate(expr, self.scope)
        if isinstance(value, Text) and value.value in TOKEN_TYPES:
            return value.value
        listed = ", ".join(f'"{name}"' for name in TOKEN_TYPES)
        raise _wrong("type", f"the type of the file's numbers: {listed}", expr, value)


def _wrong(name: str, wanted: str, expr: ast.Expr, value: Any) -> Exception:
    label = f"this is {describe(value)}" if value is not None else ""
    return fault("E0409", f"{name} is {wanted}", expr.span, label)
