"""Splits a metric or loss over a whole data split into parts per batch and a last step.

The graph is cut at the reductions over the batch dim. Those parts are computed for each batch of
rows and combined across batches (a mean is a sum and a count); the rest follows once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nnc.ir.build import elementwise
from nnc.ir.expr import Apply, Expr, Loaded, Position, Read, reads, sizes_in, walk
from nnc.ir.graph import (
    Custom,
    Form,
    Leaf,
    Literal,
    Node,
    Reshape,
    Scan,
    form_loads,
    form_reads,
    form_sizes,
    postorder,
    with_inputs,
)
from nnc.ir.index import Atom, Size, axes_of, axis, dim, dims_of, substitute_atoms
from nnc.ir.regions import dependence
from nnc.ir.scalar import make
from nnc.passes.forms import axes_in, form_node

COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and"}


class NotSplittable(Exception):
    """A part of the graph that cannot be computed batch by batch: ``node``, and why."""

    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(reason)
        self.node = node
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Partial:
    """A tensor computed for each batch, and the scalar op that combines two batches' values."""

    node: Node
    combine: str


@dataclass(frozen=True, slots=True)
class Split:
    """``final`` reads the combined partial k as ``Leaf("partial", str(k))``.

    Where it mentions the batch dim by value, that is the number of rows of the whole split.
    """

    partials: tuple[Partial, ...]
    final: Node


def split_batch(node: Node, batch: str) -> Split:
    """Cut ``node`` (whose shape does not hold ``batch``) at its reductions over the dim ``batch``.

    Raises ``NotSplittable`` where a reduction over the batch is inside another, where rows of
    different places in the batch meet otherwise, or where ``node`` still has the batch dim.
    """
    order = postorder([node])
    _check_rows(node, order, batch)
    partials: list[Partial] = []
    done: dict[Node, Node] = {}
    for n in order:
        if batch in _shape_dims(n):
            continue
        form = n.op
        if isinstance(form, Form) and _batch_axes(form, batch):
            partial, factors = _without_batch_factors(n, form, batch)
            place = Leaf("partial", str(len(partials)))
            partials.append(Partial(partial, COMBINE[form.reduce]))
            done[n] = _with_factors(Node(place, (), n.type, n.span), factors, n)
        else:
            done[n] = with_inputs(n, tuple(done[i] for i in n.inputs))
    return Split(tuple(partials), done[node])


def _shape_dims(node: Node) -> frozenset[str]:
    return frozenset(d for size in node.type.shape for d in dims_of(size))


def _batch_axes(form: Form, batch: str) -> list[str]:
    return [name for name, extent in form.axes if batch in dims_of(extent)]


# -------------------------------------------------------------------------- legality


def _check_rows(root: Node, order: Sequence[Node], batch: str) -> None:
    """Raise unless every tensor with the batch dim holds, row by row, values of that row alone."""
    if batch in _shape_dims(root):
        raise NotSplittable(root, f"a value for each row of {batch}, not one for all")
    after: set[Node] = set()
    depends = dependence(order)
    for node in order:
        rows = batch in _shape_dims(node)
        inside = next((i for i in node.inputs if i in after), None)
        cut = isinstance(node.op, Form) and bool(_batch_axes(node.op, batch))
        if cut and not rows and depends[node]:
            raise NotSplittable(node, f"a reduction over {batch} in each turn of a scan")
        if inside is not None and (rows or cut):
            raise NotSplittable(node, f"a reduction over {batch} of what needs another")
        match node.op:
            case Form() as form:
                _check_form(node, form, batch)
            case Scan(loop) if batch in dims_of(loop.extent):
                raise NotSplittable(node, f"a scan over {batch}, each row after the others")
            case Reshape() if rows and not _leads(node, batch):
                raise NotSplittable(node, f"a reshape that moves rows of {batch}")
            case Leaf() | Literal() | Custom() | Reshape() | Scan():
                pass
        if inside is not None or (cut and not rows):
            after.add(node)


def _leads(node: Node, batch: str) -> bool:
    """Whether the batch is the slowest dim before and after a reshape."""
    return all(
        n.type.shape
        and batch in dims_of(n.type.shape[0])
        and not any(batch in dims_of(s) for s in n.type.shape[1:])
        for n in (node, *node.inputs)
    )


