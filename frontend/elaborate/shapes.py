"""Matching declared shapes with actual ones: binds dims, checks arithmetic, joins ``..s``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand
from nnc.frontend.elaborate.faults import Cascade, fault
from nnc.frontend.elaborate.types import broadcast, equal, spell
from nnc.frontend.elaborate.values import POISON, Int, TupleValue, Value, describe, is_poisoned
from nnc.ir.index import Dim, Size, dims_of, exact_div, substitute
from nnc.ir.span import Span

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope


MOST_DIMS = 32
"""Dims of a declared tensor: what NumPy arrays have, and more than anyone needs."""
LARGEST = 1 << 40
"""The largest dim: sizes and offsets in bytes must fit into 64 bits."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The declared dims of one tensor: those before ``..``, its name, and those after."""

    front: tuple[ast.Expr, ...]
    rest: ast.Rest | None
    back: tuple[ast.Expr, ...]
    span: Span

    def __str__(self) -> str:
        middle = [f"..{self.rest.name or ''}"] if self.rest else []
        return f"[{', '.join([*map(text, self.front), *middle, *map(text, self.back)])}]"


def pattern(dims: Iterable[ast.Sub], span: Span) -> Pattern:
    """Split declared dims at their ``..``. Raises Fault where there are two."""
    front: list[ast.Expr] = []
    back: list[ast.Expr] = []
    rest: ast.Rest | None = None
    for d in dims:
        if isinstance(d, ast.Rest):
            if rest is not None:
                raise fault("E0206", "a shape has at most one `..`", d.span, "the second")
            rest = d
        elif isinstance(d, ast.Slice):
            raise fault("E0206", "a slice is not a dim", d.span)
        else:
            (front if rest is None else back).append(d)
    return Pattern(tuple(front), rest, tuple(back), span)


def text(expr: ast.Node) -> str:
    """Return a dim as it was written, as near as matters in a message."""
    match expr:
        case ast.Name(id):
            return id
        case ast.Int(value):
            return str(value)
        case ast.Binary(op, left, right):
            gap = " " if op in ("+", "-") else ""
            return f"{text(left)}{gap}{op}{gap}{text(right)}"
        case ast.Rest(name):
            return f"..{name or ''}"
        case _:
            return "(...)"


@dataclass(slots=True)
class Matcher:
    """Matches several tensors with their declared shapes and binds the dims in ``scope``.

    ``match`` binds dims that stand alone; ``finish`` then checks those that are arithmetic, solves
    for one unknown in them where that goes, and joins what ``..s`` stands for.
    """

    elab: Elaborator
    scope: Scope
    pending: list[tuple[ast.Expr, Size, Operand]] = field(default_factory=list)
    rests: dict[str, list[tuple[tuple[Size, ...], Operand]]] = field(default_factory=dict)

    def match(self, declared: Pattern, shape: Sequence[Size], operand: Operand) -> None:
        """Match one shape. Raises Fault where the ranks or known dims differ."""
        fixed = len(declared.front) + len(declared.back)
        if len(shape) < fixed or (declared.rest is None and len(shape) != fixed):
            at_least = "at least " if declared.rest is not None else ""
            raise fault(
                "E0206",
                f"{operand.text or 'this'} has {len(shape)} dims, not {at_least}{fixed}",
                operand.span,
                describe(operand.value),
                related=[(declared.span, f"declared {declared}")],
                about={"shape": spell(shape), "rank": len(shape), "wanted": fixed},
            )
        cut = len(shape) - len(declared.back)
        ends = [
            *zip(declared.front, shape, strict=False),
            *zip(declared.back, shape[cut:], strict=True),
        ]
        for dim, size in ends:
            self._dim(dim, size, operand)
        if declared.rest is not None and declared.rest.name is not None:
            middle = tuple(shape[len(declared.front) : cut])
            self.rests.setdefault(declared.rest.name, []).append((middle, operand))

    def _dim(self, dim: ast.Expr, size: Size, operand: Operand) -> None:
        if isinstance(dim, ast.Name) and self._bound(dim.id) is None:
            self.scope.bind(ast.Ident(dim.id, span=dim.span), Int(size), "dim")
        elif isinstance(dim, ast.Name):
            self._check(dim, size, operand)
        else:
            self.pending.append((dim, size, operand))

    def _bound(self, name: str) -> Value | None:
        found = self.scope.names.get(name)
        return found.value if found is not None else None

    def _check(self, dim: ast.Expr, size: Size, operand: Operand) -> None:
        wanted = self.elab.evaluate(dim, self.scope)
        if is_poisoned(wanted):
            raise Cascade
        if not isinstance(wanted, Int):
            raise fault("E0206", f"{text(dim)} is not a size", dim.span, describe(wanted))
        if not equal(wanted.size, size, self.elab.facts):
            mismatch(self.scope, dim, wanted.size, size, operand)

    def finish(self) -> dict[str, tuple[Size, ...]]:
        """Settle what ``match`` left; return the shape that each named ``..s`` stands for."""
        for dim, size, operand in self.pending:
            unknown = [
                n.id for n in ast.walk(dim) if isinstance(n, ast.Name) and self._bound(n.id) is None
            ]
            if len(set(unknown)) == 1:
                self._solve(dim, unknown[0], size, operand)
            else:
                self._check(dim, size, operand)
        self.pending.clear()
        return {name: self._join(name, found) for name, found in self.rests.items()}

    def _solve(self, dim: ast.Expr, name: str, size: Size, operand: Operand) -> None:
        """Bind the one unknown of an arithmetic dim from the size it must come to."""
        from nnc.frontend.elaborate.scope import Binding

        probe = Dim(f"?{name}")
        self.scope.names[name] = Binding(Int(probe.as_poly()), dim.span, "dim")
        try:
            value = self.elab.evaluate(dim, self.scope)
        finally:
            del self.scope.names[name]
        if not isinstance(value, Int):
            raise fault("E0206", f"{text(dim)} is not a size", dim.span, describe(value))
        constant = substitute(value.size, {probe: 0})
        slope = substitute(value.size, {probe: 1}) - constant
        if value.size != constant + slope * probe.as_poly() or probe.name in dims_of(slope):
            raise fault(
                "E0207", f"the dim {name} cannot be told from {text(dim)}", dim.span,
                hint="let some parameter have it as a dim of its own",
            )  # fmt: skip
        found = exact_div(size - constant, slope)
        if found is None:
            mismatch(self.scope, dim, value.size, size, operand)
        self.scope.bind(ast.Ident(name, span=dim.span), Int(found), "dim")

    def _join(self, name: str, found: list[tuple[tuple[Size, ...], Operand]]) -> tuple[Size, ...]:
        known = self._bound(name)
        joint: tuple[Size, ...] | None = found[0][0]
        if isinstance(known, TupleValue):
            joint = tuple(i.size for i in known.items if isinstance(i, Int))
        for shape, operand in found if known is not None else found[1:]:
            together = broadcast(joint, shape, self.elab.facts) if joint is not None else None
            if together is None:
                raise fault(
                    "E0204",
                    f"what ..{name} stands for does not go together",
                    operand.span,
                    f"{spell(shape)} here",
                    related=[(found[0][1].span, f"{spell(found[0][0])} here")],
                )
            joint = together
        assert joint is not None
        if known is None:
            span = found[0][1].span
            value = TupleValue(tuple(Int(size) for size in joint))
            self.scope.bind(ast.Ident(name, span=span), value, "dim")
        return joint


