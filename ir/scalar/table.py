"""What is known of a scalar operation, and the rules that operations share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from nnc.ir.expr import Expr
from nnc.ir.types import DType

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

Exprs: TypeAlias = "tuple[Expr, ...]"
Partials: TypeAlias = "tuple[Expr | None, ...]"
TypeRule: TypeAlias = Callable[[tuple[DType, ...], "DType | None"], DType]
Evaluation: TypeAlias = "Callable[[Sequence[Array], tuple[DType, ...]], Array]"


class ScalarTypeError(ValueError):
    """Operands of types that an operation does not take."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Operands on which an operation can be tried: types, and a half-open range for each.

    A derivative, where there is one, is smooth inside the ranges.
    """

    types: tuple[DType, ...]
    ranges: tuple[tuple[float, float], ...]
    target: DType | None = None


@dataclass(frozen=True, slots=True)
class ScalarOp:
    """One scalar operation and all its rules.

    ``result(types, target)`` gives the result's type; ``target`` is the type asked of ``cast`` and
    ``bitcast``, and None elsewhere is the operation's own choice. Raises ``ScalarTypeError``.

    ``derivative(args, result)`` gives the partial derivative by each operand (None is zero), as an
    expression of the result's type. ``tangent(args, tangents, result)``, where it is given, is
    used in place of the sum of partials times tangents: it can leave a side of ``select`` out
    altogether, where a product would make NaN of 0 * inf.

    ``evaluate(args, types)`` computes with NumPy arrays in the representation of
    ``scalar.numbers``; ``types`` are those of the operands, then the result's. ``native``
    operations are implemented by every backend; the others are written with native ones by
    ``passes.math`` or are gone before.
    """

    name: str
    arity: int
    result: TypeRule
    derivative: Callable[[Exprs, Expr], Partials]
    evaluate: Evaluation
    sample: Sample
    native: bool = True
    variadic: bool = False
    tangent: Callable[[Exprs, Partials, Expr], Expr | None] | None = None


# ------------------------------------------------------------------------------ type rules


def _one_type(types: tuple[DType, ...]) -> DType:
    if any(t is not types[0] for t in types):
        raise ScalarTypeError(f"operands of one type expected, not {_listed(types)}")
    return types[0]


def _listed(types: tuple[DType, ...]) -> str:
    return " and ".join(str(t) for t in types)


def number(types: tuple[DType, ...], _: DType | None) -> DType:
    """Numbers of one type give that type."""
    if types[0] is DType.BOOL:
        raise ScalarTypeError("a number expected, not bool")
    return _one_type(types)


def floating(types: tuple[DType, ...], _: DType | None) -> DType:
    """Floats of one type give that type."""
    if not types[0].is_float:
        raise ScalarTypeError(f"a float expected, not {types[0]}")
    return _one_type(types)


def whole(types: tuple[DType, ...], _: DType | None) -> DType:
    """Whole numbers of one type give that type."""
    if not types[0].is_int:
        raise ScalarTypeError(f"a whole number expected, not {types[0]}")
    return _one_type(types)


def logical(types: tuple[DType, ...], _: DType | None) -> DType:
    """Truth values, or whole numbers of one type taken bit by bit, give that type."""
    if types[0].is_float:
        raise ScalarTypeError(f"bool or a whole number expected, not {types[0]}")
    return _one_type(types)


def comparison(types: tuple[DType, ...], _: DType | None) -> DType:
    """Two values of one type give a truth value."""
    _one_type(types)
    return DType.BOOL


# ----------------------------------------------------------------------- derivative rules


def flat(args: Exprs, _: Expr) -> Partials:
    """Return zero by every operand: the derivative of what is constant between its jumps."""
    return (None,) * len(args)


# ----------------------------------------------------------------------------- evaluation


def by_numpy(name: str) -> Evaluation:
    """Return the evaluation by the NumPy function of that name."""

    def evaluate(args: Sequence[Array], _: tuple[DType, ...]) -> Array:
        import numpy as np

        return np.asarray(getattr(np, name)(*args))

    return evaluate
