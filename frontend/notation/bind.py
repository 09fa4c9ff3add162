"""Where indices are bound: the left-hand side of a definition, the bracket of a reduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.scope import Binding, Scope
from nnc.frontend.elaborate.values import Element, Int, Value, describe
from nnc.frontend.notation.box import Box, Level, Rest, Session
from nnc.frontend.notation.exact import as_size
from nnc.ir.index import Size, axes_of
from nnc.ir.span import Span

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator

KINDS = {"dim": "a dim", "config": "config", "index": "an index"}


@dataclass(frozen=True, slots=True)
class Place:
    """One subscript of a left-hand side: ``value``, or the dims of ``rest``.

    ``size`` is that dim's size where it is written: ``y[2*i + u < n]``.
    """

    span: Span
    value: Size = 0
    rest: Rest | None = None
    size: Size | None = None


@dataclass(slots=True)
class Binder:
    """Collects the indices that one bracket binds."""

    elab: Elaborator
    scope: Scope
    session: Session
    level: Level
    names: dict[str, Binding]
    rests: dict[str, Rest]

    def index(self, name: ast.Name, bound: ast.Expr | None = None) -> None:
        """Bind an index, with its range where one is written."""
        taken = self.names.get(name.id)
        if taken is not None:
            self._twice(name, bound, taken)
            return
        outer = self.scope.find(name.id)
        if outer is not None and outer.kind in KINDS:
            kind = KINDS[outer.kind]
            if outer.kind == "index" and isinstance(outer.value, Int) and not outer.value.is_index:
                kind = "a loop variable"
            raise fault(
                "E0303",
                f"the index {name.id} would hide {kind}",
                name.span,
                "bound here as an index",
                related=[(outer.span, f"{name.id} is {kind} here")],
                hint="give the index another name",
            )
        made = self.session.index(name.id, name.span)
        self.level.slots.append(made)
        self.names[name.id] = Binding(Int(made.poly), name.span, "index")
        if bound is not None:
            made.extent = self.extent(bound)
            made.source = (bound.span, f"its range is written here: {bound_text(made.extent)}")

    def _twice(self, name: ast.Name, bound: ast.Expr | None, first: Binding) -> None:
        found = next(i for i in self.level.indices() if i.text == name.id)
        if bound is None:
            return
        if found.extent is not None:
            raise fault(
                "E0302",
                f"the range of {name.id} is written twice",
                bound.span,
                "again here",
                related=[(first.span, "bound here")],
            )
        found.extent = self.extent(bound)
        found.source = (bound.span, f"its range is written here: {bound_text(found.extent)}")

    def extent(self, bound: ast.Expr) -> Size:
        """Evaluate a written bound: a whole number free of indices and data."""
        value = self.elab.evaluate(bound, self.scope)
        if not isinstance(value, Int):
            raise fault(
                "E0309",
                "the end of a range must be a whole number known in sizes",
                bound.span,
                f"this is {describe(value)}",
                hint="a range that depends on data is a filter: sum[j where j < n](...)",
            )
        if axes_of(value.size):
            raise fault(
                "E0309",
                "the end of a range cannot depend on an index",
                bound.span,
                "this varies",
                hint="use a filter: sum[j where j < ...](...)",
            )
        return value.size

    def rest(self, sub: ast.Rest) -> Rest:
        """Bind ``..``."""
        name = sub.name or ""
        if name in self.rests:
            raise fault(
                "E0310",
                "`..` stands twice in one bracket",
                sub.span,
                "again here",
                related=[(self.rests[name].span, "first here")],
                hint="give each a name: ..a and ..b",
            )
        made = self.rests[name] = Rest(f"..{name}", sub.span)
        self.level.slots.append(made)
        return made

    def open(self, box: Box) -> Scope:
        """The scope of the expression that the indices range over."""
        return self.scope.inside(box.within(self.level, self.rests), self.names)


def binder(elab: Elaborator, scope: Scope, session: Session, span: Span) -> Binder:
    """Begin to bind indices in a new level of ``session``."""
    level = Level(span)
    session.levels.append(level)
    return Binder(elab, scope, session, level, {}, {})


def bind_reduction(names: Binder, subs: Sequence[ast.Sub], kind: str) -> None:
    """Bind ``[i, j < n, ..]`` of a reduction."""
    for sub in subs:
        match sub:
            case ast.Name():
                names.index(sub)
            case ast.Compare((ast.Name() as name, bound), ("<",)):
                names.index(name, bound)
            case ast.Rest():
                names.rest(sub)
            case _:
                raise fault(
                    "E0309",
                    f"{kind} binds indices: a name, or a name and its range",
                    sub.span,
                    "neither of these",
                    hint=f"write {kind}[i](...) or {kind}[i < n](...); "
                    "a condition goes after where",
                )


def bind_left(names: Binder, subs: Sequence[ast.Sub], box: Box) -> tuple[Place, ...]:
    """Bind the indices of a left-hand side and return what is stored where."""
    for sub in subs:
        match sub:
            case ast.Name():
                names.index(sub)
            case ast.Compare((ast.Name() as name, bound), ("<",)):
                names.index(name, bound)
            case ast.Rest():
                names.rest(sub)
            case ast.Slice():
                raise fault(
                    "E0309",
                    "a slice cannot stand on the left",
                    sub.span,
                    "the left-hand side names an index for each dim",
                    hint="write the range of an index: x[i < n] = ...",
                )
            case _:
                _bind_inside(names, sub)
    inside = names.open(box)
    return tuple(_place(names, inside, sub) for sub in subs)


def _is_number(names: Binder, name: ast.Name) -> bool:
    found = names.scope.find(name.id)
    if name.id in names.names or found is None:
        return False
    return found.kind in KINDS or isinstance(found.value, Int)


def _bind_inside(names: Binder, sub: ast.Node) -> None:
    """Bind the names in ``2*i + u`` that are no numbers."""
    if isinstance(sub, ast.Compare):
        if sub.ops != ("<",):
            raise fault(
                "E0309",
                "a range is written i < n",
                sub.span,
                "this is another comparison",
            )
        sub = sub.operands[0]
    parts = list(ast.walk(sub))
    read = {p.base for p in parts if isinstance(p, ast.Subscript)}
    called = {p.func for p in parts if isinstance(p, ast.Call)}
    for part in parts:
        match part:
            case ast.Name() if part not in read | called and not _is_number(names, part):
                names.index(part)


def _place(names: Binder, inside: Scope, sub: ast.Sub) -> Place:
    match sub:
        case ast.Rest(name):
            return Place(sub.span, rest=names.rests[name or ""])
        case ast.Compare((ast.Name() as name, _), ("<",)) if name.id in names.names:
            return Place(sub.span, whole(names.elab, inside, name))
        case ast.Compare((part, bound)):
            return Place(sub.span, whole(names.elab, inside, part), size=names.extent(bound))
        case _:
            assert not isinstance(sub, ast.Slice)
            return Place(sub.span, whole(names.elab, inside, sub))


def whole(elab: Elaborator, scope: Scope, expr: ast.Expr) -> Size:
    """Evaluate a subscript of a left-hand side."""
    value: Value = elab.evaluate(expr, scope)
    match value:
        case Int(size):
            return size
        case Element(made) if as_size(made) is not None:
            raise fault(
                "E0312",
                "where an element is stored cannot depend on data",
                expr.span,
                "this is read from a tensor",
                hint="say it the other way round: y[v < n] = sum[e where ids[e] == v](x[e])",
            )
        case _:
            raise fault(
                "E0308",
                "a subscript must be a whole number",
                expr.span,
                f"this is {describe(value)}",
            )


def bound_text(extent: Size) -> str:
    """Say what a range is."""
    return f"0 to {extent - 1}"
