"""Small tools on loop expressions: building, rewriting, and asking what they depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from nnc.ir.expr import Const, Position
from nnc.ir.index import Atom, Size, axes_of, substitute
from nnc.ir.loops import Expr, Fold, Load, Local, Op
from nnc.ir.types import DType

TRUE = Const(True, DType.BOOL)


def op(name: str, *args: Expr, dtype: DType | None = None) -> Op:
    """Apply ``name``; the result has the first operand's type where ``dtype`` is not given."""
    return Op(name, args, args[0].dtype if dtype is None else dtype)


def compare(name: str, a: Size, b: Size) -> Expr:
    """Compare two sizes."""
    return op(name, position(a), position(b), dtype=DType.BOOL)


def position(size: Size, dtype: DType = DType.I64) -> Expr:
    """Return the whole number that ``size`` comes to, as a value."""
    return Const(size, dtype) if isinstance(size, int) else Position(size, dtype)


def cast(value: Expr, dtype: DType) -> Expr:
    """Convert ``value``, where it is not of that type already."""
    if value.dtype is dtype:
        return value
    if isinstance(value, Position) and value.dtype is DType.I64 and dtype.is_int:
        return Position(value.index, dtype)
    return op("cast", value, dtype=dtype)


def conjunction(*conditions: Expr | None) -> Expr | None:
    """All of ``conditions``; None stands for true."""
    kept = [c for c in dict.fromkeys(conditions) if c is not None and c != TRUE]
    if not kept:
        return None
    result = kept[0]
    for condition in kept[1:]:
        result = op("and", result, condition)
    return result


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside ``expr``."""
    match expr:
        case Op(_, args):
            return args
        case Load(mask=mask, other=other):
            return tuple(e for e in (mask, other) if e is not None)
        case Fold(_, value):
            return (value,)
    return ()


def walk(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every distinct subexpression of ``roots`` once, operands before their users."""
    seen: set[Expr] = set()
    for root in roots:
        stack: list[tuple[Expr, bool]] = [(root, False)]
        while stack:
            e, ready = stack.pop()
            if e in seen:
                continue
            if ready or not children(e):
                seen.add(e)
                yield e
            else:
                stack.append((e, True))
                stack.extend((c, False) for c in reversed(children(e)))


def rewrite(
    expr: Expr,
    sizes: Callable[[Size], Size],
    load: Callable[[Load], Expr] = lambda e: e,
    memo: dict[Expr, Expr] | None = None,
) -> Expr:
    """Change every subscript by ``sizes``, then every load by ``load``, from the leaves up."""
    done: dict[Expr, Expr] = {} if memo is None else memo
    if expr in done:
        return done[expr]
    for e in walk([expr]):
        if e not in done:
            done[e] = _rebuilt(e, done, sizes, load)
    return done[expr]


def _rebuilt(
    e: Expr,
    done: Mapping[Expr, Expr],
    sizes: Callable[[Size], Size],
    load: Callable[[Load], Expr],
) -> Expr:
    match e:
        case Op(name, args, dtype):
            return Op(name, tuple(done[a] for a in args), dtype)
        case Load(index=index, mask=mask, other=other):
            return load(
                replace(
                    e,
                    index=tuple(sizes(i) for i in index),
                    mask=None if mask is None else done[mask],
                    other=None if other is None else done[other],
                )
            )
        case Position(index, dtype):
            return position(sizes(index), dtype)
        case Fold(name, value, dtype):
            return Fold(name, done[value], dtype)
    return e


def renamed(expr: Expr, env: Mapping[Atom, Size]) -> Expr:
    """Replace axes by sizes everywhere in ``expr``."""
    return rewrite(expr, lambda s: substitute(s, env)) if env else expr


def sizes_of(expr: Expr) -> Iterator[Size]:
    """Every subscript in ``expr``."""
    for e in walk([expr]):
        match e:
            case Position(index):
                yield index
            case Load(index=index):
                yield from index
            case _:
                pass


@lru_cache(maxsize=1 << 14)
def loads_of(expr: Expr) -> tuple[Load, ...]:
    """Every distinct load in ``expr``. Fusion asks this of the same few stages again and again."""
    return tuple(e for e in walk([expr]) if isinstance(e, Load))


def mentions(expr: Expr, axis: str) -> bool:
    """Whether ``expr`` depends on ``axis`` through some subscript."""
    return any(axis in axes_of(s) for s in sizes_of(expr))


def locals_of(expr: Expr) -> frozenset[str]:
    """Names of the bound values that ``expr`` uses."""
    return frozenset(e.name for e in walk([expr]) if isinstance(e, Local))
