"""A form as one step of a kernel: flat subscripts, explicit masks, loaded integers named.

Tensors are row-major and subscripted by one flat number, so a reshape needs no code, and axes that
run through memory one after the other can be joined (see ``axes``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from nnc.ir import expr as graph_expr
from nnc.ir.expr import Apply, Const, Loaded, Position, Read
from nnc.ir.graph import Custom, Form, Leaf, Literal, Node, Reshape
from nnc.ir.index import Atom, Axis, Size, axes_of, product, substitute, substitute_atoms
from nnc.ir.loops import Expr, Load, Op, Site
from nnc.ir.prove import Facts, proves_less, proves_nonneg
from nnc.ir.span import Span
from nnc.ir.types import DType
from nnc.passes.forms import owns
from nnc.passes.schedule.exprs import (
    cast,
    compare,
    conjunction,
    op,
    position,
    rewrite,
    sizes_of,
    walk,
)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number read from memory; ``Axis(name)`` stands for it in subscripts."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Guard:
    """A check of the data: what must hold, the site to report, and the offending value."""

    ok: Expr
    site: Site
    value: Expr


@dataclass(frozen=True, eq=False)
class Stage:
    """One form, ready to be placed in loops. Compares by identity.

    ``axes`` in the form's order, those of extent 1 left out. ``offset`` is the flat place in
    ``target`` (of ``size`` elements) that a point stores to, where ``inside`` holds. ``covers``
    tells that every element is stored to. ``place`` is what ``argmax`` and ``argmin`` give.
    ``owners`` are the axes that together fix one element of the result; None where several points
    of these axes may store to one element (a scatter). ``columns`` are the axes that alone make
    up the subscript of one dim of ``shape``, and its number: a scatter may be cut along them.
    """

    target: str
    dtype: DType
    size: Size
    axes: tuple[tuple[str, Size], ...]
    offset: Size
    inside: Expr | None
    covers: bool
    reduce: str
    value: Expr
    where: Expr | None
    place: Size
    owners: frozenset[str] | None
    shape: tuple[Size, ...]
    columns: tuple[tuple[str, int], ...]
    whole: tuple[Whole, ...]
    guards: tuple[Guard, ...]
    span: Span | None = None

    @property
    def kept(self) -> tuple[tuple[str, Size], ...]:
        """The axes that the result's place depends on."""
        owners = self.owners or frozenset()
        return tuple((a, n) for a, n in self.axes if a in owners)

    @cached_property
    def loads(self) -> tuple[Load, ...]:
        """Every distinct load of its expressions."""
        found = (e for e in walk(exprs_in_stage(self)) if isinstance(e, Load))
        return tuple(found)

    @cached_property
    def sources(self) -> frozenset[str]:
        """The tensors that it reads."""
        return frozenset(e.source for e in self.loads)

    @property
    def reduced(self) -> tuple[tuple[str, Size], ...]:
        """The axes that are reduced over."""
        kept = dict(self.kept)
        return tuple((a, n) for a, n in self.axes if a not in kept)


def root(node: Node) -> Node:
    """The node whose memory ``node`` is: through reshapes and written derivatives."""
    while isinstance(node.op, Reshape | Custom):
        node = node.inputs[0]
    return node


def flat(index: Sequence[Size], shape: Sequence[Size]) -> Size:
    """The row-major place of ``index`` in a tensor of ``shape``."""
    place: Size = 0
    for i, extent in zip(index, shape, strict=True):
        place = place * extent + i
    return place


def stage_of(
    node: Node,
    form: Form,
    key: Callable[[Node], str],
    facts: Sequence[Size] = (),
    axis_names: Mapping[str, str] | None = None,
) -> Stage:
    """Translate ``form``, which computes ``node`` or a piece of it.

    ``key`` names the memory of each tensor; ``axis_names`` renames axes; ``facts`` are sizes
    known to be at least 0.
    """
    return _Translator(node, form, key, tuple(facts), dict(axis_names or {})).stage()


def change_stage(
    stage: Stage, sizes: Callable[[Size], Size], axes: Sequence[tuple[str, Size]]
) -> Stage:
    """Return ``stage`` over other axes, every subscript changed by ``sizes``."""
    memo: dict[Expr, Expr] = {}

    def expr(e: Expr) -> Expr:
        return rewrite(e, sizes, memo=memo)

    left = {a for a, _ in axes}
    return replace(
        stage,
        axes=tuple(axes),
        offset=sizes(stage.offset),
        inside=None if stage.inside is None else expr(stage.inside),
        value=expr(stage.value),
        where=None if stage.where is None else expr(stage.where),
        place=sizes(stage.place),
        owners=None if stage.owners is None else frozenset(stage.owners & left),
        columns=tuple((a, k) for a, k in stage.columns if a in left),
        whole=tuple(replace(w, value=expr(w.value)) for w in stage.whole),
        guards=tuple(replace(g, ok=expr(g.ok), value=expr(g.value)) for g in stage.guards),
    )


