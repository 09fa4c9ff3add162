"""From graphs to a loop program: groups, kernels, results in their places, barriers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nnc.ir import loops
from nnc.ir.graph import Form, Graph, Leaf, Literal, Node
from nnc.ir.index import Axis, Size, dims_of, product
from nnc.ir.types import DType
from nnc.passes.arrange import arrange
from nnc.passes.fuse import Fused, Group, Member, explain, fuse, singleton, stage_loads
from nnc.passes.hazards import Memory, touched, with_barriers
from nnc.passes.inline import inline
from nnc.passes.schedule.axes import tidy_axes
from nnc.passes.schedule.kernel import Sites, Tensor, Work
from nnc.passes.schedule.rows import Phase
from nnc.passes.schedule.stage import Stage, root, stage_of
from nnc.passes.schedule.strategies import Nested, literal, rows, schedule


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
    launches = {entry: lowering.launches() for entry, lowering in made.items()}
    for sequence, parts in options.sequences.items():
        launches[sequence] = [launch for part in parts for launch in launches[part]]
    used = {view for steps in launches.values() for s in steps for view in s.views}
    scratch = [b for b in program.scratch.values() if b.name in used]
    buffers = (*layout, *scratch)
    memory = Memory(buffers)
    by_name = {k.name: k for k in program.kernels}
    finished = tuple(
        loops.Entry(entry, _dims(steps, by_name), tuple(with_barriers(steps, by_name, memory)))
        for entry, steps in launches.items()
    )
    dims = dict.fromkeys(d for b in buffers for n in b.extents for d in sorted(dims_of(n)))
    dims.update(dict.fromkeys(d for e in finished for d in e.dims))
    return loops.Program(
        name=name,
        dims=tuple(dims),
        buffers=buffers,
        functions=(),
        kernels=tuple(program.kernels),
        entries=finished,
        sites=tuple(program.sites.numbers),
    )


def fused_text(
    entries: Mapping[str, Graph],
    layout: Sequence[loops.Buffer],
    options: LowerOptions | None = None,
) -> str:
    """Tell how the forms of each entry are grouped into kernels, and why no further."""
    program = _Program({b.name: b for b in layout})
    options = options or LowerOptions()
    return "\n".join(
        f"{name}:\n{explain(_Entry(program, name, inline(graph), options).fused())}"
        for name, graph in entries.items()
    )


def _pointwise(nested: Nested) -> Iterator[tuple[str, str]]:
    """Pairs (result, tensor): the tensor is read only where and before the result is stored.

    Then the result may be stored in the tensor's own memory.
    """
    stages = nested.stages
    for k, stage in enumerate(stages):
        if stage.target not in nested.kept or stage.owners is None or not stage.covers:
            continue
        before = [e for s in stages[: k + 1] for e in stage_loads(s)]
        after = {e.source for s in stages[k + 1 :] for e in stage_loads(s)}
        for source in {e.source for e in before} - after:
            if all(e.index[0] == stage.offset for e in before if e.source == source):
                yield stage.target, source


def _hint(group: Group) -> str:
    """What to call the kernel of ``group``."""
    anchors = [m for m in group.members if m.stage.reduce != "none"] or list(group.members)
    return anchors[0].node.name or anchors[0].stage.reduce


def _dims(steps: Sequence[loops.Launch], kernels: Mapping[str, loops.Kernel]) -> tuple[str, ...]:
    found = {d for s in steps for n in s.extents for d in dims_of(n)}
    found |= {d for s in steps for d in kernels[s.kernel].dims}
    return tuple(sorted(found))


@dataclass(slots=True)
class _Program:
    """What the entries of a program share."""

    layout: Mapping[str, loops.Buffer]
    kernels: list[loops.Kernel] = field(default_factory=list)
    scratch: dict[str, loops.Buffer] = field(default_factory=dict)
    sites: Sites = field(default_factory=Sites)

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
    pointwise: set[tuple[str, str]] = field(default_factory=set)

    def launches(self) -> list[loops.Launch]:
        """Lower the graph; return its launches in order."""
        program = self.program
        work = Work(program.tensor, self._scratch, program.sites, program.kernels)
        values = self._copies_of_leaves(work)
        for node in self.graph.nodes():
            match node.op:
                case Literal(items) if len(items) != 1 or self._is_result(node):
                    literal(self.key(node), items, work)
                case _:
                    pass
        results = {self.key(o.node) for o in self.graph.outputs}
        fused = self.fused()
        for group in fused.groups:
            others = [g for g in fused.groups if g is not group]
            read = {e.source for g in others for m in g.members for e in stage_loads(m.stage)}
            kept = frozenset(group.targets) & (read | results)
            if not kept:
                continue
            nested = arrange(group, kept, _hint(group))
            self.pointwise |= set(_pointwise(nested))
            schedule(tidy_axes(nested), work)
        return _Results(self, work, values).place()

    def fused(self) -> Fused:
        """The graph's forms in groups."""
        groups: list[Group] = []
        for number, node in enumerate(self._order()):
            if isinstance(node.op, Form):
                names = {a: f"{a}.{number}" for a, _ in node.op.axes}
                stage = stage_of(node, node.op, self.key, self.graph.facts, names)
                groups.append(singleton(Member(number, node, stage)))
        results = {self.key(o.node) for o in self.graph.outputs}
        return fuse(groups, results, merge=self.options.fuse)

    def key(self, node: Node) -> str:
        """The name of the memory that ``node`` is in."""
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
        late = [o for o in self.graph.outputs if f"{o.space}:{o.name}" in self._read()]
        early = [o for o in self.graph.outputs if o not in late]
        return Graph(self.name, (*early, *late)).nodes()

    def _read(self) -> set[str]:
        return {self.key(n) for n in self.graph.nodes() if isinstance(n.op, Leaf)}

    def _is_result(self, node: Node) -> bool:
        return any(root(o.node) is node for o in self.graph.outputs)

    def _copies_of_leaves(self, work: Work) -> dict[int, str]:
        """Copy leaves that are results, before anything may overwrite them."""
        values: dict[int, str] = {}
        for k, output in enumerate(self.graph.outputs):
            source = root(output.node)
            target = f"{output.space}:{output.name}"
            if isinstance(source.op, Leaf) and self.key(source) != target:
                copy = self._scratch("copy", source.type.dtype, source.type.size)
                copy_tensor(self.key(source), copy, work)
                values[k] = copy
        return values


