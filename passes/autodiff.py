"""Reverse-mode autodiff, graph to graph.

The rule for a form is an exchange of maps. Where ``Y[O(t)] += body(X[A(t)], ...)``, each value
read of ``X`` gives ``dX[A(t)] += dY[O(t)] * d body / d X[A(t)]`` over the same box and filter: a
form again, so gradients nest. Only the tensors between ``wrt`` and the result are visited.

The scheme is reverse accumulation (Griewank and Walther, *Evaluating Derivatives*, 2008); the
exchange of maps is that of index notation, e.g. Laue, Mitterreiter and Giesen, *A Simple and
Efficient Tensor Calculus* (2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nnc.ir.build import full
from nnc.ir.expr import Apply, Const, Expr, Read
from nnc.ir.graph import (
    Custom,
    Form,
    Leaf,
    Literal,
    Node,
    Reshape,
    Scan,
    postorder,
    with_inputs,
)
from nnc.ir.index import Size, axis
from nnc.ir.regions import Item, Region, regions
from nnc.ir.scalar import make
from nnc.ir.types import DType, TensorType
from nnc.passes.adjoint import adjoints, differentiable_reads
from nnc.passes.cotangents import Key, NotDifferentiable, Sums, derived, key_of
from nnc.passes.forms import (
    conjunction,
    conjuncts,
    element,
    form_node,
    is_empty,
    owns,
    reduced_axes,
    tidy,
)
from nnc.passes.loops import Substitution
from nnc.passes.through_loop import through_loop

__all__ = ["NotDifferentiable", "erase", "gradients", "reaches", "vjp", "without_gradient_ops"]


def gradients(loss: Node, wrt: Sequence[Node], facts: Iterable[Size] = ()) -> list[Node]:
    """Return the gradient of the float scalar ``loss`` by each of ``wrt``, of that tensor's type.

    ``wrt`` may hold leaves, which stand for every leaf of the same space and name, and inner
    nodes. A tensor that ``loss`` does not depend on gets zeros (see ``reaches``). ``facts`` are
    sizes known to be at least 0.

    Raises ValueError where ``loss`` is not a float scalar, ``NotDifferentiable`` as ``vjp`` does.
    """
    if loss.type.shape != () or not loss.type.dtype.is_float:
        raise ValueError(f"the gradient of a {loss.type}: a float scalar is needed")
    return vjp([(loss, full((), 1, loss.type.dtype, loss.span))], wrt, facts)


def vjp(
    outputs: Sequence[tuple[Node, Node]], wrt: Sequence[Node], facts: Iterable[Size] = ()
) -> list[Node]:
    """Return the vector-Jacobian product by each of ``wrt``.

    ``outputs`` are pairs of a tensor and its cotangent (of the same type). Raises
    ``NotDifferentiable`` for a ``max``, ``min`` or ``prod`` of which several points may share an
    element of a scatter, and ValueError for a cotangent of another type.
    """
    for node, cotangent in outputs:
        if node.type != cotangent.type:
            raise ValueError(f"a cotangent of type {cotangent.type} for a {node.type}")
    known = tuple(facts)
    order = postorder(node for node, _ in outputs)
    targets = {key_of(w) for w in wrt}
    active = _active(order, targets)
    sums = Sums()
    for node, cotangent in outputs:
        sums.give(node, cotangent)
    _reverse(regions((node for node, _ in outputs), inside=True).items, sums, active, known)
    return [sums.total(w) or full(w.type.shape, 0, w.type.dtype, w.span) for w in wrt]


def _reverse(items: Sequence[Item], sums: Sums, active: set[Node], known: tuple[Size, ...]) -> None:
    """Walk backwards, handing on what each tensor was given."""
    for item in reversed(items):
        if isinstance(item, Region):
            for operand, contribution in through_loop(item, sums, active, known, _reverse):
                sums.give(operand, contribution)
            continue
        total = sums.total(item)
        if total is not None and item in active:
            for operand, contribution in _contributions(item, total, active, known):
                sums.give(operand, contribution)


def reaches(outputs: Iterable[Node], wrt: Sequence[Node]) -> list[bool]:
    """Whether a derivative path leads from any of ``outputs`` to each of ``wrt``."""
    pending = [node for node in outputs if node.type.dtype.is_float]
    met: set[Key] = set()
    seen: set[Node] = set()
    while pending:
        node = pending.pop()
        if node not in seen:
            seen.add(node)
            met.add(key_of(node))
            pending.extend(i for i in _sources(node) if i.type.dtype.is_float)
    return [key_of(w) in met for w in wrt]


def _active(order: Sequence[Node], targets: set[Key]) -> set[Node]:
    """The tensors that depend on ``targets`` through something that has a derivative."""
    carries: set[str] = set()
    while True:
        active: set[Node] = set()
        for node in order:
            if not node.type.dtype.is_float:
                continue
            carried = isinstance(node.op, Leaf) and node.op.name in carries
            if carried or key_of(node) in targets or any(i in active for i in _sources(node)):
                active.add(node)
        found = {
            f"{node.op.loop.name}.{c}"
            for node in order
            if isinstance(node.op, Scan)
            for c, *pair in zip(
                node.op.loop.carries, node.op.inits(node), node.op.nexts(node), strict=True
            )
            if any(n in active for n in pair)
        }
        if found == carries:
            return active
        carries = found


def _sources(node: Node) -> Iterator[Node]:
    """The operands by which ``node`` has a derivative."""
    match node.op:
        case Form() as form:
            operands = {r.operand for r in differentiable_reads(form.body)}
            yield from (node.inputs[k] for k in sorted(operands))
        case Reshape():
            yield node.inputs[0]
        case Custom(_, written):
            pairs = zip(node.inputs[1:], written, strict=True)
            yield from (i for i, gradient in pairs if gradient is not None)
        case Scan():
            yield from node.inputs
        case Leaf() | Literal():
            pass


def _contributions(
    node: Node, cotangent: Node, active: set[Node], known: tuple[Size, ...]
) -> Iterator[tuple[Node, Node]]:
    """Pairs of an active operand of ``node`` and a part of its cotangent."""
    match node.op:
        case Form() as form:
            yield from _through_form(node, form, cotangent, active, known)
        case Reshape():
            (source,) = node.inputs
            yield source, Node(Reshape(), (cotangent,), source.type, node.span, derived(source))
        case Custom(name, written):
            for source, gradient in zip(node.inputs[1:], written, strict=True):
                if gradient is not None and source in active:
                    yield source, _with_cotangent(gradient, name, cotangent)
        case Leaf() | Literal() | Scan():
            pass


def _with_cotangent(gradient: Node, name: str, cotangent: Node) -> Node:
    """The written derivative, with ``cotangent`` in the place of the leaf that stands for it."""
    place = Leaf("cotangent", name)
    leaves = [n for n in postorder([gradient]) if n.op == place]
    return Substitution(dict.fromkeys(leaves, cotangent))([gradient])[0]


# -------------------------------------------------------------------------------- one form


def _through_form(
    node: Node, form: Form, cotangent: Node, active: set[Node], known: tuple[Size, ...]
) -> Iterator[tuple[Node, Node]]:
    """Exchange the maps of one form: a form for each active value read of its body."""
    if is_empty(form):
        return
    operands = _Operands([*node.inputs])
    seed = _seed(form, cotangent, operands)
    if form.reduce in ("max", "min"):
        form = _chosen(node, form, operands, known)
    elif form.reduce == "prod":
        seed = _times_others(node, form, seed, operands, known)
    elif form.reduce not in ("none", "sum"):
        return
    found = adjoints(form.body, seed, lambda read: node.inputs[read.operand] in active)
    if form.reduce == "none" and form.drops is False:
        found = {r: _reuse(e, form, node, operands) for r, e in found.items()}
    for read, value in found.items():
        source = node.inputs[read.operand]
        exchanged = Form(form.axes, read.index, "sum", value, form.where, read.outside is not None)
        plain = tidy(exchanged, source.type.shape, known)
        yield source, form_node(plain, operands.nodes, source.type, node.span, derived(source))


@dataclass(slots=True)
class _Operands:
    """The operands that gradient forms may read; unused ones are dropped when a node is made."""

    nodes: list[Node]

    def add(self, node: Node) -> int:
        """Return the number under which ``node`` is read."""
        if node not in self.nodes:
            self.nodes.append(node)
        return self.nodes.index(node)

    def read(self, node: Node, index: tuple[Size, ...], outside: float | None = None) -> Read:
        """Return a read of ``node``."""
        return Read(self.add(node), index, node.type.dtype, outside)


def _seed(form: Form, cotangent: Node, operands: _Operands) -> Expr:
    """The cotangent at the point that the form stores to; 0 where the store was dropped."""
    if not form.drops:
        known = element(cotangent, form.out)
        if known is not None:
            return known
    return operands.read(cotangent, form.out, 0 if form.drops else None)


def _reuse(value: Expr, form: Form, node: Node, operands: _Operands) -> Expr:
    """Read the result where its own expression occurs in a derivative: ``exp`` is not redone."""
    if not isinstance(form.body, Apply):
        return value
    result: list[Expr] = []
    memo: dict[Expr, Expr] = {}

    def go(e: Expr) -> Expr:
        done = memo.get(e)
        if done is None:
            if e == form.body:
                if not result:
                    result.append(operands.read(node, form.out))
                done = result[0]
            elif isinstance(e, Apply):
                done = Apply(e.op, tuple(go(a) for a in e.args), e.dtype)
            else:
                done = e
            memo[e] = done
        return done

    return go(value)


def _chosen(node: Node, form: Form, operands: _Operands, known: tuple[Size, ...]) -> Form:
    """The sum over only those points that a ``max`` or ``min`` took: the first best of each."""
    _owned_by_result(node, form, known)
    free = reduced_axes(form)
    if not free:
        return replace(form, reduce="sum")
    kind = "argmax" if form.reduce == "max" else "argmin"
    places = form_node(
        replace(form, reduce=kind),
        node.inputs,
        TensorType(DType.I32, node.type.shape),
        node.span,
    )
    place: Size = 0
    for name, extent in free:
        place = place * extent + axis(name)
    best = operands.read(places, form.out, -1 if form.drops else None)
    taken = make.apply("eq", make.position(place, DType.I32), best)
    where = conjunction([*conjuncts(form.where), taken])
    return replace(form, reduce="sum", where=where)


def _owned_by_result(node: Node, form: Form, known: tuple[Size, ...]) -> None:
    """Refuse reductions whose elements several points of the result's own axes share."""
    if not owns(form, known):
        raise NotDifferentiable(
            node, f"the {form.reduce} of elements that several subscripts store to one place"
        )


