"""The state of one statement of index notation while its expression is evaluated.

A statement is evaluated once, before the ranges of its indices are known: reads only note what
they subscript. When all of it has been seen, ``ranges`` settles each index's range, ``check``
proves every read inside, and ``emit`` makes the forms. Until then a reduction is a ``Reduction``
that reads as an element: it becomes a node of its own over just the indices it depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, Union

from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.values import Element
from nnc.frontend.notation.exact import axes_in, exact
from nnc.ir.expr import Expr, Loaded, Read, loads_in
from nnc.ir.graph import Node
from nnc.ir.index import Axis, Poly, Size, axes_of, axis
from nnc.ir.prove import Facts
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


@dataclass(slots=True, eq=False)
class Index:
    """An index variable. ``extent`` is None until it is written or inferred.

    ``axis`` is its name in subscripts, different from all others of the statement; ``source``
    tells where the range comes from.
    """

    text: str
    axis: str
    span: Span
    extent: Size | None = None
    source: tuple[Span, str] | None = None

    @property
    def poly(self) -> Poly:
        """The index as a subscript."""
        return axis(self.axis)


@dataclass(slots=True, eq=False)
class Rest:
    """The indices that ``..`` stands for, from the last one backwards.

    Reads align at their last dims, so each read makes as many as it needs.
    """

    text: str
    span: Span
    indices: list[Index] = field(default_factory=list)

    def forwards(self) -> list[Index]:
        """The indices in the order of the dims."""
        return self.indices[::-1]


Slot: TypeAlias = Union[Index, Rest]  # noqa: UP007 - matched at run time


@dataclass(slots=True, eq=False)
class Level:
    """What binds indices: the left-hand side of a definition, or a reduction."""

    span: Span
    slots: list[Slot] = field(default_factory=list)

    def indices(self) -> list[Index]:
        """All indices bound here, in order, those of ``..`` in its place."""
        found: list[Index] = []
        for slot in self.slots:
            found.extend(slot.forwards() if isinstance(slot, Rest) else [slot])
        return found


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds (or does not) wherever an expression is used.

    ``filter`` is the level whose ``where`` says so, None for ``if``, ``and`` and ``or``.
    """

    expr: Expr
    holds: bool
    filter: Level | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """How a subscript is written: ``bare`` is an index by itself, so ``j - 0`` is not."""

    span: Span
    bare: bool


@dataclass(frozen=True, slots=True)
class Use:
    """A read as written: which element, under which conditions, and how each part is written."""

    read: Read
    node: Node
    level: Level
    conditions: tuple[Condition, ...]
    span: Span
    text: str
    written: tuple[Written, ...]

    @property
    def sure(self) -> tuple[Condition, ...]:
        """The conditions that hold at every point at which the read is computed."""
        return tuple(c for c in self.conditions if c.filter is self.level)


@dataclass(slots=True, eq=False)
class Reduction:
    """A reduction within the statement: a tensor over ``deps``, the outer axes it depends on."""

    kind: str
    level: Level
    body: Expr
    where: Expr | None
    dtype: DType
    deps: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Gather:
    """A read of data-dependent place in one side of an ``if``: must not fault on the other."""

    use: Use
    deps: tuple[str, ...]

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.use.read.dtype


@dataclass(slots=True, eq=False)
class Computed:
    """Whole numbers used in a subscript that are neither affine nor read: a tensor of their own."""

    body: Expr
    deps: tuple[str, ...]

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.body.dtype


Pending: TypeAlias = Union[Reduction, Gather, Computed]  # noqa: UP007
Source: TypeAlias = Union[Node, Pending]  # noqa: UP007


