"""Rewriting of scalar expressions by rows of (pattern, result).

Patterns are written as Python expressions: operators and calls are scalar operations, lower-case
names stand for any expression (the same name for equal ones), names in capitals for a literal, and
numbers for themselves, the sign of zero included. Commutative operations match either way.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

from nnc.ir.expr import Apply, Const, Expr, Number
from nnc.ir.scalar import make
from nnc.ir.types import DType

COMMUTATIVE = frozenset({"add", "mul", "eq", "ne", "and", "or", "xor"})
"""To the bit: ``max`` and ``min`` are not, of zeros of two signs."""
_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.And: "and",
    ast.Or: "or",
    ast.Not: "not",
    ast.USub: "neg",
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}
Bound: TypeAlias = dict[str, Expr]


@dataclass(frozen=True, slots=True)
class Anything:
    """Matches any expression, or with ``literal`` any literal, under a name."""

    name: str
    literal: bool


@dataclass(frozen=True, slots=True)
class Exactly:
    """Matches a literal of this value."""

    value: Number


@dataclass(frozen=True, slots=True)
class Applied:
    """Matches an operation whose operands match."""

    op: str
    args: tuple[Pattern, ...]


Pattern: TypeAlias = Union[Anything, Exactly, Applied]  # noqa: UP007 - Applied refers to Pattern


def pattern(text: str) -> Pattern:
    """Read a pattern. Raises ValueError for syntax that patterns do not have."""
    return _pattern(ast.parse(text, mode="eval").body)


def _pattern(tree: ast.expr) -> Pattern:
    match tree:
        case ast.Name(name):
            return Anything(name, name.isupper())
        case ast.Constant(bool() | int() | float() as value):
            return Exactly(value)
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
            return Exactly(-value)
        case ast.UnaryOp(op, operand):
            return Applied(_OPERATORS[type(op)], (_pattern(operand),))
        case ast.BinOp(left, op, right):
            return Applied(_OPERATORS[type(op)], (_pattern(left), _pattern(right)))
        case ast.BoolOp(op, [left, right]):
            return Applied(_OPERATORS[type(op)], (_pattern(left), _pattern(right)))
        case ast.Compare(left, [op], [right]):
            return Applied(_OPERATORS[type(op)], (_pattern(left), _pattern(right)))
        case ast.Call(ast.Name(name), args):
            return Applied(name, tuple(_pattern(a) for a in args))
    raise ValueError(f"no pattern: {ast.unparse(tree)}")


def match_pattern(p: Pattern, e: Expr, bound: Bound) -> Bound | None:
    """Return ``bound`` extended by what ``p`` binds in ``e``, or None where it does not match."""
    match p:
        case Anything(name, literal):
            if literal and not isinstance(e, Const):
                return None
            if name in bound:
                return bound if bound[name] == e else None
            return {**bound, name: e}
        case Exactly(value):
            return bound if isinstance(e, Const) and _same_number(e.value, value) else None
        case Applied(op, args):
            if not isinstance(e, Apply) or e.op != op or len(args) != len(e.args):
                return None
            return _match_args(args, e, bound)


def _match_args(args: Sequence[Pattern], e: Apply, bound: Bound) -> Bound | None:
    orders = [e.args]
    if e.op in COMMUTATIVE:
        orders.append(e.args[::-1])
    for order in orders:
        found: Bound | None = bound
        for p, arg in zip(args, order, strict=True):
            found = None if found is None else match_pattern(p, arg, found)
        if found is not None:
            return found
    return None


def _same_number(a: Number, b: Number) -> bool:
    return a == b and math.copysign(1, a) == math.copysign(1, b)


def build(p: Pattern, bound: Mapping[str, Expr], dtype: DType) -> Expr:
    """Build the expression that a result pattern describes; its literals are of ``dtype``."""
    match p:
        case Anything(name):
            return bound[name]
        case Exactly(value):
            return Const(value, dtype)
        case Applied(op, args):
            return make.apply(op, *(build(a, bound, dtype) for a in args))


Kind: TypeAlias = str
_KINDS: dict[Kind, Callable[[DType], bool]] = {
    "any": lambda d: True,
    "float": lambda d: d.is_float,
    "int": lambda d: d.is_int,
    "bool": lambda d: d is DType.BOOL,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A row: ``left`` becomes ``right`` where the first operand's type is of the kind ``on``.

    ``right`` is a pattern, or a function of what ``left`` binds (None: the rule does not apply).
    ``why`` gives the algebra where it is not plain.
    """

    left: str
    right: str | Callable[[Mapping[str, Expr]], Expr | None]
    on: Kind = "any"
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    left: Applied
    right: Pattern | Callable[[Mapping[str, Expr]], Expr | None]

    def __call__(self, e: Apply) -> Expr | None:
        if not _KINDS[self.rule.on](e.args[0].dtype):
            return None
        bound = match_pattern(self.left, e, {})
        if bound is None:
            return None
        if isinstance(self.right, Anything | Exactly | Applied):
            return build(self.right, bound, e.dtype)
        return self.right(bound)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules by the operation at their root, tried in order."""

    by_op: Mapping[str, tuple[_Compiled, ...]]

    @staticmethod
    def of(rules: Sequence[Rule]) -> RuleSet:
        """Compile rows. Raises ValueError for a pattern that is no operation."""
        by_op: dict[str, tuple[_Compiled, ...]] = {}
        for rule in rules:
            left = pattern(rule.left)
            if not isinstance(left, Applied):
                raise ValueError(f"{rule.left} is no operation")
            right = pattern(rule.right) if isinstance(rule.right, str) else rule.right
            by_op[left.op] = (*by_op.get(left.op, ()), _Compiled(rule, left, right))
        return RuleSet(by_op)

    def step(self, e: Apply) -> Expr | None:
        """Apply the first rule that fits the root of ``e``; None where none does."""
        for compiled in self.by_op.get(e.op, ()):
            result = compiled(e)
            if result is not None:
                return result
        return None


def rewrite(expr: Expr, step: Callable[[Expr], Expr | None]) -> Expr:
    """Rewrite bottom-up: ``step`` is tried at each node until it has nothing more to change.

    What a step returns is rewritten again, so steps must make their operand simpler.
    """
    memo: dict[Expr, Expr] = {}

    def go(e: Expr) -> Expr:
        done = memo.get(e)
        if done is None:
            done = e
            if isinstance(e, Apply):
                args = tuple(go(a) for a in e.args)
                if any(a is not b for a, b in zip(args, e.args, strict=True)):
                    done = Apply(e.op, args, e.dtype)
            changed = step(done)
            if changed is not None and changed != done:
                done = go(changed)
            memo[e] = done
        return done

    return go(expr)
