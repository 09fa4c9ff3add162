"""Graph IR: immutable tensors computed from one another, most of them by index forms.

A node is one tensor. Nodes refer to their operands directly and compare by identity; a graph is
a list of named outputs and whatever they reach. A pass rebuilds what it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias, Union

from nnc.ir.expr import Expr, Loaded, Read, loads_in, reads, sizes_in
from nnc.ir.index import Counter, Poly, Size, counters_of
from nnc.ir.span import Span
from nnc.ir.types import TensorType

REDUCTIONS = ("none", "sum", "prod", "max", "min", "any", "all", "argmax", "argmin")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor that a graph is given.

    ``space``: ``state`` (parameters, buffers, optimizer slots; named by path), ``input`` (inputs
    and targets), ``gradient`` (named by parameter path, or ``*`` for the whole flat block),
    ``system`` (``seed`` u64 scalar, ``step`` i64 scalar counting from 0, ``row`` i64 scalar: the
    place in the whole batch of this call's first row), ``data`` (whole arrays for ``steps``),
    ``carry`` (within a loop, what the turn before handed on).
    """

    space: str
    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant tensor: row-major elements as Python numbers."""

    values: tuple[int | float | bool, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """``out[O(t)] (+)= body(X1[A1(t)], X2[A2(t)], ...)`` for every t in a box where ``where``.

    ``axes`` are (name, extent), each from 0; an extent may hold dims. ``out`` gives one subscript
    per dim of the result. Elements that nothing is stored to hold the reduction's identity (0 for
    ``none``; the type's least and greatest for ``max`` and ``min``). ``none`` stores each element
    at most once. ``argmax`` and ``argmin`` give (as i32) the row-major place among the axes that
    ``out`` does not mention, in the order of ``axes``; the first best wins, NaN is best; of
    nothing, 0. With ``drops`` a store may fall outside the result and is then dropped; without
    it every store is proven inside, or holds loaded integers, which are checked as it runs.
    """

    axes: tuple[tuple[str, Size], ...]
    out: tuple[Size, ...]
    reduce: str
    body: Expr
    where: Expr | None = None
    drops: bool = False


@dataclass(frozen=True, slots=True)
class Reshape:
    """The same elements in row-major order under the node's shape; never copies."""


@dataclass(frozen=True, slots=True)
class Custom:
    """The value ``inputs[0]``, with a written derivative with respect to ``inputs[1:]``.

    ``gradients[k]`` is the cotangent of ``inputs[k + 1]`` as a graph over the same nodes and
    ``Leaf("cotangent", name)``, the cotangent of this node; None where there is none. Autodiff
    uses it in place of differentiating ``inputs[0]``; afterwards the node is its first input.
    """

    name: str
    gradients: tuple[Node | None, ...]


@dataclass(frozen=True, slots=True)
class Derivative:
    """The gradient of the float scalar ``inputs[0]`` by the tensor ``inputs[1]`` it is made from.

    ``passes/derivatives.py`` puts what computes it in its place, before any other pass.
    """


@dataclass(frozen=True, slots=True)
class Loop:
    """``extent`` turns of a body, with state that each turn hands to the next.

    ``name`` is the loop's alone, in all graphs that are used together. In the body, carry ``c`` is
    ``Leaf("carry", "name.c")`` and the number of the turn the atom ``Counter(name, extent)``; with
    ``reverse`` it runs down. ``until`` says that the loop was told when to end: it has no
    derivative.
    """

    name: str
    extent: Size
    carries: tuple[str, ...]
    reverse: bool = False
    until: bool = False

    @property
    def counter(self) -> Poly:
        """The number of the turn."""
        return Counter(self.name, self.extent).as_poly()