def mismatch(scope: Scope, dim: ast.Expr, wanted: Size, found: Size, operand: Operand) -> NoReturn:
    """Raise the fault for a dim that is not what it must be."""
    related: list[tuple[Span | None, str]] = [(dim.span, f"{text(dim)} must be {wanted}")]
    if isinstance(dim, ast.Name):
        bound = scope.names.get(dim.id)
        if bound is not None and bound.span != dim.span:
            related.append((bound.span, f"{dim.id} is {wanted} by this"))
    symbolic = bool(dims_of(wanted - found))
    raise fault(
        "E0206",
        f"the dim {text(dim)} is {wanted} and {found} at once",
        operand.span,
        f"{operand.text}: {describe(operand.value)}" if operand.text else describe(operand.value),
        related=related,
        hint=f"if every call has them equal, say so: require {wanted} == {found}"
        if symbolic and "?" not in str(wanted)
        else None,
        about={"one": wanted, "two": found, "require": f"{wanted} == {found}"},
    )


def declared_shape(elab: Elaborator, scope: Scope, declared: Pattern) -> tuple[Size, ...]:
    """Return a declared shape all of whose dims are known. Raises Fault where one is not."""
    front = [known_dim(elab, scope, d) for d in declared.front]
    back = [known_dim(elab, scope, d) for d in declared.back]
    shape = (*front, *known_rest(scope, declared.rest), *back)
    if len(shape) > MOST_DIMS:
        limit = f"at most {MOST_DIMS}"
        raise fault("E0211", f"a tensor of {len(shape)} dims", declared.span, limit)
    return shape


def known_rest(scope: Scope, rest: ast.Rest | None) -> tuple[Size, ...]:
    """Return the dims that ``..s`` stands for; raise Fault where they are not known."""
    if rest is None:
        return ()
    bound = scope.find(rest.name) if rest.name is not None else None
    if bound is None or not isinstance(bound.value, TupleValue):
        raise fault(
            "E0207", f"what {text(rest)} stands for is not known here", rest.span, "which dims?"
        )
    return tuple(i.size for i in bound.value.items if isinstance(i, Int))


def known_dim(elab: Elaborator, scope: Scope, dim: ast.Expr) -> Size:
    """Return the size that a dim comes to. Raises Fault where a name in it is unknown."""
    if isinstance(dim, ast.Name) and scope.find(dim.id) is None:
        raise scope.unknown(dim.id, dim.span, "dim")
    value = elab.evaluate(dim, scope)
    if is_poisoned(value):
        raise Cascade
    if not isinstance(value, Int):
        raise fault("E0206", f"{text(dim)} is not a size", dim.span, describe(value))
    if isinstance(value.size, int) and not 0 <= value.size <= LARGEST:
        if isinstance(dim, ast.Name) and dim.id in scope.home.names:
            from nnc.frontend.elaborate.scope import Binding

            # what else of this body has the dim is not at fault
            scope.home.names[dim.id] = Binding(POISON, dim.span)
        limit = "at least 0" if value.size < 0 else f"at most {LARGEST}"
        raise fault("E0211", f"a dim of {value.size}", dim.span, f"a size is {limit}")
    return value.size