def _times_others(
    node: Node, form: Form, seed: Expr, operands: _Operands, known: tuple[Size, ...]
) -> Expr:
    """The cotangent of one factor of a product: ``seed`` times the product of the others.

    In O(n), and right with zeros: with none, the product over the factor; with one, the product
    of the rest for that one and 0 for others; with more, 0. (A second derivative taken through
    this is right where no factor is 0.)
    """
    dtype = form.body.dtype
    zero, one = Const(0, dtype), Const(1, dtype)
    is_zero = make.apply("eq", form.body, zero)
    rest = form_node(
        replace(form, body=make.select(is_zero, one, form.body)), node.inputs, node.type, node.span
    )
    count = form_node(
        replace(
            form,
            reduce="sum",
            body=make.select(is_zero, Const(1, DType.I32), Const(0, DType.I32)),
        ),
        node.inputs,
        TensorType(DType.I32, node.type.shape),
        node.span,
    )
    outside = 0 if form.drops else None
    others = operands.read(rest, form.out, outside)
    zeros = operands.read(count, form.out, outside)
    none = make.apply("eq", zeros, Const(0, DType.I32))
    only = make.and_(make.apply("eq", zeros, Const(1, DType.I32)), is_zero)
    return make.select(
        none,
        make.mul(seed, make.div(others, form.body)),
        make.select(only, make.mul(seed, others), zero),
    )