@dataclass(slots=True)
class _Results:
    """Gives each result its place: written there directly where that is safe, else copied."""

    entry: _Entry
    work: Work
    values: dict[int, str]
    homes: dict[str, str] = field(default_factory=dict)

    def place(self) -> list[loops.Launch]:
        """Return all launches, with the results in their buffers."""
        copies: list[tuple[str, str]] = []
        for k, output in enumerate(self.entry.graph.outputs):
            target = f"{output.space}:{output.name}"
            self.entry.program.tensor(target)
            value = self.values.get(k, self.entry.key(output.node))
            if value == target:
                continue
            if value in self.homes or not self._safe(value, target):
                copies.append((self.homes.get(value, value), target))
            else:
                self._rename(value, target)
        for source, target in copies:
            copy_tensor(source, target, self.work)
        return self.work.launches

    def _rename(self, value: str, target: str) -> None:
        self.homes[value] = target
        self.work.launches = [
            replace(s, views=tuple(target if v == value else v for v in s.views))
            for s in self.work.launches
        ]

    def _safe(self, value: str, target: str) -> bool:
        """Whether ``value`` can be computed in ``target`` itself.

        From the launch that writes it on, nothing else may touch ``target``'s memory, but that
        launch may read it element by element.
        """
        kernels = {k.name: k for k in self.work.kernels}
        memory = Memory(self.entry.program.layout.values())
        uses = [touched(s, kernels[s.kernel]) for s in self.work.launches]
        writers = [k for k, use in enumerate(uses) if value in use.writes]
        if not writers:
            return True
        first = writers[0]
        for k, use in enumerate(uses[first:], first):
            reads = use.reads
            if writers == [k] and (value, target) in self.entry.pointwise:
                reads = reads - {target}
            if memory.clash((target,), reads | use.writes):
                return False
        return True


def copy_tensor(source: str, target: str, work: Work) -> None:
    """Add a kernel that copies all of ``source`` to ``target``."""
    tensor = work.tensor(source)
    axes = (("e", tensor.size),) if tensor.size != 1 else ()
    at = Axis("e").as_poly() if axes else 0
    stage = Stage(
        target=target,
        dtype=tensor.dtype,
        size=tensor.size,
        axes=axes,
        offset=at,
        inside=None,
        covers=True,
        reduce="none",
        value=loops.Load(source, (at,), tensor.dtype),
        where=None,
        place=0,
        owners=frozenset(a for a, _ in axes),
        shape=(tensor.size,),
        columns=(),
        whole=(),
        guards=(),
    )
    rows(Nested("copy", axes, (Phase((), (stage,)),), frozenset({target})), work)
