"""Builds graph nodes: what passes and tests would otherwise write out as forms by hand.

Shapes must fit exactly; every function raises ValueError where they do not, and
``ScalarTypeError`` (a ValueError too) where the element types do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from nnc.ir import scalar
from nnc.ir.expr import Const, Expr, Loaded, Number, Position, Read, loads_in, map_operands, walk
from nnc.ir.graph import REDUCTIONS, Form, Leaf, Literal, Node, Reshape
from nnc.ir.index import Atom, Poly, Size, axis, substitute_atoms
from nnc.ir.span import Span
from nnc.ir.types import DType, TensorType

Axes = Sequence[tuple[str, Size]]


def leaf(space: str, name: str, type: TensorType, span: Span | None = None) -> Node:
    """Return the tensor that the graph is given under ``space`` and ``name``."""
    return Node(Leaf(space, name), (), type, span, name)


def literal(
    values: Iterable[Number], shape: Sequence[Size], dtype: DType, span: Span | None = None
) -> Node:
    """Return a constant tensor of row-major ``values``."""
    return Node(Literal(tuple(values)), (), TensorType(dtype, tuple(shape)), span)


def read(node: Node, operand: int, *index: Size, outside: Number | None = None) -> Read:
    """Return the read of ``node``, operand number ``operand``, at ``index``."""
    if len(index) != node.type.rank:
        raise ValueError(f"{len(index)} subscripts for {node.type}")
    return Read(operand, index, node.type.dtype, outside)


def loaded(node: Node, operand: int, *index: Size) -> Poly:
    """Return a whole number of ``node`` for use in a subscript."""
    if not node.type.dtype.is_int:
        raise ValueError(f"a subscript of type {node.type.dtype}")
    return Loaded(read(node, operand, *index)).as_poly()


def form(
    axes: Axes,
    out: Sequence[Size],
    body: Expr,
    inputs: Sequence[Node],
    shape: Sequence[Size],
    *,
    reduce: str = "none",
    where: Expr | None = None,
    dtype: DType | None = None,
    drops: bool = False,
    span: Span | None = None,
    name: str = "",
) -> Node:
    """Return an index form. Operands that are the same node become one; unread ones go.

    ``dtype`` is the result's, by default the body's (i32 for argmax and argmin).
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"no reduction {reduce!r}")
    if dtype is None:
        dtype = DType.I32 if reduce in ("argmax", "argmin") else body.dtype
    made = Form(tuple(axes), tuple(out), reduce, body, where, drops)
    tidy, kept = tidy_operands(made, inputs)
    return Node(tidy, kept, TensorType(dtype, tuple(shape)), span, name)


def tidy_operands(made: Form, inputs: Sequence[Node]) -> tuple[Form, tuple[Node, ...]]:
    """Renumber operands by first use, joining equal nodes and leaving out what is not read."""
    order = list(dict.fromkeys(_operands(made)))
    if order == list(range(len(inputs))) and len(set(inputs)) == len(inputs):
        return made, tuple(inputs)
    number: dict[Node, int] = {}
    for operand in order:
        number.setdefault(inputs[operand], len(number))

    def renumber(operand: int) -> int:
        return number[inputs[operand]]

    def change(atom: Atom) -> Size:
        if isinstance(atom, Loaded):
            operand = renumber(atom.read.operand)
            index = tuple(substitute_atoms(i, change) for i in atom.read.index)
            return Loaded(replace(atom.read, operand=operand, index=index)).as_poly()
        return atom.rebuild(change)

    tidy = replace(
        made,
        out=tuple(substitute_atoms(i, change) for i in made.out),
        body=map_operands(made.body, renumber),
        where=None if made.where is None else map_operands(made.where, renumber),
    )
    return tidy, tuple(number)


def _operands(made: Form) -> Iterator[int]:
    """Yield operand numbers in the order in which the text of the form shows them."""
    for size in made.out:
        yield from (load.read.operand for load in loads_in(size))
    for expr in (made.where, made.body):
        for e in () if expr is None else walk(expr):
            index: tuple[Size, ...] = ()
            match e:
                case Position(at):
                    index = (at,)
                case Read(operand, index):
                    yield operand
            for size in index:
                yield from (load.read.operand for load in loads_in(size))


def axes_for(shape: Sequence[Size], prefix: str = "i") -> list[tuple[str, Size]]:
    """Return one axis per dim, named ``i0``, ``i1``, ..."""
    return [(f"{prefix}{k}", size) for k, size in enumerate(shape)]


def subscripts(axes: Axes) -> tuple[Poly, ...]:
    """Return the axes themselves as subscripts."""
    return tuple(axis(name) for name, _ in axes)


