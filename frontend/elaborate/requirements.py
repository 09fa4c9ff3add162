"""``require``: decided at compile time where it can be, else checked first at each call."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd, lcm
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import varies_over_box
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.operators import truth
from nnc.frontend.elaborate.values import Bool, Element, Poison, describe
from nnc.ir import build
from nnc.ir.expr import Apply, Const, Expr, Position, sizes_in
from nnc.ir.index import Dim, Mod, Poly, counters_of
from nnc.ir.model import Requirement
from nnc.ir.prove import assumptions

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope


def require(elab: Elaborator, scope: Scope, statement: ast.Require) -> None:
    """Run ``require condition, "message"``. Raises Fault where it does not hold."""
    condition = elab.operand(statement.condition, scope)
    truth(condition)
    said = statement.message.value if statement.message is not None else None
    match condition.value:
        case Poison() | Bool(True):
            return
        case Bool(False):
            raise fault(
                "E0212",
                said or "what is required does not hold",
                statement.condition.span,
                "required here",
            )
        case Element(expr) if not varies_over_box(expr):
            if any(counters_of(size) for size in sizes_in(expr)):
                raise fault("E0241", "require cannot tell of the turn of a scan",
                            statement.condition.span, "not the same in each turn")  # fmt: skip
            facts = assumptions(expr)
            value = build.form((), (), expr, (), (), span=statement.span)
            message = said or "a requirement does not hold"
            requirement = Requirement(value, message, facts, statement.span)
            elab.requirements.append(requirement)
            elab.facts = elab.facts.assume(facts)
            for name, by in multiples(expr):
                elab.multiples[name] = lcm(elab.multiples.get(name, 1), by)
                elab.dividing.append(requirement)
        case value:
            raise fault(
                "E0213",
                "require is about sizes and config, which are known before there is data",
                statement.condition.span,
                f"this is {describe(value)}",
            )


def multiples(expr: Expr) -> Iterator[tuple[str, int]]:
    """Yield the symbolic dims that a condition says to be multiples of a number."""
    match expr:
        case Apply("and", (a, b)):
            yield from multiples(a)
            yield from multiples(b)
        case Apply("eq", (Position(Poly() as left), Const(0))) | Apply(
            "eq", (Const(0), Position(Poly() as left))
        ):
            match left.terms:
                case ((((Mod(Poly() as inner, by),), 1)),):
                    yield from _single(inner, by)


def _single(value: Poly, by: int) -> Iterator[tuple[str, int]]:
    match value.terms:
        case ((((Dim(name),), factor)),):
            yield name, by // gcd(by, factor)