def rename_axes(stage: Stage, names: Mapping[str, str]) -> Stage:
    """Return ``stage`` with its axes renamed."""
    names = {a: b for a, b in names.items() if a != b}
    if not names:
        return stage
    atoms: dict[Atom, Size] = {Axis(a): Axis(b).as_poly() for a, b in names.items()}
    renamed = change_stage(
        stage,
        lambda s: substitute(s, atoms),
        [(names.get(a, a), n) for a, n in stage.axes],
    )
    owners = stage.owners
    return replace(
        renamed,
        owners=None if owners is None else frozenset(names.get(a, a) for a in owners),
        columns=tuple((names.get(a, a), k) for a, k in stage.columns),
    )


def sizes_in_stage(stage: Stage) -> Iterator[Size]:
    """Every subscript of a stage."""
    yield stage.offset
    if stage.reduce.startswith("arg"):
        yield stage.place
    for e in exprs_in_stage(stage):
        yield from sizes_of(e)


def exprs_in_stage(stage: Stage) -> Iterator[Expr]:
    """Every expression of a stage: its value, its filter, its masks, what it loads and checks."""
    yield stage.value
    for e in (stage.where, stage.inside):
        if e is not None:
            yield e
    for w in stage.whole:
        yield w.value
    for g in stage.guards:
        yield g.ok
        yield g.value


