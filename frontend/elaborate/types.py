"""Element types by name, equality of sizes, and the rules by which shapes meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from nnc.ir.index import Size, axes_of
from nnc.ir.prove import Facts, proves_equal, proves_nonneg
from nnc.ir.types import DType, TensorType

NAMED: dict[str, DType] = {
    t.value: t
    for t in (
        DType.F64, DType.F32, DType.F16, DType.BF16, DType.I64, DType.I32, DType.I8, DType.U8,
        DType.BOOL,
    )
}  # fmt: skip
"""The types that a program may name; ``float`` is the working type and ``int`` no tensor's."""

PRECISIONS = ("f64", "f32", "f16", "bf16")
CONFIG_TYPES = ("int", "float", "bool", "text", "fn", "layer", "schedule")
GENERIC = ("any", "int")
"""Words that stand for any of several element types in the header of a function or layer."""
DEFAULT_INT = DType.I32
"""The type of whole numbers that become a tensor without meeting one."""
NARROW = (DType.I8, DType.U8)
"""Types whose sums and products hardly ever fit into them."""


_WORKING: ContextVar[DType | None] = ContextVar("the working type", default=None)


@contextmanager
def working(precision: DType) -> Iterator[None]:
    """Let messages call ``precision`` by the name that programs have for it, ``float``."""
    token = _WORKING.set(precision)
    try:
        yield
    finally:
        _WORKING.reset(token)


def type_name(type: DType | TensorType) -> str:
    """Return a type as programs write it: ``float[batch, 64]``, ``i32``."""
    if isinstance(type, TensorType):
        return f"{type_name(type.dtype)}{spell(type.shape) if type.shape else ''}"
    return "float" if type is _WORKING.get() else type.value


def equal(a: Size, b: Size, facts: Facts) -> bool:
    """Whether two sizes are the same at every call: their normal forms, or by what is known."""
    if a == b:
        return True
    if isinstance(a, int) and isinstance(b, int):
        return False
    return proves_equal(a, b, facts)


def at_least(a: Size, b: Size, facts: Facts) -> bool:
    """Whether ``a >= b`` at every call."""
    gap = a - b
    return gap >= 0 if isinstance(gap, int) else proves_nonneg(gap, facts)


def decide(op: str, a: Size, b: Size, facts: Facts) -> bool | None:
    """Compare two sizes (op is one of eq ne lt le gt ge), or None where calls may differ."""
    gap = a - b
    if isinstance(gap, int):
        return {
            "eq": gap == 0, "ne": gap != 0, "lt": gap < 0,
            "le": gap <= 0, "gt": gap > 0, "ge": gap >= 0,
        }[op]  # fmt: skip
    if axes_of(gap):
        return None
    if op in ("gt", "ge"):
        return decide({"gt": "lt", "ge": "le"}[op], b, a, facts)
    if op == "lt":
        return True if at_least(b, a + 1, facts) else (False if at_least(a, b, facts) else None)
    if op == "le":
        return True if at_least(b, a, facts) else (False if at_least(a, b + 1, facts) else None)
    same = _same(a, b, facts)
    return same if op == "eq" or same is None else not same


def _same(a: Size, b: Size, facts: Facts) -> bool | None:
    if equal(a, b, facts):
        return True
    return False if at_least(a, b + 1, facts) or at_least(b, a + 1, facts) else None


def broadcast(a: Sequence[Size], b: Sequence[Size], facts: Facts) -> tuple[Size, ...] | None:
    """Return the shape that two shapes make together, or None where they do not fit.

    At equal rank a dim that is the number 1 stretches; otherwise one is the other's ending.
    """
    if len(a) == len(b):
        return _stretch(a, b, facts)
    short, long = sorted((tuple(a), tuple(b)), key=len)
    ending = long[len(long) - len(short) :]
    fits = all(equal(s, e, facts) for s, e in zip(short, ending, strict=True))
    return long if fits else None


def _stretch(a: Sequence[Size], b: Sequence[Size], facts: Facts) -> tuple[Size, ...] | None:
    result: list[Size] = []
    for x, y in zip(a, b, strict=True):
        if x == 1 or equal(x, y, facts):
            result.append(y)
        elif y == 1:
            result.append(x)
        else:
            return None
    return tuple(result)


def broadcast_all(shapes: Sequence[Sequence[Size]], facts: Facts) -> tuple[Size, ...] | None:
    """Return the shape that several shapes make together, from left to right."""
    result: tuple[Size, ...] | None = ()
    for shape in shapes:
        result = broadcast(result, shape, facts) if result is not None else None
    return result


def spell(shape: Sequence[Size]) -> str:
    """Return a shape as text, ``[batch, 64]``."""
    return "[" + ", ".join(str(d) for d in shape) + "]"
