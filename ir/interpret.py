"""The NumPy interpreter of graphs: slow, exact, and the oracle for everything else.

Floats are computed in their own type, operation by operation; only sums and products of a
reduction run in f64 and are rounded once. Whole numbers wrap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from nnc.ir import index as sizes
from nnc.ir.graph import (
    Custom,
    Derivative,
    Form,
    Graph,
    Leaf,
    Literal,
    Node,
    Reshape,
    Scan,
    postorder,
)
from nnc.ir.index import Dim, Poly, Size, dims_of
from nnc.ir.interpret_form import IndexFault, Operand, evaluate_form
from nnc.ir.regions import Region, regions
from nnc.ir.scalar import numbers

__all__ = ["IndexFault", "InterpretError", "bind_dims", "evaluate", "evaluate_nodes"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Leaves: TypeAlias = Mapping[tuple[str, str], Array]


class InterpretError(ValueError):
    """What a graph was given does not fit it."""


def evaluate(
    graph: Graph, leaves: Leaves, dims: Mapping[str, int] | None = None
) -> dict[tuple[str, str], Array]:
    """Compute every output of ``graph``, keyed by (space, name).

    ``leaves`` gives the array of each leaf, in the leaf's dtype (bf16 as u16 bits) and shape;
    ``dims`` the symbolic dims that the leaves' shapes do not tell. Raises InterpretError where
    they do not fit, and IndexFault where a subscript made from data falls outside its tensor.
    """
    bound = bind_dims(graph.nodes(), leaves, dims)
    for fact in graph.facts:
        if sizes.evaluate(fact, bound) < 0:
            raise InterpretError(f"{fact} >= 0 does not hold for {bound}")
    results = evaluate_nodes([o.node for o in graph.outputs], leaves, bound)
    return {(o.space, o.name): r for o, r in zip(graph.outputs, results, strict=True)}


def evaluate_nodes(
    nodes: Sequence[Node], leaves: Leaves, dims: Mapping[str, int] | None = None
) -> list[Array]:
    """Compute ``nodes``; otherwise as ``evaluate``."""
    order = postorder(nodes)
    bound = bind_dims(order, leaves, dims)
    needed = frozenset[str]().union(*(dims_of(s) for n in order for s in n.type.shape))
    if needed - bound.keys():
        raise InterpretError(f"no value for {', '.join(sorted(needed - bound.keys()))}")
    uses = Counter(i for node in order for i in node.inputs)
    uses.update(nodes)
    done: dict[Node, Array] = {}
    with np.errstate(all="ignore"):
        for item in regions(nodes).items:
            if isinstance(item, Region):
                _run(item, done, leaves, bound)
                gone = [*item.nodes(), *item.results]
            else:
                done[item] = _compute(item, done, leaves, bound)
                gone = [item]
            for node in gone:
                uses.subtract(node.inputs)
                for i in node.inputs:
                    if uses[i] == 0:
                        done.pop(i, None)
        return [np.array(numbers.encode(done[n], n.type.dtype)) for n in nodes]


def bind_dims(
    nodes: Sequence[Node], leaves: Leaves, dims: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Find the symbolic dims of leaves from the shapes of their arrays, beside the given ``dims``.

    A size of the form ``a * dim + b`` tells its dim. Raises InterpretError where shapes disagree.
    """
    bound = dict(dims or {})
    pending: list[tuple[Size, int, str]] = []
    for node in nodes:
        if isinstance(node.op, Leaf) and node.op.space != "carry":
            array = _leaf(node, leaves)
            if array.ndim != node.type.rank:
                raise InterpretError(f"{_name(node)} is {node.type}, not of shape {array.shape}")
            pending += (
                (s, n, _name(node)) for s, n in zip(node.type.shape, array.shape, strict=True)
            )
    while True:
        solved = [(s, n) for s, n, _ in pending if len(dims_of(s) - bound.keys()) == 1]
        found = dict(f for s, n in solved if (f := _solve(s, n, bound)) is not None)
        if not found:
            break
        bound.update(found)
    for size, extent, name in pending:
        if dims_of(size) <= bound.keys() and sizes.evaluate(size, bound) != extent:
            raise InterpretError(f"{name}: {extent} where {size} is {sizes.evaluate(size, bound)}")
    return bound


