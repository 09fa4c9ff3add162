"""From a checked model and recipe to the graphs of a program's entries and its memory layout.

The state block holds the trainable parameters first, in path order, each on a 64-byte boundary;
gradients and each elementwise optimizer slot are further blocks with the same layout, so that one
loop can update all parameters that share a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from nnc.frontend.diagnostics import Diagnostic, SourceError
from nnc.ir import build
from nnc.ir.graph import Graph, Leaf, Node, Output, postorder, with_inputs
from nnc.ir.index import Size
from nnc.ir.loops import Buffer
from nnc.ir.model import Model, Named, Parameter, Recipe, Step, Update
from nnc.ir.types import DType, TensorType
from nnc.passes.flatten import flatten
from nnc.passes.split_batch import NotSplittable, Split, split_batch
from nnc.runtime.batches import add_epoch
from nnc.runtime.differentiate import expanded, gradients_of
from nnc.runtime.graphs import add_all, average, rename_leaves
from nnc.runtime.summary import Summary
from nnc.runtime.turns import Turn

ALIGN_BYTES = 64


@dataclass(frozen=True, slots=True)
class Placed:
    """A trainable parameter and where it lies in the blocks that share its layout."""

    parameter: Parameter
    offset: int
    size: int


@dataclass
class Assembly:
    """Graphs by entry name, the buffers around them, and how results are summed up."""

    model: Model
    graphs: dict[str, Graph] = field(default_factory=dict)
    layout: dict[str, Buffer] = field(default_factory=dict)
    placed: tuple[Placed, ...] = ()
    slots: tuple[str, ...] = ()
    summaries: tuple[Summary, ...] = ()
    notes: list[str] = field(default_factory=list)
    turns: tuple[Turn, ...] = ()

    def add(
        self,
        space: str,
        name: str,
        kind: TensorType,
        block: str,
        inside: tuple[str, int] | None = None,
    ) -> None:
        """Declare the buffer ``space:name`` once; ``block`` is the loop IR's memory space."""
        key = f"{space}:{name}"
        parent, offset = inside if inside is not None else (None, 0)
        self.layout.setdefault(key, Buffer(key, kind.dtype, kind.shape, block, parent, offset))