@dataclass(slots=True)
class _Translator:
    node: Node
    form: Form
    key: Callable[[Node], str]
    known: tuple[Size, ...]
    names: dict[str, str]
    whole: dict[Read, Whole] = field(default_factory=dict)
    guards: dict[Guard, None] = field(default_factory=dict)
    memo: dict[graph_expr.Expr, Expr] = field(default_factory=dict)
    where: Expr | None = None
    in_where: bool = False

    def stage(self) -> Stage:
        form = self.form
        axes = tuple((self.names.get(a, a), n) for a, n in form.axes if n != 1)
        self.in_where = True
        self.where = None if form.where is None else self.value(form.where)
        self.in_where = False
        self.memo.clear()
        value = self.value(form.body)
        inside = self._store_mask()
        where = self.where
        covers = inside is None and self._covers()
        if covers and form.reduce == "none" and where is not None:
            value = op("select", where, value, Const(0, value.dtype), dtype=value.dtype)
            where = None
        offset = self.size(flat(form.out, self.node.type.shape))
        return Stage(
            target=self.key(self.node),
            dtype=self.node.type.dtype,
            size=self.node.type.size,
            axes=axes,
            offset=offset,
            inside=inside,
            covers=covers,
            reduce=form.reduce,
            value=value,
            where=where,
            place=self.size(self._place()),
            owners=self._owners(),
            shape=self.node.type.shape,
            columns=self._columns(),
            whole=tuple(self.whole.values()),
            guards=tuple(self.guards),
            span=self.node.span,
        )

    def _covers(self) -> bool:
        """Whether each element is stored to, whatever the filter lets pass."""
        extents = dict(self.form.axes)
        left = set(extents)
        for subscript, extent in zip(self.form.out, self.node.type.shape, strict=True):
            if extent == 1 and subscript == 0:
                continue
            name = next(iter(axes_of(subscript)), None)
            if name not in left or subscript != Axis(name).as_poly() or extents[name] != extent:
                return False
            left.discard(name)
        return True

    def _owners(self) -> frozenset[str] | None:
        """The axes in the result's subscripts, where those tell all of them apart."""
        extents = {a for a, n in self.form.axes if n != 1}
        if self.form.reduce == "none":  # which stores each element at most once
            return frozenset(self.names.get(a, a) for a in extents)
        if any(_loaded(s) for s in self.form.out) or not owns(self.form, self.known):
            return None
        named = {a for s in self.form.out for a in axes_of(s)} & extents
        return frozenset(self.names.get(a, a) for a in named)

    def _columns(self) -> tuple[tuple[str, int], ...]:
        extents = dict(self.form.axes)
        counts = Counter(a for s in self.form.out for a in axes_of(s))
        found: list[tuple[str, int]] = []
        for k, (subscript, n) in enumerate(zip(self.form.out, self.node.type.shape, strict=True)):
            names = axes_of(subscript)
            for a in names:
                bare = subscript == Axis(a).as_poly() and counts[a] == 1 and extents[a] == n != 1
                found += [(self.names.get(a, a), k)] if bare else []
        return tuple(found)

    def _place(self) -> Size:
        """The row-major place among the axes that the result does not mention."""
        kept = {a for s in self.form.out for a in axes_of(s)}
        rest = [(a, n) for a, n in self.form.axes if a not in kept]
        return flat([Axis(a).as_poly() for a, _ in rest], [n for _, n in rest])

    def _store_mask(self) -> Expr | None:
        conditions: list[Expr] = []
        shape = self.node.type.shape
        for subscript, extent in zip(self.form.out, shape, strict=True):
            loaded = _loaded(subscript)
            # What a filter alone keeps inside is stored to for points that it rules out as well.
            if not (self.form.drops or loaded or self.form.where is not None):
                continue
            tests = self._tests(subscript, extent)
            conditions += tests
            if loaded and not self.form.drops:
                self._check(tests, subscript, extent, self.node)
        return conjunction(*conditions)

    # subscripts -----------------------------------------------------------------------------

    def size(self, size: Size) -> Size:
        """``size`` with axes renamed, unit axes gone and loaded integers named."""
        units = {a for a, n in self.form.axes if n == 1}

        def change(atom: Atom) -> Size:
            match atom:
                case Loaded(read):
                    return self._whole(read)
                case Axis(name):
                    return 0 if name in units else Axis(self.names.get(name, name)).as_poly()
            return atom.rebuild(change)

        return substitute_atoms(size, change)

    def _whole(self, read: Read) -> Size:
        found = self.whole.get(read)
        if found is None:
            value = cast(self.load(read), DType.I64)
            if isinstance(value, Const):
                return int(value.value)
            if isinstance(value, Position):
                return value.index
            found = Whole(f"whole{len(self.whole)}", value)
            self.whole[read] = found
        return Axis(found.name).as_poly()

    def _tests(self, subscript: Size, extent: Size) -> list[Expr]:
        """What has to be tested for ``subscript`` to lie in a dim of ``extent``."""
        facts = Facts(self.form.axes, self.known)
        at = self.size(subscript)
        tests: list[Expr] = []
        if not proves_nonneg(subscript, facts):
            tests.append(compare("ge", at, 0))
        if not proves_less(subscript, extent, facts):
            tests.append(compare("lt", at, extent))
        return tests

    def _check(self, tests: Sequence[Expr], subscript: Size, extent: Size, tensor: Node) -> None:
        ok = conjunction(*tests)
        if ok is None:
            return
        if self.where is not None and not self.in_where:
            ok = op("or", op("not", self.where), ok)
        loads = graph_expr.loads_in(subscript)
        sources = {f"'{self._name(self.node.inputs[a.read.operand])}'" for a in loads}
        what = f"a subscript made from {' and '.join(sorted(sources))}"
        site = Site(what, self._name(tensor), extent, self.node.span)
        self.guards.setdefault(Guard(ok, site, position(self.size(subscript))))

    def _name(self, node: Node) -> str:
        origin = root(node)
        return node.name or (origin.op.name if isinstance(origin.op, Leaf) else self.key(origin))

    # values ---------------------------------------------------------------------------------

    def load(self, read: Read) -> Expr:
        """The element that ``read`` gives, with the mask that keeps it inside."""
        source = self.node.inputs[read.operand]
        memory = root(source)
        if isinstance(memory.op, Literal) and len(memory.op.values) == 1:
            return Const(memory.op.values[0], memory.type.dtype)
        if memory.type.size == 0:  # never reached, and its flat subscripts say nothing
            return Const(0 if read.outside is None else read.outside, read.dtype)
        conditions: list[Expr] = []
        for subscript, extent in zip(read.index, source.type.shape, strict=True):
            loaded = _loaded(subscript)
            tests = self._tests(subscript, extent)
            if read.outside is not None or loaded:
                conditions += tests
                if loaded and read.outside is None:
                    self._check(tests, subscript, extent, source)
            elif tests and self.where is not None and not self.in_where:
                conditions.append(self.where)
        mask = conjunction(*conditions)
        at = self.size(flat(read.index, source.type.shape))
        if mask is None:
            return Load(self.key(memory), (at,), read.dtype)
        other = Const(0 if read.outside is None else read.outside, read.dtype)
        return Load(self.key(memory), (at,), read.dtype, mask, other)

    def value(self, expr: graph_expr.Expr) -> Expr:
        """Translate a body, without the operations that only matter to autodiff."""
        for e in graph_expr.walk(expr):
            if e not in self.memo:
                self.memo[e] = self._value(e)
        return self.memo[expr]

    def _value(self, e: graph_expr.Expr) -> Expr:
        match e:
            case Position(index, dtype):
                return position(self.size(index), dtype)
            case Read():
                return self.load(e)
            case Apply("stop_gradient" | "with_gradient", args):
                return self.memo[args[0]]
            case Apply(name, args, dtype):
                return Op(name, tuple(self.memo[a] for a in args), dtype)
        return e


def _loaded(subscript: Size) -> bool:
    return any(True for _ in graph_expr.loads_in(subscript))


def volume(axes: Sequence[tuple[str, Size]]) -> Size:
    """The number of points of a box."""
    return product(n for _, n in axes)