def _check_form(node: Node, form: Form, batch: str) -> None:
    names = _batch_axes(form, batch)
    rows = batch in _shape_dims(node)
    if len(names) > 1:
        raise NotSplittable(node, f"rows of {batch} are paired with one another")
    for read in _all_reads(form):
        source = node.inputs[read.operand]
        for i, size in zip(read.index, source.type.shape, strict=True):
            if batch in dims_of(size) and not (names and i == axis(names[0])):
                raise NotSplittable(node, f"a row of {batch} is read at another's place")
    if not names:
        return
    if rows:
        _check_row_of_result(node, form, names[0], batch)
    elif form.reduce not in COMBINE:
        raise NotSplittable(node, f"{form.reduce} over {batch} does not combine across batches")
    used = {a for s in _values(form) for a in axes_of(_without_loads(s))}
    if names[0] in used and not _reads_row(node):
        raise NotSplittable(node, f"the place of a row within {batch} is used as a number")
    if rows and any(batch in dims_of(s) for s in form_sizes(form)):
        raise NotSplittable(node, f"the size of {batch} is used for each row")


def _check_row_of_result(node: Node, form: Form, name: str, batch: str) -> None:
    for o, size in zip(form.out, node.type.shape, strict=True):
        if (batch in dims_of(size)) is not (o == axis(name)):
            raise NotSplittable(node, f"a row of {batch} is stored at another's place")


def _all_reads(form: Form) -> Iterator[Read]:
    yield from form_reads(form)
    yield from (load.read for load in form_loads(form))


def _values(form: Form) -> Iterator[Size]:
    """Subscripts whose number counts: those that are not the subscripts of reads or stores."""
    for expr in (form.body, form.where):
        if expr is not None:
            yield from (e.index for e in walk(expr) if isinstance(e, Position))


def _without_loads(size: Size) -> Size:
    """Return ``size`` with a dim in place of each integer loaded: its subscripts are no numbers."""

    def change(atom: Atom) -> Size:
        return dim("loaded") if isinstance(atom, Loaded) else atom.rebuild(change)

    return substitute_atoms(size, change)


def _reads_row(node: Node) -> bool:
    return any(i.op == Leaf("system", "row") for i in node.inputs)


# ------------------------------------------------------------------------------ factors


def _without_batch_factors(node: Node, form: Form, batch: str) -> tuple[Node, list[Apply]]:
    """Take factors that mention the size of the batch out of a sum: ``sum(x / n)``.

    Returns the sum of the rest, and each factor as the ``mul`` or ``div`` whose second operand it
    is.
    """
    factors: list[Apply] = []
    body = form.body
    while form.reduce == "sum":
        found = _batch_factor(body, batch)
        if found is None:
            break
        body, factor = found
        factors.append(factor)
    form = replace(form, body=body)
    if any(batch in dims_of(s) for s in form_sizes(form)):
        raise NotSplittable(node, f"the size of {batch} is used within a reduction over it")
    return form_node(form, node.inputs, node.type, node.span, node.name), factors


def _batch_factor(body: Expr, batch: str) -> tuple[Expr, Apply] | None:
    match body:
        case Apply("mul" | "div" as op, (a, b)):
            orders = [(a, b), (b, a)] if op == "mul" else [(a, b)]
            for rest, factor in orders:
                if _is_size(factor, batch):
                    return rest, Apply(op, (rest, factor), body.dtype)
    return None


def _is_size(expr: Expr, batch: str) -> bool:
    """Whether ``expr`` is made of dims and constants alone, the batch among them."""
    if any(True for _ in reads(expr)) or axes_in(expr):
        return False
    return any(batch in dims_of(s) for s in sizes_in(expr))


def _with_factors(node: Node, factors: Sequence[Apply], like: Node) -> Node:
    """Apply the factors that were taken out to the combined partial, innermost first."""
    for factor in reversed(factors):
        other = factor.args[1]

        def scaled(x: Expr, op: str = factor.op, other: Expr = other) -> Expr:
            return make.apply(op, x, other)

        node = elementwise(scaled, node, span=like.span, name=like.name)
    return node
