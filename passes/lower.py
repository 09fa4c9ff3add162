"""From graphs to a loop program: groups, kernels, results in their places, barriers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nnc.ir import loops
from nnc.ir.expr import Const
from nnc.ir.graph import Form, Graph, Leaf, Literal, Node
from nnc.ir.index import Atom, Size, dims_of, product
from nnc.ir.regions import Region, regions
from nnc.ir.types import DType
from nnc.passes.arrange import arrange
from nnc.passes.canonical import canonical
from nnc.passes.forms import identity_axes
from nnc.passes.fuse import Fused, explain, fuse
from nnc.passes.group import Group, Member, singleton
from nnc.passes.hazards import Memory, launches_in, with_barriers
from nnc.passes.inline import inline
from nnc.passes.loop_memory import LoopMemory, with_histories
from nnc.passes.loops import map_form_sizes
from nnc.passes.pieces import covers, pieces
from nnc.passes.results import place_results, pointwise_pairs
from nnc.passes.schedule.axes import tidy_axes
from nnc.passes.schedule.kernel import Sites, Tensor, Work
from nnc.passes.schedule.nested import Nested
from nnc.passes.schedule.reduce import identity
from nnc.passes.schedule.repeat import Known
from nnc.passes.schedule.stage import root, stage_of
from nnc.passes.schedule.strategies import copy, fill, literal, schedule
from nnc.passes.share import share

MANY = 1 << 20


@dataclass(frozen=True, slots=True)
class LowerOptions:
    """``sequences``: further entries, each of which runs other entries one after the other."""

    fuse: bool = True
    sequences: Mapping[str, Sequence[str]] = field(default_factory=dict)


def lower(
    name: str,
    entries: Mapping[str, Graph],
    layout: Sequence[loops.Buffer],
    options: LowerOptions | None = None,
) -> loops.Program:
    """Lower ``entries`` to one program over the buffers of ``layout``.

    ``layout`` lists all buffers but scratch, named ``space:name``; a leaf or an output of that
    space and name is that buffer.

    Raises:
        KeyError: a graph speaks of a buffer that ``layout`` lacks.
        Unsupported: a form that no schedule takes.
    """
    options = options or LowerOptions()
    program = _Program({b.name: b for b in layout})
    graphs = {n: with_histories(g) for n, g in entries.items()}
    graphs = {n: inline(g) if options.fuse else g for n, g in graphs.items()}
    made = {entry: _Entry(program, entry, graph, options) for entry, graph in graphs.items()}
    steps = {entry: lowering.steps() for entry, lowering in made.items()}
    for sequence, parts in options.sequences.items():
        steps[sequence] = [step for part in parts for step in steps[part]]
    used = {view for part in steps.values() for s in launches_in(part) for view in s.views}
    used |= {b.inside for b in program.scratch.values() if b.name in used and b.inside}
    scratch = [b for b in program.scratch.values() if b.name in used]
    buffers = (*layout, *scratch)
    memory = Memory(buffers)
    by_name = {k.name: k for k in program.kernels}
    offsets = {b.name: b.offset for b in buffers}
    finished = tuple(
        loops.Entry(entry, _dims(part, by_name, offsets), with_barriers(part, by_name, memory))
        for entry, part in steps.items()
    )
    dims = dict.fromkeys(d for b in buffers for n in b.extents for d in sorted(dims_of(n)))
    dims.update(dict.fromkeys(d for e in finished for d in e.dims))
    whole = loops.Program(
        name=name,
        dims=tuple(dims),
        buffers=buffers,
        functions=(),
        kernels=tuple(program.kernels),
        entries=finished,
        sites=tuple(program.sites.numbers),
    )
    return share(canonical(whole))


def fused_text(
    entries: Mapping[str, Graph],
    layout: Sequence[loops.Buffer],
    options: LowerOptions | None = None,
) -> str:
    """Tell how the forms of each entry are grouped into kernels, and why no further."""
    program = _Program({b.name: b for b in layout})
    options = options or LowerOptions()
    return "\n".join(
        f"{name}:\n{_Entry(program, name, inline(with_histories(graph)), options).explained()}"
        for name, graph in entries.items()
    )


def _is_given(node: Node) -> bool:
    return isinstance(node.op, Leaf) and node.op.space != "carry"


def _filled(node: Node) -> Const | None:
    """The number that every element of a tensor is."""
    made = root(node)
    match made.op:
        case Form(reduce="none", where=None, drops=False, body=Const() as value):
            return value if identity_axes(made.op, made.type.shape) is not None else None
        case Literal(values) if len(values) == 1:
            return Const(values[0], made.type.dtype)
    return None


def _hint(group: Group) -> str:
    """What to call the kernel of ``group``."""
    anchors = [m for m in group.members if m.stage.reduce != "none"] or list(group.members)
    return anchors[0].node.name or anchors[0].stage.reduce


def _dims(
    steps: Sequence[loops.Step],
    kernels: Mapping[str, loops.Kernel],
    offsets: Mapping[str, Size],
) -> tuple[str, ...]:
    found: set[str] = set()
    for step in steps:
        match step:
            case loops.When(conditions, then, otherwise):
                found |= {d for n in conditions for d in dims_of(n)}
                found |= {*_dims(then, kernels, offsets), *_dims(otherwise, kernels, offsets)}
            case loops.Repeat(axis, extent, inner):
                found |= {*_dims(inner, kernels, offsets)} - {axis} | dims_of(extent)
            case loops.Launch(kernel, views, extents):
                found |= {d for n in (*extents, *(offsets[v] for v in views)) for d in dims_of(n)}
                found |= set(kernels[kernel].dims)
            case loops.Barrier():
                pass
    return tuple(sorted(found))


@dataclass(slots=True)
class _Program:
    """What the entries of a program share."""

    layout: Mapping[str, loops.Buffer]
    kernels: list[loops.Kernel] = field(default_factory=list)
    scratch: dict[str, loops.Buffer] = field(default_factory=dict)
    sites: Sites = field(default_factory=Sites)
    known: Known = field(default_factory=Known)

    def new_scratch(self, stem: str, dtype: DType, size: Size) -> str:
        """Add a scratch buffer of ``size`` elements and return its name."""
        name = f"{stem}.{len(self.scratch)}"
        self.scratch[name] = loops.Buffer(name, dtype, (size,), "scratch")
        return name

    def new_part(self, whole: str, size: Size, offset: Size) -> str:
        """Name ``size`` elements of a scratch buffer, ``offset`` elements in."""
        name = f"{whole}.{len(self.scratch)}"
        dtype = self.scratch[whole].dtype
        self.scratch[name] = loops.Buffer(name, dtype, (size,), "scratch", whole, offset)
        return name

    def tensor(self, name: str) -> Tensor:
        """The memory of that name."""
        buffer = self.scratch.get(name) or self.layout[name]
        return Tensor(name, buffer.dtype, product(buffer.extents))


@dataclass(slots=True)
class _Entry:
    """The lowering of one graph."""

    program: _Program
    name: str
    graph: Graph
    options: LowerOptions
    keys: dict[Node, str] = field(default_factory=dict)
    memories: dict[int, LoopMemory] = field(default_factory=dict)
    counters: dict[Node, Mapping[Atom, Size]] = field(default_factory=dict)

    def steps(self) -> list[loops.Step]:
        """Lower the graph; return its steps in order, without barriers."""
        program = self.program
        work = Work(program.tensor, self._scratch, program.sites, program.kernels)
        top = self._prepare()
        results = self._results(work)
        for node in self.graph.nodes():
            if isinstance(node.op, Literal) and len(node.op.values) != 1:
                literal(self.key(node), node.op.values, work)
        needed = {value for value, _ in results}
        runs = self._fuse_all(top, needed)
        readers = Counter(s for run in runs.values() for g in run.groups for s in g.sources)
        readers.update(dict.fromkeys(self._copied(), MANY))
        pointwise: set[tuple[str, str]] = set()
        work.steps += self._region(top, work, runs, readers, needed, pointwise)
        parts = {b.name: b.inside for b in program.scratch.values() if b.inside is not None}
        place_results(work, results, program.layout, pointwise, {*parts, *parts.values()})
        return work.steps

    def explained(self) -> str:
        """Tell how forms were fused."""
        top = self._prepare()
        needed = {self.key(o.node) for o in self.graph.outputs}
        runs = self._fuse_all(top, needed, reasons=True)
        return "".join(explain(run) for run in runs.values())

    # loops ----------------------------------------------------------------------------------

    def _prepare(self) -> Region:
        """Find the loops, and the places of their values."""
        top = regions(self._roots())
        self._place_loops(top, 0, {})
        return top

    def _place_loops(self, region: Region, depth: int, around: dict[Atom, Size]) -> None:
        for item in region.items:
            if isinstance(item, Region):
                part = self.program.new_part
                memory = LoopMemory(item, depth, self._scratch, part, self.keys)
                memory.name_all()
                self.memories[id(item)] = memory
                self._place_loops(item, depth + 1, around | memory.counters)
            else:
                self.counters[item] = around

    def _copied(self) -> set[str]:
        """The tensors that loops copy."""
        pairs = [p for m in self.memories.values() for p in (*m.first, *m.brought)]
        return {self.key(n) for n, _ in pairs if _filled(n) is None}

    def _fuse_all(
        self, top: Region, needed: set[str], *, reasons: bool = False
    ) -> dict[tuple[int, int], Fused]:
        """Fuse what stands together: the forms of a region between two loops in it."""
        parts: dict[tuple[int, int], list[Group]] = {}
        number = 0
        pending = [top]
        while pending:
            region = pending.pop()
            run = 0
            for item in region.items:
                if isinstance(item, Region):
                    run += 1
                    pending.append(item)
                elif isinstance(item.op, Form):
                    group = self._group(item, item.op, number)
                    parts.setdefault((id(region), run), []).append(group)
                    number += 1
        homes: dict[str, set[tuple[int, int]]] = {}
        for place, groups in parts.items():
            for group in groups:
                for name in (*group.sources, *group.targets):
                    homes.setdefault(name, set()).add(place)
        shared = {n for n, places in homes.items() if len(places) > 1}
        kept = needed | shared | self._copied() | self._placed()
        return {
            place: fuse(groups, kept, join=self.options.fuse, reasons=reasons)
            for place, groups in parts.items()
        }

    def _placed(self) -> set[str]:
        """The names of places within the buffers of loops."""
        scratch = self.program.scratch
        return {name for name in self.keys.values() if name in scratch and scratch[name].inside}

    def _region(
        self,
        region: Region,
        work: Work,
        runs: Mapping[tuple[int, int], Fused],
        readers: Mapping[str, int],
        needed: set[str],
        pointwise: set[tuple[str, str]],
    ) -> list[loops.Step]:
        """The steps of one region."""
        inner = replace(work, steps=[])
        needed = needed | self._placed()
        within = [item for item in region.items if isinstance(item, Region)]
        for run in range(len(within) + 1):
            fused = runs.get((id(region), run))
            for group in fused.groups if fused is not None else ():
                kept = self._kept(group, readers, needed)
                for nested in self._nested(group, kept, inner) if kept else ():
                    if region.loop is None:
                        pointwise |= set(pointwise_pairs(nested))
                    self.program.known.schedule(tidy_axes(nested), inner, schedule)
            if run < len(within):
                self._loop(within[run], inner, runs, readers, needed, pointwise)
        return inner.steps

    def _loop(
        self,
        region: Region,
        work: Work,
        runs: Mapping[tuple[int, int], Fused],
        readers: Mapping[str, int],
        needed: set[str],
        pointwise: set[tuple[str, str]],
    ) -> None:
        """Add a loop: the first values of its carries, then its turns."""
        memory = self.memories[id(region)]
        for node, slot in memory.first:
            self._bring(node, slot, work)
        inner = replace(work, steps=[])
        inner.steps += self._region(region, inner, runs, readers, needed, pointwise)
        for node, slot in memory.brought:
            self._bring(node, slot, inner)
        if inner.steps:
            extent = memory.loop.extent
            work.steps.append(loops.Repeat(memory.axis, extent, tuple(inner.steps)))

    def _bring(self, node: Node, slot: str, work: Work) -> None:
        """Add a copy of ``node`` to ``slot``."""
        value = _filled(node)
        if value is not None:
            fill(slot, value, node.type.size, work)
        else:
            copy(self.key(node), slot, work)

    def _group(self, node: Node, form: Form, number: int) -> Group:
        """The group of one form, or of the pieces that ``solve`` cut it into."""
        known = self.graph.facts
        counters = self.counters[node]
        if counters:
            form = map_form_sizes(form, counters)
            node, original = replace(node, op=form), node
            self.keys[node] = self.key(original)
        forms: tuple[Form, ...] = (form,)
        if form.reduce not in ("none", "argmax", "argmin"):
            forms = pieces(node, known)
            if len(forms) <= 1 and not covers(forms, node.type.shape, known):
                forms = (form,)
        full = covers(forms, node.type.shape, known)
        members: list[Member] = []
        for piece in forms:
            names = {a: f"{a}.{number}" for a, _ in piece.axes}
            stage = stage_of(node, piece, self.key, known, names)
            members.append(Member(number, node, replace(stage, covers=stage.covers or full)))
        if len(members) == 1:
            return singleton(members[0])
        return Group((), tuple(members), "it is computed in pieces, one for each residue")

    def _nested(self, group: Group, kept: frozenset[str], work: Work) -> Iterator[Nested]:
        """What to schedule for ``group``."""
        hint = _hint(group)
        if not group.pieces:
            yield arrange(group, kept, hint)
            return
        first = group.members[0].stage
        if not first.covers:
            fill(first.target, identity(first.reduce, first.dtype), first.size, work)
        for member in group.members:
            stage = replace(member.stage, covers=True)
            yield arrange(singleton(replace(member, stage=stage)), kept, hint)

    def _kept(self, group: Group, readers: Mapping[str, int], needed: set[str]) -> frozenset[str]:
        """The tensors of ``group`` that others read, or that are results.

        ``readers`` counts the groups that read each tensor.
        """
        targets = group.targets.keys()
        return frozenset(
            t for t in targets if t in needed or readers.get(t, 0) > (t in group.sources)
        )

    def key(self, node: Node) -> str:
        """The name of the memory that ``node`` is in.

        Raises KeyError where the layout has no such buffer.
        """
        node = root(node)
        found = self.keys.get(node)
        if found is None:
            if _is_given(node) and isinstance(node.op, Leaf):
                found = f"{node.op.space}:{node.op.name}"
                if found not in self.program.layout:
                    raise KeyError(f"no buffer {found!r}")
            else:
                found = self._scratch(node.name, node.type.dtype, node.type.size)
            self.keys[node] = found
        return found

    def _scratch(self, stem: str, dtype: DType, size: Size) -> str:
        return self.program.new_scratch(f"{self.name}.{stem}" if stem else self.name, dtype, size)

    def _roots(self) -> list[Node]:
        """The results; what writes state comes as late as it can."""
        read = {self.key(n) for n in self.graph.nodes() if _is_given(n)}
        late = [o for o in self.graph.outputs if f"{o.space}:{o.name}" in read]
        early = [o for o in self.graph.outputs if o not in late]
        return [o.node for o in (*early, *late)]

    def _results(self, work: Work) -> list[tuple[str, str]]:
        """The memory of each result's value, and where the result belongs.

        Leaves and literals that are results are copied before anything may overwrite them.
        """
        results: list[tuple[str, str]] = []
        for output in self.graph.outputs:
            source, target = root(output.node), f"{output.space}:{output.name}"
            self.program.tensor(target)
            value = self.key(source)
            if isinstance(source.op, Leaf) and value != target:
                value = self._scratch("copy", source.type.dtype, source.type.size)
                copy(self.key(source), value, work)
            elif isinstance(source.op, Literal) and len(source.op.values) == 1:
                literal(value, source.op.values, work)
            results.append((value, target))
        return results