def _solve(size: Size, extent: int, bound: Mapping[str, int]) -> tuple[str, int] | None:
    """Solve ``size = extent`` for the one dim that is not bound, where it is linear."""
    (name,) = dims_of(size) - bound.keys()
    if not isinstance(size, Poly) or any(
        isinstance(a, sizes.FloorDiv | sizes.Mod) for a in size.atoms()
    ):
        return None
    if any(m.count(Dim(name)) > 1 for m, _ in size.terms):
        return None
    constant = sizes.evaluate(size, {**bound, name: 0})
    slope = sizes.evaluate(size, {**bound, name: 1}) - constant
    if slope == 0 or (extent - constant) % slope:
        return None
    return name, (extent - constant) // slope


def _run(region: Region, done: dict[Node, Array], leaves: Leaves, dims: Mapping[str, int]) -> None:
    """Run a loop and put its results into ``done``."""
    loop = region.loop
    assert loop is not None
    turns = sizes.evaluate(loop.extent, dims)
    carried = region.carried()
    state = {c: done[init] for c, (init, _) in carried.items()}
    history = [state]
    stacks: dict[Node, dict[int, Array]] = {r: {} for r in region.results}
    for t in reversed(range(turns)) if loop.reverse else range(turns):
        now = {**dims, loop.name: t}
        inner = {**leaves, **{("carry", f"{loop.name}.{c}"): v for c, v in state.items()}}
        for item in region.items:
            if isinstance(item, Region):
                _run(item, done, inner, now)
            else:
                done[item] = _compute(item, done, inner, now)
        state = {c: done[new] for c, (_, new) in carried.items()}
        history.append(state)
        for result, values in stacks.items():
            if isinstance(result.op, Scan) and result.op.result == "stack":
                values[t] = done[result.inputs[-1]]
    for result, values in stacks.items():
        assert isinstance(result.op, Scan)
        shape = tuple(sizes.evaluate(s, dims) for s in result.type.shape)
        match result.op.result:
            case "last":
                done[result] = state[result.op.carry]
            case "stack":
                slices = [values[t] for t in range(turns)]
                done[result] = _stacked(slices, shape, result)
            case _:
                slices = [h[result.op.carry] for h in history]
                done[result] = _stacked(slices[::-1] if loop.reverse else slices, shape, result)


def _stacked(slices: Sequence[Array], shape: tuple[int, ...], node: Node) -> Array:
    if not slices:
        return np.zeros(shape, numbers.computing(node.type.dtype))
    return np.stack(slices)


def _compute(
    node: Node, done: Mapping[Node, Array], leaves: Leaves, dims: Mapping[str, int]
) -> Array:
    type = node.type
    match node.op:
        case Leaf("carry"):
            return _leaf(node, leaves)
        case Leaf():
            array = _leaf(node, leaves)
            shape = tuple(sizes.evaluate(s, dims) for s in type.shape)
            if array.dtype != type.dtype.numpy or array.shape != shape:
                raise InterpretError(f"{_name(node)} is {type}, not {array.dtype}{array.shape}")
            return numbers.decode(array, type.dtype)
        case Literal(values):
            flat = [numbers.literal(v, type.dtype) for v in values]
            shape = tuple(sizes.evaluate(s, dims) for s in type.shape)
            return np.array(flat, numbers.computing(type.dtype)).reshape(shape)
        case Reshape():
            shape = tuple(sizes.evaluate(s, dims) for s in type.shape)
            return done[node.inputs[0]].reshape(shape)
        case Derivative():
            raise InterpretError(f"the derivative {_name(node)} is to be expanded first")
        case Custom():
            return done[node.inputs[0]]
        case Form() as form:
            operands = [Operand(done[i], i.type.dtype, _name(i)) for i in node.inputs]
            return evaluate_form(form, type, operands, dims, _name(node))
        case Scan():
            raise InterpretError("a loop's results are computed together")


def _leaf(node: Node, leaves: Leaves) -> Array:
    assert isinstance(node.op, Leaf)
    key = (node.op.space, node.op.name)
    if key not in leaves:
        raise InterpretError(f"nothing is given for {_name(node)}")
    return np.asarray(leaves[key])


def _name(node: Node) -> str:
    if isinstance(node.op, Leaf):
        return f"{node.op.space}:{node.op.name}"
    return node.name or str(node.type)