@dataclass(frozen=True, slots=True)
class Scan:
    """One result of a loop. All results of one loop are computed together.

    The operands are the first value of each carry, its value after a turn, and for ``stack`` what
    is stacked; the latter are the body, which is simply what depends on the carries and the
    counter. Whatever does not is outside, wherever it was written. ``result`` is

    - ``last``: the last value of ``carry`` (of no turns, the first);
    - ``stack``: the last operand of every turn, along a new first dim;
    - ``history``: ``carry`` before the turn t at t, and at ``extent`` its last value; with
      ``reverse`` before the turn t at t + 1, and at 0 the last.
    """

    loop: Loop
    result: str
    carry: str = ""

    def inits(self, node: Node) -> tuple[Node, ...]:
        """The first values of the carries."""
        return node.inputs[: len(self.loop.carries)]

    def nexts(self, node: Node) -> tuple[Node, ...]:
        """The values of the carries after a turn."""
        n = len(self.loop.carries)
        return node.inputs[n : 2 * n]

    def body(self, node: Node) -> tuple[Node, ...]:
        """What is computed in each turn for this result."""
        return node.inputs[len(self.loop.carries) :]


Op: TypeAlias = Union[Leaf, Literal, Form, Reshape, Custom, Derivative, Scan]  # noqa: UP007 - matched at run time


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One tensor: an operation, its operands, the result's type, and where it was written."""

    op: Op
    inputs: tuple[Node, ...]
    type: TensorType
    span: Span | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """A result of a graph.

    ``space`` and ``name`` as for ``Leaf``; results in the spaces ``output``, ``loss``, ``metric``
    and ``partial`` are handed to the caller.
    """

    space: str
    name: str
    node: Node


@dataclass(frozen=True, slots=True)
class Graph:
    """Named results and, through them, all that they need.

    ``facts`` are sizes known to be at least 0 at every call (from ``require``); symbolic dims are
    at least 1, since an empty batch is never run.
    """

    name: str
    outputs: tuple[Output, ...]
    facts: tuple[Size, ...] = ()

    def nodes(self) -> list[Node]:
        """All nodes, operands before their users."""
        return postorder(o.node for o in self.outputs)


@dataclass(slots=True)
class Rebuilder:
    """Rebuilds a graph bottom-up: ``change(node, new_inputs)`` gives the new node."""

    change: Callable[[Node, tuple[Node, ...]], Node]
    done: dict[Node, Node] = field(default_factory=dict)

    def __call__(self, graph: Graph) -> Graph:
        """Return ``graph`` with every node changed."""
        for node in graph.nodes():
            self.done[node] = self.change(node, tuple(self.done[i] for i in node.inputs))
        outputs = tuple(Output(o.space, o.name, self.done[o.node]) for o in graph.outputs)
        return Graph(graph.name, outputs, graph.facts)


def with_inputs(node: Node, inputs: tuple[Node, ...]) -> Node:
    """Return ``node`` reading ``inputs`` instead; itself where nothing differs."""
    if all(a is b for a, b in zip(node.inputs, inputs, strict=True)):
        return node
    return Node(node.op, inputs, node.type, node.span, node.name)


def postorder(roots: Iterable[Node]) -> list[Node]:
    """All nodes that ``roots`` reach, each once, operands before users, without recursion."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in roots:
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in seen:
                continue
            if ready:
                seen.add(node)
                order.append(node)
            else:
                stack.append((node, True))
                stack.extend((i, False) for i in reversed(node.inputs) if i not in seen)
    return order


def counters_in(node: Node) -> frozenset[str]:
    """The loops whose counter a node mentions itself."""
    if not isinstance(node.op, Form):
        return frozenset()
    sizes = (*form_sizes(node.op), *(n for _, n in node.op.axes))
    return frozenset[str]().union(*map(counters_of, sizes))


def form_sizes(form: Form) -> Iterator[Size]:
    """Every subscript of a form: of its result, its body and its filter."""
    yield from form.out
    yield from sizes_in(form.body)
    if form.where is not None:
        yield from sizes_in(form.where)


def form_reads(form: Form) -> Iterator[Read]:
    """Every value read of a form, in its body and its filter (not those inside subscripts)."""
    yield from reads(form.body)
    if form.where is not None:
        yield from reads(form.where)


def form_loads(form: Form) -> Iterator[Loaded]:
    """Every integer loaded inside a subscript of a form."""
    for size in form_sizes(form):
        yield from loads_in(size)
