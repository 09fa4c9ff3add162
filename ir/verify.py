"""Checks that a graph is well formed, inferring every type again.

Tests run it after every pass; ``bounds`` also proves again that no subscript leaves its tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod

from nnc.ir import index as sizes
from nnc.ir.expr import Apply, Const, Expr, Loaded, Number, Position, Read, loads_in, walk
from nnc.ir.graph import (
    REDUCTIONS,
    Custom,
    Derivative,
    Form,
    Graph,
    Leaf,
    Literal,
    Node,
    Reshape,
    Scan,
    form_loads,
    form_sizes,
)
from nnc.ir.index import Axis, Dim, FloorDiv, Mod, Poly, Size, axes_of, dims_of
from nnc.ir.prove import Facts, contradicts, facts_of, proves_less, proves_nonneg
from nnc.ir.regions import LoopError, regions
from nnc.ir.scalar import OPS, ScalarTypeError, result_type
from nnc.ir.text import everything, print_expr, print_node
from nnc.ir.types import DType, TensorType

MOST_POINTS = 512
"""Boxes of at most this many points are walked to see that no element is stored twice."""


class VerifyError(ValueError):
    """A malformed graph. The message shows the node at fault among its operands and users."""

    def __init__(self, reason: str, node: Node | None, listing: str) -> None:
        super().__init__(f"{reason}\n{listing}" if listing else reason)
        self.reason = reason
        self.node = node


class _Fault(Exception):
    """What is wrong with the node at hand."""


def verify(graph: Graph, *, bounds: bool = False) -> None:
    """Raise VerifyError unless ``graph`` is well formed and every type is what its op gives.

    With ``bounds``, subscripts that are neither guarded nor loaded are proven to lie inside from
    the box, the filter and ``graph.facts``; what is true but beyond the prover is refused too.
    """
    order = everything(graph)
    for node in order:
        try:
            verify_node(node, graph.facts, bounds=bounds)
        except _Fault as fault:
            raise VerifyError(str(fault), node, _around(node, order)) from None
    leaves: dict[Leaf, Node] = {}
    for node in order:
        if isinstance(node.op, Leaf) and leaves.setdefault(node.op, node).type != node.type:
            reason = f"the same leaf is {leaves[node.op].type} and {node.type}"
            raise VerifyError(reason, node, _around(node, order))
    _check_loops(graph, order)
    places = [(o.space, o.name) for o in graph.outputs]
    for place in places:
        if places.count(place) > 1:
            raise VerifyError(f"two outputs {place[0]}:{place[1]}", None, "")
    for fact in graph.facts:
        if not _only_dims(fact):
            raise VerifyError(f"the fact {fact} holds more than dims", None, "")


def verify_node(node: Node, known: tuple[Size, ...], *, bounds: bool) -> None:
    """Check one node, its operands taken as they are."""
    _check_type(node.type)
    count = len(node.inputs)
    match node.op:
        case Leaf():
            _require(count == 0, "a leaf has no operands")
        case Literal(values):
            _require(count == 0, "a literal has no operands")
            _check_literal(values, node.type)
        case Reshape():
            _require(count == 1, "a reshape has one operand")
            _check_reshape(node.inputs[0].type, node.type)
        case Derivative():
            _check_derivative(node)
        case Custom():
            _check_custom(node.op, node)
        case Scan() as scan:
            _check_scan(scan, node)
        case Form() as form:
            _Forms(form, [i.type for i in node.inputs], node.type).check(known, bounds)
        case other:
            raise _Fault(f"{other!r} is not an operation")


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise _Fault(reason)


def _only_dims(size: Size) -> bool:
    if isinstance(size, int):
        return True
    return all(isinstance(a, Dim | FloorDiv | Mod) for a in size.all_atoms())


def _check_type(type: TensorType) -> None:
    for size in type.shape:
        _require(_only_dims(size), f"the size {size} holds more than dims")
        _require(not isinstance(size, int) or size >= 0, f"the size {size} is negative")


def _check_literal(values: Sequence[Number], type: TensorType) -> None:
    _require(isinstance(type.size, int), f"a literal of the symbolic size {type.size}")
    _require(len(values) == type.size, f"{len(values)} values for {type}")
    for value in values:
        _check_number(value, type.dtype)


def _check_number(value: Number, dtype: DType) -> None:
    if dtype is DType.BOOL:
        _require(value in (0, 1), f"{value} is no truth value")
    elif dtype.is_int:
        bits = 8 * dtype.bytes
        unsigned = dtype.value.startswith("u")
        low, high = (0, 2**bits) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        fits = value == value and int(value) == value and low <= value < high  # noqa: PLR0124
        _require(fits, f"{value} is no {dtype}")


def _check_reshape(source: TensorType, target: TensorType) -> None:
    _require(source.dtype is target.dtype, f"a reshape of {source.dtype} to {target.dtype}")
    _require(source.size == target.size, f"{source} has {source.size} elements, not {target.size}")


def _check_custom(op: Custom, node: Node) -> None:
    _require(bool(node.inputs), "a custom node has a value")
    _require(node.inputs[0].type == node.type, f"{node.type} for a value {node.inputs[0].type}")
    _require(len(op.gradients) == len(node.inputs) - 1, "one gradient for each further operand")
    for source, gradient in zip(node.inputs[1:], op.gradients, strict=True):
        fits = gradient is None or gradient.type == source.type
        _require(fits, f"a gradient {gradient and gradient.type} for {source.type}")


def _check_derivative(node: Node) -> None:
    _require(len(node.inputs) == 2, "a derivative is of one tensor by another")
    y, x = (i.type for i in node.inputs)
    _require(y.shape == () and y.dtype.is_float, f"a derivative of {y}, no float scalar")
    _require(x.dtype.is_float and node.type == x, f"{node.type} for a derivative by {x}")


def _check_scan(scan: Scan, node: Node) -> None:
    loop = scan.loop
    n = len(loop.carries)
    stacks = scan.result == "stack"
    _require(scan.result in ("last", "stack", "history"), f"no result {scan.result!r}")
    _require(len(node.inputs) == 2 * n + stacks, f"{len(node.inputs)} operands of a loop")
    _require(_only_dims(loop.extent), f"the extent {loop.extent} holds more than dims")
    for name, first, new in zip(loop.carries, scan.inits(node), scan.nexts(node), strict=True):
        _require(first.type == new.type, f"{name} begins as {first.type} and becomes {new.type}")
    if stacks:
        last = node.inputs[-1].type
        expected = TensorType(last.dtype, (loop.extent, *last.shape))
    else:
        _require(scan.carry in loop.carries, f"the loop carries no {scan.carry}")
        expected = scan.inits(node)[loop.carries.index(scan.carry)].type
        if scan.result == "history":
            expected = TensorType(expected.dtype, (loop.extent + 1, *expected.shape))
    _require(node.type == expected, f"{node.type} where the {scan.result} is {expected}")


def _check_loops(graph: Graph, order: list[Node]) -> None:
    """Check that the loops are nested, and that carries have the types of their first values."""
    try:
        regions(o.node for o in graph.outputs)
    except LoopError as fault:
        raise VerifyError(str(fault), fault.node, _around(fault.node, order)) from None
    types: dict[str, TensorType] = {}
    for node in order:
        if isinstance(node.op, Scan):
            loop = node.op.loop
            for name, first in zip(loop.carries, node.op.inits(node), strict=True):
                types[f"{loop.name}.{name}"] = first.type
    for node in order:
        if isinstance(node.op, Leaf) and node.op.space == "carry":
            expected = types.get(node.op.name)
            if expected != node.type:
                reason = f"the carry {node.op.name} is {node.type}, its first value {expected}"
                raise VerifyError(reason, node, _around(node, order))


class _Forms:
    """The checks of one form."""

    def __init__(self, form: Form, operands: Sequence[TensorType], type: TensorType) -> None:
        self.form = form
        self.operands = operands
        self.type = type
        self.axes = {name for name, _ in form.axes}

    def check(self, known: tuple[Size, ...], bounds: bool) -> None:
        form = self.form
        _require(form.reduce in REDUCTIONS, f"no reduction {form.reduce!r}")
        _require(len(self.axes) == len(form.axes), "two axes of one name")
        for name, extent in form.axes:
            _require(_only_dims(extent), f"the extent {extent} of {name} holds more than dims")
        rank = self.type.rank
        _require(len(form.out) == rank, f"{len(form.out)} subscripts for a result of rank {rank}")
        for size in form_sizes(form):
            self.subscript(size)
        for expr in (form.body, form.where):
            for e in () if expr is None else walk(expr):
                self.expression(e)
        if form.where is not None:
            _require(form.where.dtype is DType.BOOL, f"a filter of type {form.where.dtype}")
        self.result()
        self.stores(known)
        if bounds:
            self.inside(known)

    def subscript(self, size: Size) -> None:
        """Check that axes are the box's and loaded integers are whole."""
        loose = axes_of(size) - self.axes
        _require(not loose, f"{size} is subscripted by {', '.join(sorted(loose))}, no axis")
        for load in loads_in(size):
            self.read(load.read)
            dtype = load.read.dtype
            _require(dtype.is_int, f"{size} is subscripted by an element of type {dtype}")
        for atom in size.all_atoms() if isinstance(size, Poly) else ():
            known = isinstance(atom, Axis | Dim | FloorDiv | Mod | Loaded)
            _require(known, f"{atom!r} in a subscript")

    def read(self, read: Read) -> None:
        count = len(self.operands)
        _require(0 <= read.operand < count, f"operand {read.operand} of {count}")
        source = self.operands[read.operand]
        text = f"{len(read.index)} subscripts into operand {read.operand}, {source}"
        _require(len(read.index) == source.rank, text)
        _require(read.dtype is source.dtype, f"a read of type {read.dtype} from {source}")
        if read.outside is not None:
            _check_number(read.outside, read.dtype)

    def expression(self, e: Expr) -> None:
        match e:
            case Const(value, dtype):
                _check_number(value, dtype)
            case Position(_, dtype):
                _require(dtype is not DType.BOOL, "a position of type bool")
            case Read():
                self.read(e)
            case Apply(op, args, dtype):
                _require(op in OPS, f"no scalar operation {op!r}")
                types = tuple(a.dtype for a in args)
                try:
                    inferred = result_type(op, types, dtype)
                except ScalarTypeError as error:
                    raise _Fault(f"{error}, in {self.shown(e)}") from None
                _require(inferred is dtype, f"{dtype} where {inferred} comes, in {self.shown(e)}")

    def shown(self, e: Expr) -> str:
        names = [f"#{k}" for k in range(len(self.operands))]
        return print_expr(e, names, self.axes)

    def result(self) -> None:
        """Check the element type of the result against the reduction and the body."""
        body, kind = self.form.body.dtype, self.form.reduce
        if kind in ("any", "all"):
            _require(body is DType.BOOL, f"{kind} of {body}")
        elif kind != "none":
            _require(body is not DType.BOOL, f"{kind} of bool")
        expected = DType.I32 if kind in ("argmax", "argmin") else body
        got = self.type.dtype
        _require(got is expected, f"a result of type {got} where {kind} gives {expected}")

    def stores(self, known: tuple[Size, ...]) -> None:
        """Refuse what surely stores an element twice without a reduction."""
        form = self.form
        if form.reduce != "none" or form.where is not None:
            return
        if any(extent == 0 for _, extent in form.axes):
            return
        mentioned = frozenset[str]().union(*(axes_of(i) for i in form.out))
        for name, extent in form.axes:
            single = name in mentioned or proves_nonneg(1 - extent, Facts(nonneg=known))
            _require(single, f"without a reduction, the result must mention {name} < {extent}")
        repeated = self.repeated()
        _require(repeated is None, f"the element {repeated} is stored twice without a reduction")

    def repeated(self) -> tuple[int, ...] | None:
        """Return an element that is stored twice, where the box is small and constant."""
        names = [name for name, _ in self.form.axes]
        extents = [extent for _, extent in self.form.axes if isinstance(extent, int)]
        varying = any(dims_of(i) or any(loads_in(i)) for i in self.form.out)
        if varying or len(extents) < len(names) or prod(extents) > MOST_POINTS:
            return None
        seen: set[tuple[int, ...]] = set()
        for point in product(*map(range, extents)):
            at = dict(zip(names, point, strict=True))
            element = tuple(sizes.evaluate(i, at) for i in self.form.out)
            if element in seen and self.lies_inside(element):
                return element
            seen.add(element)
        return None

    def lies_inside(self, element: tuple[int, ...]) -> bool:
        pairs = zip(element, self.type.shape, strict=True)
        return all(i >= 0 and (not isinstance(n, int) or i < n) for i, n in pairs)

    def inside(self, known: tuple[Size, ...]) -> None:
        """Prove that what is not guarded stays inside."""
        form = self.form
        everywhere, kept = Facts(form.axes, known), facts_of(form, known)
        if not form.drops:
            self.prove(form.out, self.type.shape, kept, "the store")
        for expr, facts in ((form.body, kept), (form.where, everywhere)):
            for e in () if expr is None else walk(expr):
                if isinstance(e, Read):
                    self.prove_read(e, facts)
        for load in form_loads(form):
            self.prove_read(load.read, everywhere if form.where is not None else kept)

    def prove_read(self, read: Read, facts: Facts) -> None:
        if read.outside is None:
            shape = self.operands[read.operand].shape
            self.prove(read.index, shape, facts, f"the read of operand {read.operand}")

    def prove(self, index: Sequence[Size], shape: Sequence[Size], facts: Facts, what: str) -> None:
        for i, extent in zip(index, shape, strict=True):
            if not any(loads_in(i)):
                inside = proves_nonneg(i, facts) and proves_less(i, extent, facts)
                # A place that is never reached proves everything, even of constants.
                inside = inside or contradicts(facts)
                _require(inside, f"{what} at {i} is not proven to lie inside 0..{extent}")


def _around(node: Node, order: list[Node]) -> str:
    """Return the text of a node with its operands above and its users below."""
    numbers = {n: k for k, n in enumerate(order)}
    users = [n for n in order if node in n.inputs]
    return "\n".join(_lines([*dict.fromkeys(node.inputs)], [node], users, numbers))


def _lines(
    operands: Iterable[Node], here: Iterable[Node], users: Iterable[Node], numbers: dict[Node, int]
) -> Iterator[str]:
    for mark, nodes in ((" ", operands), (">", here), (" ", users)):
        for node in nodes:
            yield f"{mark} {print_node(node, numbers)}"