def elementwise(
    op: str | Callable[..., Expr], *nodes: Node, span: Span | None = None, name: str = ""
) -> Node:
    """Apply a scalar op, or a function of expressions, to tensors of one shape.

    Tensors of rank 0 go with every element.
    """
    shape = max((n.type.shape for n in nodes), key=len)
    axes = axes_for(shape)
    here = subscripts(axes)
    for node in nodes:
        if node.type.shape not in (shape, ()):
            raise ValueError(f"{node.type} does not have the shape {shape}")
    args = [read(n, k, *(here if n.type.shape else ())) for k, n in enumerate(nodes)]
    body = scalar.apply(op, *args) if isinstance(op, str) else op(*args)
    return form(axes, here, body, nodes, shape, span=span, name=name)


def cast(node: Node, dtype: DType) -> Node:
    """Return ``node`` converted to ``dtype``; itself where it is so already."""
    if node.type.dtype is dtype:
        return node
    return elementwise(lambda x: scalar.cast(x, dtype), node, span=node.span)


def full(shape: Sequence[Size], value: Number, dtype: DType, span: Span | None = None) -> Node:
    """Return a tensor of one value."""
    axes = axes_for(shape)
    return form(axes, subscripts(axes), Const(value, dtype), (), shape, span=span)


def reduce(
    node: Node, axes: Iterable[int], kind: str, *, keep: bool = False, span: Span | None = None
) -> Node:
    """Reduce over the dims ``axes`` of ``node``; ``keep`` leaves dims of size 1."""
    gone = set(axes)
    box = axes_for(node.type.shape)
    here = subscripts(box)
    kept = [k for k in range(len(box)) if keep or k not in gone]
    out = [0 if k in gone else here[k] for k in kept]
    shape = [1 if k in gone else box[k][1] for k in kept]
    return form(box, out, read(node, 0, *here), (node,), shape, reduce=kind, span=span)


def broadcast(node: Node, shape: Sequence[Size], span: Span | None = None) -> Node:
    """Repeat ``node`` to ``shape``: its dims are the last of ``shape``, or 1 there."""
    own = node.type.shape
    axes = axes_for(shape)
    here = subscripts(axes)
    index: list[Size] = []
    if len(own) > len(shape):
        raise ValueError(f"{node.type} does not stretch to {tuple(shape)}")
    for size, wanted, at in zip(
        own, shape[len(shape) - len(own) :], here[-len(own) :] if own else (), strict=True
    ):
        if size not in (wanted, 1):
            raise ValueError(f"{node.type} does not stretch to {tuple(shape)}")
        index.append(at if size == wanted else 0)
    return form(axes, here, read(node, 0, *index), (node,), shape, span=span)


def transpose(node: Node, order: Sequence[int], span: Span | None = None) -> Node:
    """Permute dims: dim k of the result is dim ``order[k]`` of ``node``."""
    if sorted(order) != list(range(node.type.rank)):
        raise ValueError(f"{tuple(order)} is not an order of the dims of {node.type}")
    axes = axes_for([node.type.shape[k] for k in order])
    place = {dim: name for (name, _), dim in zip(axes, order, strict=True)}
    index = [axis(place[k]) for k in range(node.type.rank)]
    shape = [size for _, size in axes]
    return form(axes, subscripts(axes), read(node, 0, *index), (node,), shape, span=span)


def reshape(node: Node, shape: Sequence[Size], span: Span | None = None) -> Node:
    """Give the same elements another shape of the same size."""
    type = TensorType(node.type.dtype, tuple(shape))
    if type.size != node.type.size:
        raise ValueError(f"{node.type} has not the size of {type}")
    return node if type == node.type else Node(Reshape(), (node,), type, span)


def contract(spec: str, *nodes: Node, span: Span | None = None) -> Node:
    """Sum products as in ``contract("bik,bkj->bij", x, y)``; one letter per dim."""
    inside, _, result = spec.partition("->")
    sizes: dict[str, Size] = {}
    terms: list[Expr] = []
    for k, (letters, node) in enumerate(zip(inside.split(","), nodes, strict=True)):
        for letter, size in zip(letters, node.type.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"{letter} of {spec} is both {sizes[letter]} and {size}")
        terms.append(read(node, k, *(axis(letter) for letter in letters)))
    body = terms[0]
    for term in terms[1:]:
        body = scalar.mul(body, term)
    summed = sorted(set(sizes) - set(result), key=list(sizes).index)
    axes = [(letter, sizes[letter]) for letter in (*result, *summed)]
    shape = [sizes[letter] for letter in result]
    out = [axis(letter) for letter in result]
    return form(axes, out, body, nodes, shape, reduce="sum" if summed else "none", span=span)


def gather(table: Node, ids: Node, span: Span | None = None) -> Node:
    """Return rows of ``table`` (its first dim) by the whole numbers ``ids``."""
    axes = axes_for((*ids.type.shape, *table.type.shape[1:]))
    here = subscripts(axes)
    row = loaded(ids, 1, *here[: ids.type.rank])
    body = read(table, 0, row, *here[ids.type.rank :])
    return form(axes, here, body, (table, ids), [size for _, size in axes], span=span)