def place(parameters: Sequence[Parameter]) -> tuple[tuple[Placed, ...], int]:
    """Lay trainable parameters out in path order, 64-byte aligned; return them and the size."""
    placed: list[Placed] = []
    offset = 0
    for parameter in parameters:
        size = parameter.type.size
        assert isinstance(size, int), "parameter sizes are never symbolic"
        step = ALIGN_BYTES // parameter.type.dtype.bytes
        placed.append(Placed(parameter, offset, size))
        offset += -(-size // step) * step
    return tuple(placed), offset


def assemble(model: Model, recipe: Recipe | None) -> Assembly:
    """Build every entry of a program: infer and evaluate, and with a recipe those of training."""
    model, recipe = expanded(model, recipe)
    out = Assembly(model)
    _declare_model(out)
    facts = tuple(f for r in model.requirements for f in r.facts)
    out.graphs["init"] = _init(out)
    if model.inference.outputs:
        results = [Output("output", o.name, o.node) for o in model.inference.outputs]
        for o in model.inference.outputs:
            out.add("output", o.name, o.node.type, "output")
        out.graphs["infer"] = Graph("infer", tuple(results), facts)
    if model.inference.losses or model.inference.metrics:
        _evaluation(out, facts)
    if recipe is not None and model.training.losses:
        _training(out, recipe, facts)
    return out


def _declare_model(out: Assembly) -> None:
    model = out.model
    trainable = sorted((p for p in model.parameters if p.trainable), key=lambda p: p.path)
    out.placed, total = place(trainable)
    block = TensorType(model.precision, (total,))
    if out.placed:
        out.add("state", "*trainable", block, "state")
        out.add("gradient", "*", block, "state")
    for item in out.placed:
        path, kind = item.parameter.path, item.parameter.type
        out.add("state", path, kind, "state", ("state:*trainable", item.offset))
        out.add("gradient", path, kind, "state", ("gradient:*", item.offset))
    for parameter in model.parameters:
        out.add("state", parameter.path, parameter.type, "state")
    for port in model.ports:
        out.add("input", port.name, port.type, "input")
    out.add("system", "seed", TensorType(DType.U64), "state")
    out.add("system", "step", TensorType(DType.I64), "state")
    out.add("system", "row", TensorType(DType.I64), "state")


# ------------------------------------------------------------------------------------- init


def _init(out: Assembly) -> Graph:
    return Graph("init", tuple(Output("state", p.path, p.init) for p in out.model.parameters))


def _reset(out: Assembly, recipe: Recipe) -> Graph | None:
    """Give every optimizer slot its first value; None where there is no slot."""
    results = [
        Output("state", f"{u.path}:{slot.name}", slot.init)
        for u in recipe.updates
        if not _blockwise(out, u)
        for slot in u.slots
    ]
    zero = build.full((), 0, DType.I64)
    results += [Output("system", s.entry("step"), zero) for s in recipe.steps if s.name]
    for segment in (s for step in recipe.steps for s in segments(out, step.updates)):
        for slot in segment.updates[0].slots:
            flat = flatten([slot.init], _shape(segment.updates[0]), segment.size, {})
            assert flat is not None, "the first value of an elementwise slot is elementwise"
            results.append(Output("state", segment.slot(slot.name), flat[0]))
    return Graph("reset", tuple(results)) if results else None


# ------------------------------------------------------------------------------- evaluation


def _evaluation(out: Assembly, facts: tuple[Size, ...]) -> None:
    mode, batch = out.model.inference, out.model.batch
    partials: list[Output] = []
    finals: list[Output] = []
    summaries: list[Summary] = []
    named = [("loss", n) for n in mode.losses] + [("metric", n) for n in mode.metrics]
    for kind, item in named:
        summary = _summarise(out, kind, item, batch, partials, finals)
        summaries.append(summary)
    for o in (*partials, *finals):
        out.add(o.space, o.name, o.node.type, "output")
    out.graphs["evaluate"] = Graph("evaluate", tuple(partials), facts)
    if finals:
        out.graphs["finish"] = Graph("finish", tuple(finals), facts)
    out.summaries = tuple(summaries)


def _summarise(
    out: Assembly,
    kind: str,
    item: Named,
    batch: str | None,
    partials: list[Output],
    finals: list[Output],
) -> Summary:
    key = f"{kind}.{item.name}"
    split = _divided(out, kind, item, batch) if batch is not None else None
    if split is None:
        partials.append(Output("partial", f"{key}.0", item.node))
        return Summary(item.name, kind, ("add",), by_rows=True)
    renamed: dict[Leaf, Leaf] = {}
    for number, part in enumerate(split.partials):
        partials.append(Output("partial", f"{key}.{number}", part.node))
        renamed[Leaf("partial", str(number))] = Leaf("total", f"{key}.{number}")
        out.add("total", f"{key}.{number}", part.node.type, "input")
    finals.append(Output(kind, item.name, rename_leaves([split.final], renamed)[0]))
    return Summary(item.name, kind, tuple(part.combine for part in split.partials))


def _divided(out: Assembly, kind: str, item: Named, batch: str) -> Split | None:
    """Cut a loss or metric at its reductions over the batch; None for a loss that has no such cut.

    Raises SourceError for a metric.
    """
    try:
        return split_batch(item.node, batch)
    except NotSplittable as fault:
        if kind == "metric":
            raise SourceError([_not_divisible(item, fault, batch)]) from None
        out.notes.append(
            f"loss {item.name} does not divide over batches ({fault.reason}): over a split it is "
            "the average of its batches' values, weighted by their rows"
        )
        return None


def _not_divisible(item: Named, fault: NotSplittable, batch: str) -> Diagnostic:
    return Diagnostic(
        code="E0501",
        message=f"metric {item.name} cannot be put together from batches",
        span=fault.node.span or item.span,
        label=fault.reason,
        related=((item.span, f"metric {item.name}"),) if item.span is not None else (),
        notes=(f"reductions over {batch} run over the whole split, so none may need another",),
        hint="compute what the inner reduction gives as a metric of its own",
    )


# --------------------------------------------------------------------------------- training


def _training(out: Assembly, recipe: Recipe, facts: tuple[Size, ...]) -> None:
    out.turns = tuple(Turn(s.name, s.times, s.minimize) for s in recipe.steps)
    for loss in out.model.training.losses:
        out.add("loss", loss.name, loss.node.type, "output")
    for step in recipe.steps:
        name = step.entry("gradient")
        out.graphs[name] = Graph(name, _gradient(out, recipe, step, facts), facts)
        name = step.entry("update")
        out.graphs[name] = Graph(name, _update(out, step))
    reset = _reset(out, recipe)
    if reset is not None:
        out.graphs["reset"] = reset
    decay = recipe.settings.get("ema")
    if decay is not None and out.placed:
        block = out.layout["state:*trainable"]
        kind = TensorType(block.dtype, block.extents)
        out.add("state", "*ema", kind, "state")
        out.graphs["average"] = average(kind, float(decay))
    _accumulation(out)
    add_epoch(out, recipe)


def _gradient(
    out: Assembly, recipe: Recipe, step: Step, facts: tuple[Size, ...]
) -> tuple[Output, ...]:
    """Losses of a step, their gradients by what it moves, and the new values of buffers."""
    mode = out.model.training
    losses = [n for n in mode.losses if n.name in step.minimize]
    moved = {u.path for u in step.updates}
    placed = [p for p in out.placed if p.parameter.path in moved]
    goal = add_all([n.node for n in losses])
    regularised = recipe.settings.get("regularize_node")
    if regularised is not None:
        goal = build.elementwise("add", goal, regularised)
    found = gradients_of(goal, [leaf_of(p) for p in placed], facts)
    return (
        *(Output("loss", n.name, n.node) for n in losses),
        *(Output("gradient", p.parameter.path, g) for p, g in zip(placed, found, strict=True)),
        *(Output("state", u.name, u.node) for u in mode.updates if u.name in step.buffers),
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring trainable parameters that share one elementwise rule."""

    updates: tuple[Update, ...]
    offset: int
    size: int

    def name(self) -> str:
        """The segment's name within the blocks that share the trainables' layout."""
        return f"*{self.offset}+{self.size}"

    def slot(self, name: str) -> str:
        """The name of this segment's part of the block of an optimizer slot."""
        return f"*slot.{name}{self.name()}"


def segments(out: Assembly, updates: Sequence[Update]) -> list[Segment]:
    """Group parameters in block order into runs that one loop can update."""
    by_path = {u.path: u for u in updates}
    rows = [(item, by_path.get(item.parameter.path)) for item in out.placed]
    end = {a.offset: b.offset for a, b in zip(out.placed, out.placed[1:], strict=False)}
    found: list[Segment] = []

    def rule(row: tuple[Placed, Update | None]) -> str:
        update = row[1]
        return update.rule if update is not None and _blockwise(out, update) else ""

    for key, group in groupby(rows, rule):
        members = list(group)
        if not key:
            continue
        first, last = members[0][0], members[-1][0]
        stop = end.get(last.offset, last.offset + last.size)
        chosen = tuple(u for _, u in members if u is not None)
        found.append(Segment(chosen, first.offset, stop - first.offset))
    return found


def _blockwise(out: Assembly, update: Update) -> bool:
    return update.elementwise and _shape(update) != ()


def _shape(update: Update) -> tuple[Size, ...]:
    return update.new_weight.type.shape


def _update(out: Assembly, step: Step) -> tuple[Output, ...]:
    results: list[Output] = []
    clip = step.clip_norm
    scale = _clip_scale(out, step, clip) if clip is not None else None
    blocks = segments(out, step.updates)
    for segment in blocks:
        results += _segment_update(out, segment, scale)
    together = {u.path for s in blocks for u in s.updates}
    for update in step.updates:
        if update.path not in together:
            results += _single_update(out, update, scale)
    one = build.full((), 1, DType.I64)
    for name in dict.fromkeys(("step", step.entry("step"))):
        count = build.leaf("system", name, TensorType(DType.I64))
        out.add("system", name, count.type, "state")
        results.append(Output("system", name, build.elementwise("add", count, one)))
    return tuple(results)


def _segment_update(out: Assembly, segment: Segment, scale: Node | None) -> list[Output]:
    update, inside = segment.updates[0], (segment.name(), segment.offset)
    kind = TensorType(update.new_weight.type.dtype, (segment.size,))
    out.add("state", f"*trainable{inside[0]}", kind, "state", ("state:*trainable", segment.offset))
    out.add("gradient", inside[0], kind, "state", ("gradient:*", segment.offset))
    leaves = {
        Leaf("state", update.path): Leaf("state", f"*trainable{inside[0]}"),
        Leaf("gradient", update.path): Leaf("gradient", inside[0]),
    }
    total = out.layout["state:*trainable"].extents
    names: list[str] = []
    for slot in update.slots:
        block = f"*slot.{slot.name}"
        out.add("state", block, TensorType(slot.type.dtype, total), "state")
        name = segment.slot(slot.name)
        flat = TensorType(slot.type.dtype, (segment.size,))
        out.add("state", name, flat, "state", (f"state:{block}", segment.offset))
        leaves[Leaf("state", f"{update.path}:{slot.name}")] = Leaf("state", name)
        names.append(name)
    out.slots = tuple(dict.fromkeys((*out.slots, *(f"*slot.{s.name}" for s in update.slots))))
    roots = [update.new_weight, *(n.node for n in update.new_slots)]
    flat_nodes = flatten(roots, _shape(update), segment.size, leaves)
    assert flat_nodes is not None, "an elementwise update reads only its own place"
    nodes = scale_gradients(flat_nodes, scale)
    targets = [f"*trainable{inside[0]}", *(segment.slot(n.name) for n in update.new_slots)]
    return [Output("state", t, n) for t, n in zip(targets, nodes, strict=True)]


def _single_update(out: Assembly, update: Update, scale: Node | None) -> list[Output]:
    for slot in update.slots:
        out.add("state", f"{update.path}:{slot.name}", slot.type, "state")
        out.slots = (*out.slots, f"{update.path}:{slot.name}")
    roots = [update.new_weight, *(n.node for n in update.new_slots)]
    nodes = scale_gradients(roots, scale)
    targets = [update.path, *(f"{update.path}:{n.name}" for n in update.new_slots)]
    return [Output("state", t, n) for t, n in zip(targets, nodes, strict=True)]


def _clip_scale(out: Assembly, step: Step, limit: float) -> Node:
    """Return min(1, limit / (norm + 1e-6)) of the norm over all of a step's gradients together.

    Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    block = out.layout["gradient:*"]
    kind = TensorType(block.dtype, block.extents)
    leaves = [build.leaf("gradient", "*", kind)]
    if len(step.updates) < len(out.placed):  # the block holds what other steps left, too
        leaves = [build.leaf("gradient", u.path, u.new_weight.type) for u in step.updates]
    squares = [build.elementwise("mul", g, g) for g in leaves]
    sums = [build.reduce(s, tuple(range(s.type.rank)), "sum") for s in squares]
    norm = build.elementwise("sqrt", add_all(sums))

    def number(value: float) -> Node:
        return build.full((), value, block.dtype)

    safe = build.elementwise("add", norm, number(1e-6))
    return build.elementwise("min", number(1.0), build.elementwise("div", number(limit), safe))


def scale_gradients(roots: Sequence[Node], scale: Node | None) -> list[Node]:
    """Return ``roots`` with every gradient leaf multiplied by the scalar ``scale``."""
    if scale is None:
        return list(roots)
    done: dict[Node, Node] = {}
    for node in postorder(roots):
        if isinstance(node.op, Leaf) and node.op.space == "gradient":
            done[node] = build.elementwise("mul", node, build.broadcast(scale, node.type.shape))
        else:
            done[node] = with_inputs(node, tuple(done[i] for i in node.inputs))
    return [done[root] for root in roots]


def _accumulation(out: Assembly) -> None:
    """Entries for gradients of several micro-batches: ``hold`` sums them, ``merge`` ends the sum.

    Both weigh this call's gradient by the scalar ``system:weight``; ``hold`` first multiplies
    what it has by ``system:keep`` (0 begins a new sum).
    """
    if not out.placed:
        return
    block = out.layout["gradient:*"]
    kind, scalar = TensorType(block.dtype, block.extents), TensorType(block.dtype)
    out.add("gradient", "*held", kind, "state")
    out.add("system", "weight", scalar, "state")
    out.add("system", "keep", scalar, "state")

    def spread(name: str) -> Node:
        return build.broadcast(build.leaf("system", name, scalar), kind.shape)

    new = build.elementwise("mul", build.leaf("gradient", "*", kind), spread("weight"))
    held = build.leaf("gradient", "*held", kind)
    kept = build.elementwise("mul", held, spread("keep"))
    # 0 * NaN is NaN: what an abandoned sum left must not reach the next one
    zero = build.full(kind.shape, 0.0, block.dtype)
    fresh = build.elementwise("eq", spread("keep"), zero)
    kept = build.elementwise("select", fresh, zero, kept)
    hold = Output("gradient", "*held", build.elementwise("add", kept, new))
    merge = Output("gradient", "*", build.elementwise("add", held, new))
    out.graphs["hold"] = Graph("hold", (hold,))
    out.graphs["merge"] = Graph("merge", (merge,))


# ---------------------------------------------------------------------------------- helpers


def leaf_of(item: Placed) -> Node:
    """Return the leaf that a placed parameter is read through."""
    return build.leaf("state", item.parameter.path, item.parameter.type)
