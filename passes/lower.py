"""From graphs to a loop program: groups, kernels, results in their places, barriers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nnc.ir import loops
from nnc.ir.graph import Form, Graph, Leaf, Literal, Node
from nnc.ir.index import Size, dims_of, product
from nnc.ir.types import DType
from nnc.passes.arrange import arrange
from nnc.passes.canonical import canonical
from nnc.passes.fuse import Fused, explain, fuse
from nnc.passes.group import Group, Member, singleton
from nnc.passes.hazards import Memory, launches_in, with_barriers
from nnc.passes.inline import inline
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
    graphs = {n: inline(g) if options.fuse else g for n, g in entries.items()}
    made = {entry: _Entry(program, entry, graph, options) for entry, graph in graphs.items()}
    steps = {entry: lowering.steps() for entry, lowering in made.items()}
    for sequence, parts in options.sequences.items():
        steps[sequence] = [step for part in parts for step in steps[part]]
    used = {view for part in steps.values() for s in launches_in(part) for view in s.views}
    scratch = [b for b in program.scratch.values() if b.name in used]
    buffers = (*layout, *scratch)
    memory = Memory(buffers)
    by_name = {k.name: k for k in program.kernels}
    finished = tuple(
        loops.Entry(entry, _dims(part, by_name), with_barriers(part, by_name, memory))
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
        f"{name}:\n{explain(_Entry(program, name, inline(graph), options).fused(reasons=True))}"
        for name, graph in entries.items()
    )


def _hint(group: Group) -> str:
    """What to call the kernel of ``group``."""
    anchors = [m for m in group.members if m.stage.reduce != "none"] or list(group.members)
    return anchors[0].node.name or anchors[0].stage.reduce


def _dims(steps: Sequence[loops.Step], kernels: Mapping[str, loops.Kernel]) -> tuple[str, ...]:
    found = {
        d for s in steps if isinstance(s, loops.When) for n in s.conditions for d in dims_of(n)
    }
    for launch in launches_in(steps):
        found |= {d for n in launch.extents for d in dims_of(n)}
        found |= set(kernels[launch.kernel].dims)
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

    def steps(self) -> list[loops.Step]:
        """Lower the graph; return its steps in order, without barriers."""
        program = self.program
        work = Work(program.tensor, self._scratch, program.sites, program.kernels)
        results = self._results(work)
        for node in self.graph.nodes():
            if isinstance(node.op, Literal) and len(node.op.values) != 1:
                literal(self.key(node), node.op.values, work)
        pointwise: set[tuple[str, str]] = set()
        fused = self.fused()
        readers = Counter(s for g in fused.groups for s in g.sources)
        for group in fused.groups:
            kept = self._kept(group, readers, results)
            if kept:
                for nested in self._nested(group, kept, work):
                    pointwise |= set(pointwise_pairs(nested))
                    program.known.schedule(tidy_axes(nested), work, schedule)
        place_results(work, results, program.layout, pointwise)
        return work.steps

    def fused(self, *, reasons: bool = False) -> Fused:
        """The graph's forms in groups; ``reasons`` asks why no more were fused."""
        groups: list[Group] = []
        for node in self._order():
            if isinstance(node.op, Form):
                groups.append(self._group(node, node.op, len(groups)))
        results = {self.key(o.node) for o in self.graph.outputs}
        return fuse(groups, results, join=self.options.fuse, reasons=reasons)

    def _group(self, node: Node, form: Form, number: int) -> Group:
        """The group of one form, or of the pieces that ``solve`` cut it into."""
        known = self.graph.facts
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

    def _kept(
        self, group: Group, readers: Mapping[str, int], results: Sequence[tuple[str, str]]
    ) -> frozenset[str]:
        """The tensors of ``group`` that others read, or that are results.

        ``readers`` counts the groups that read each tensor.
        """
        needed = {value for value, _ in results}
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
            if isinstance(node.op, Leaf):
                found = f"{node.op.space}:{node.op.name}"
                if found not in self.program.layout:
                    raise KeyError(f"no buffer {found!r}")
            else:
                found = self._scratch(node.name, node.type.dtype, node.type.size)
            self.keys[node] = found
        return found

    def _scratch(self, stem: str, dtype: DType, size: Size) -> str:
        return self.program.new_scratch(f"{self.name}.{stem}" if stem else self.name, dtype, size)

    def _order(self) -> list[Node]:
        """Nodes, operands first; what writes state comes as late as it can."""
        read = {self.key(n) for n in self.graph.nodes() if isinstance(n.op, Leaf)}
        late = [o for o in self.graph.outputs if f"{o.space}:{o.name}" in read]
        early = [o for o in self.graph.outputs if o not in late]
        return Graph(self.name, (*early, *late)).nodes()

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