@dataclass(slots=True, eq=False)
class Session:
    """One statement of index notation, or one reduction outside of any."""

    elab: Elaborator
    taken: set[str]
    operands: dict[int, Source] = field(default_factory=dict)
    numbers: dict[Source, int] = field(default_factory=dict)
    indices: dict[str, Index] = field(default_factory=dict)
    levels: list[Level] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    gathers: list[Gather] = field(default_factory=list)
    start: int = 0

    @property
    def facts(self) -> Facts:
        """What is known of sizes, and the ranges of all indices that have one."""
        ranges = ((i.axis, i.extent) for i in self.indices.values() if i.extent is not None)
        return self.elab.facts.with_axes(ranges)

    def number(self, source: Source) -> int:
        """The operand number of a tensor; numbers of nested statements never meet."""
        found = self.numbers.get(source)
        if found is None:
            found = self.numbers[source] = self.start + len(self.operands)
            self.operands[found] = source
        return found

    def index(self, text: str, span: Span, name: str = "") -> Index:
        """Make an index; its axis is ``name`` or ``text``, with a number where that is taken."""
        base = name or text
        unique, k = base, 2
        while unique in self.taken:
            unique, k = f"{base}_{k}", k + 1
        self.taken.add(unique)
        made = self.indices[unique] = Index(text, unique, span)
        return made

    def rest_index(self, rest: Rest, k: int) -> Index:
        """The index ``k`` dims before the last one of ``rest``."""
        while len(rest.indices) <= k:
            number = len(rest.indices)
            name = (rest.text.strip(".") or "rest") + str(number)
            rest.indices.append(self.index(rest.text, rest.span, name))
        return rest.indices[k]

    def order(self, axes: Iterable[str], span: Span) -> tuple[str, ...]:
        """Sort axes as they were bound, outermost first.

        Raises Fault where one belongs to another statement.
        """
        wanted = frozenset(axes)
        bound = [i.axis for level in self.levels for i in level.indices()]
        if not wanted <= set(bound):
            raise foreign(span)
        return tuple(a for a in bound if a in wanted)

    def element(self, pending: Pending) -> Element:
        """Return a pending tensor as an element at the current point."""
        index = tuple(axis(a) for a in pending.deps)
        return Element(Read(self.number(pending), index, pending.dtype))

    def spell(self, size: Size) -> str:
        """Write a subscript with the names that the program uses."""
        text = str(size)
        for index in sorted(self.indices.values(), key=lambda i: -len(i.axis)):
            text = text.replace(f"${index.axis}", index.text)
        for load in loads_in(size):
            text = text.replace(load.key, self.name(load))
        return text

    def name(self, load: Loaded) -> str:
        """What to call an integer read from data."""
        source = self.operands.get(load.read.operand)
        inside = ", ".join(self.spell(i) for i in load.read.index)
        return f"{(source.name if isinstance(source, Node) else '') or 'data'}[{inside}]"


def foreign(span: Span) -> Exception:
    """Return the fault for a tensor inside a point of another one."""
    return fault(
        "E0314",
        "a tensor is defined inside an element of another one",
        span,
        "this depends on an index of the statement around it",
        hint="define it in a statement of its own, with that index on the left",
    )


@dataclass(frozen=True, slots=True)
class Box:
    """The index notation around an expression: who binds its indices, and what holds there."""

    session: Session
    level: Level
    rests: Mapping[str, Rest]
    conditions: tuple[Condition, ...] = ()

    def read(self, node: Node, index: tuple[Size, ...]) -> Element:
        """Return the element of ``node`` at ``index``, which is known to lie inside."""
        return Element(Read(self.session.number(node), index, node.type.dtype))

    def assuming(self, condition: Element, holds: bool) -> Box:
        """Return this box for an expression that is used only where ``condition`` (not) holds."""
        held = Condition(exact(condition.expr), holds)
        return Box(self.session, self.level, self.rests, (*self.conditions, held))

    def filtered(self, condition: Expr) -> Box:
        """Return this box for the body of a reduction with the filter ``condition``."""
        held = Condition(condition, True, self.level)
        return Box(self.session, self.level, self.rests, (*self.conditions, held))

    def within(self, level: Level, rests: Mapping[str, Rest]) -> Box:
        """Return the box of a reduction in this one."""
        return Box(self.session, level, {**self.rests, **rests}, self.conditions)


def axes_of_conditions(conditions: Iterable[Condition]) -> Iterator[str]:
    """Axes that conditions depend on."""
    for condition in conditions:
        yield from axes_in(condition.expr)


def is_bare(size: Size) -> str | None:
    """The axis that a subscript is, by itself, or None."""
    if isinstance(size, Poly) and len(size.terms) == 1:
        match size.terms[0]:
            case ((Axis(name),), 1):
                return name
    return None


def varies(size: Size) -> bool:
    """Whether a subscript depends on an index or on data."""
    return bool(axes_of(size)) or any(True for _ in loads_in(size))
