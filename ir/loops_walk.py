"""The parts of loop statements and expressions, and their replacement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from nnc.ir.loops import Call, Cell, Check, Expr, Fold, For, If, Let, Load, Op, Stmt, Store


def parts(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside one."""
    match expr:
        case Op(_, args):
            return args
        case Load(mask=mask, other=other):
            return tuple(e for e in (mask, other) if e is not None)
        case Fold(_, value):
            return (value,)
        case _:
            return ()


def with_parts(expr: Expr, new: Sequence[Expr]) -> Expr:
    """``expr`` with its parts replaced, in the order of ``parts``."""
    match expr:
        case Op(name, _, dtype):
            return Op(name, tuple(new), dtype)
        case Load(mask=mask, other=other):
            rest = iter(new)
            mask = None if mask is None else next(rest)
            return replace(expr, mask=mask, other=None if other is None else next(rest))
        case Fold():
            return replace(expr, value=new[0])
        case _:
            return expr


def walk(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every expression object that ``roots`` reach, once each, parts before their user.

    Without recursion: bodies may be deep. Equal expressions that are two objects come twice.
    """
    seen: set[int] = set()
    for root in roots:
        stack = [root]
        while stack:
            expr = stack[-1]
            missing = [p for p in parts(expr) if id(p) not in seen]
            if id(expr) not in seen and missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            if id(expr) not in seen:
                seen.add(id(expr))
                yield expr


def statements(body: Iterable[Stmt]) -> Iterator[Stmt]:
    """Every statement of a body, those inside others too, outer ones first."""
    for stmt in body:
        yield stmt
        for block in blocks(stmt):
            yield from statements(block)


def blocks(stmt: Stmt) -> tuple[tuple[Stmt, ...], ...]:
    """The bodies directly inside a statement."""
    match stmt:
        case For(body=body):
            return (body,)
        case If(then=then, otherwise=otherwise):
            return (then, otherwise)
        case _:
            return ()


def expressions(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions of a statement itself."""
    match stmt:
        case If(condition):
            return (condition,)
        case Let(_, value):
            return (value,)
        case Cell(init=init) if init is not None:
            return (init,)
        case Store(value=value, mask=mask):
            return (value,) if mask is None else (value, mask)
        case Check(ok=ok, value=value):
            return (ok, value)
        case _:
            return ()


def with_expressions(stmt: Stmt, new: Sequence[Expr]) -> Stmt:
    """``stmt`` with its expressions replaced, in the order of ``expressions``."""
    if not new:
        return stmt
    match stmt:
        case If():
            return replace(stmt, condition=new[0])
        case Let():
            return replace(stmt, value=new[0])
        case Cell():
            return replace(stmt, init=new[0])
        case Store(mask=mask):
            return replace(stmt, value=new[0], mask=None if mask is None else new[1])
        case Check():
            return replace(stmt, ok=new[0], value=new[1])
        case _:
            return stmt


def bound_names(body: Iterable[Stmt]) -> set[str]:
    """The names of all axes, cells and values that a body binds."""
    return {s.name if not isinstance(s, For) else s.axis for s in statements(body)
            if isinstance(s, Let | Cell | For)}  # fmt: skip


def called(body: Iterable[Stmt]) -> set[str]:
    """The names of the functions that a body calls."""
    return {s.function for s in statements(body) if isinstance(s, Call)}


@dataclass(slots=True)
class Numbering:
    """Numbers the distinct expressions of a statement, operands first.

    It compares expressions part by part through their numbers: ``==`` on two graphs with much
    sharing takes exponential time. ``parts[k]`` numbers the parts of ``exprs[k]``. ``seen`` goes
    by identity: the roots must be kept while the numbering is in use.
    """

    exprs: list[Expr] = field(default_factory=list)
    parts: list[tuple[int, ...]] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    known: dict[tuple[object, ...], int] = field(default_factory=dict)

    def number(self, root: Expr) -> int:
        """The number of ``root``."""
        for expr in walk([root]):
            if id(expr) not in self.seen:
                self.seen[id(expr)] = self._add(expr)
        return self.seen[id(root)]

    def _add(self, expr: Expr) -> int:
        inner = tuple(self.seen[id(p)] for p in parts(expr))
        key = (*_shape(expr), inner)
        if key not in self.known:
            self.known[key] = len(self.exprs)
            self.exprs.append(expr)
            self.parts.append(inner)
        return self.known[key]


def _shape(expr: Expr) -> tuple[object, ...]:
    """What an expression is, beside its parts."""
    match expr:
        case Op(name, _, dtype):
            return "op", name, dtype
        case Load(source, index, dtype, mask, other):
            return "load", source, index, dtype, mask is None, other is None
        case Fold(op, _, dtype):
            return "fold", op, dtype
        case _:
            return (expr,)
