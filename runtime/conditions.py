"""Conditions on sizes, evaluated before a call: what ``require`` says and no proof decided."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping

from nnc.ir.expr import Apply, Const, Expr, Number, Position, walk
from nnc.ir.index import Size, dims_of, evaluate

OPERATIONS: Mapping[str, Callable[..., Number]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
    "abs": abs,
    "max": max,
    "min": min,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": operator.ne,
    "not": operator.not_,
    "select": lambda c, a, b: a if c else b,
    "cast": lambda a: a,
}
"""What may stand in a condition; sizes are exact, so casts among them change nothing."""


def holds(condition: Expr, dims: Mapping[str, int]) -> bool:
    """Whether a condition holds for these dims.

    Raises KeyError for a dim without a value or an operation that no condition has.
    """
    found: dict[Expr, Number] = {}
    for e in walk(condition):
        match e:
            case Const(value):
                found[e] = value
            case Position(index):
                found[e] = evaluate(index, dims)
            case Apply(name, args):
                found[e] = OPERATIONS[name](*(found[a] for a in args))
            case _:
                raise KeyError("a condition reads no tensor")
    return bool(found[condition])


def dims_in(condition: Expr) -> frozenset[str]:
    """Names of the dims that a condition speaks of."""
    return frozenset(d for size in _sizes(condition) for d in dims_of(size))


def _sizes(condition: Expr) -> Iterator[Size]:
    return (e.index for e in walk(condition) if isinstance(e, Position))