# ---------------------------------------------------------------------------------- erasing


def erase(node: Node, inputs: tuple[Node, ...]) -> Node:
    """Drop what only autodiff needs: ``Custom``, ``stop_gradient`` and ``with_gradient``.

    For ``graph.Rebuilder``, once no more derivatives will be taken.
    """
    match node.op:
        case Custom():
            return inputs[0]
        case Form() as form:
            body = without_gradient_ops(form.body)
            where = None if form.where is None else without_gradient_ops(form.where)
            if body is not form.body or where is not form.where:
                form = replace(form, body=body, where=where)
                return form_node(form, inputs, node.type, node.span, node.name)
    return with_inputs(node, inputs)


def without_gradient_ops(expr: Expr) -> Expr:
    """Return ``expr`` with ``stop_gradient`` and ``with_gradient`` replaced by their values."""
    memo: dict[Expr, Expr] = {}

    def go(e: Expr) -> Expr:
        done = memo.get(e)
        if done is None:
            match e:
                case Apply("stop_gradient" | "with_gradient", (value, *_)):
                    done = go(value)
                case Apply(op, args, dtype):
                    new = tuple(go(a) for a in args)
                    same = all(a is b for a, b in zip(new, args, strict=True))
                    done = e if same else Apply(op, new, dtype)
                case _:
                    done = e
            memo[e] = done
        return done

    return go(expr)
