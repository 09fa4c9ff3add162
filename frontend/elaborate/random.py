"""Random numbers: Philox, keyed by seed, step, the chain of applications and the element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnc.frontend.elaborate.arrangement import sizes
from nnc.frontend.elaborate.convert import Operand
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.values import Tensor, Value
from nnc.ir import build, scalar
from nnc.ir.expr import Const, Expr
from nnc.ir.graph import Node
from nnc.ir.index import Size, dim, dims_of, exact_div, product
from nnc.ir.span import Span
from nnc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


TURN_STRIDE = 1 << 40
"""Numbers between those of one turn of a scan and the next one's."""


def draw(
    elab: Elaborator, name: str, shape: Operand | None, expected: Sequence[Size] | None,
    trace: str, span: Span,
) -> Value:  # fmt: skip
    """Return fresh random numbers of the given shape, or the one that the result must fit.

    A first value of a parameter is keyed by its path alone; in a model the step counts too, except
    at inference, and a row's numbers follow its place in the whole batch.
    """
    from nnc.ir import random

    if shape is not None:
        expected = sizes(shape)
    if expected is None:
        raise fault(
            "E0207",
            f"the shape of {name} is not known here",
            span,
            hint=f"give it: {name}[batch, n]()",
        )
    inputs = [elab.leaf("system", "seed", TensorType(DType.U64))]
    seed: Expr = build.read(inputs[0], 0)
    step: Expr = Const(0, DType.U32)
    if elab.training and not elab.starting:
        inputs.append(elab.leaf("system", "step", TensorType(DType.I64)))
        step = scalar.cast(build.read(inputs[-1], 1), DType.U32)
    axes = build.axes_for(expected)
    here = build.subscripts(axes)
    index = _element(elab, expected, here, inputs)
    make = random.uniform if name == "random_uniform" else random.normal
    if elab.turn is not None and not elab.starting:
        # numbers of different turns are a long way apart, whatever the size of the batch
        turn = scalar.cast(scalar.position(elab.turn + 1), DType.U64)
        index = scalar.add(index, scalar.mul(turn, Const(TURN_STRIDE, DType.U64)))
    body = make(seed, step, random.stream_of(trace), index, elab.precision)
    return Tensor(build.form(axes, here, body, inputs, expected, span=span))


def _element(
    elab: Elaborator, shape: Sequence[Size], here: Sequence[Size], inputs: list[Node]
) -> Expr:
    """Number the elements of the whole batch, row-major; this call's rows begin at ``row``."""
    along, rows_each = _batch_place(elab, shape)
    place: Size = 0
    for k, at in enumerate(here):
        if k != along:
            place = place * shape[k] + at
    if along is None:
        return scalar.cast(scalar.position(place), DType.U64)
    row_size = product(size for k, size in enumerate(shape) if k != along)
    inputs.append(elab.leaf("system", "row", TensorType(DType.I64)))
    first = scalar.mul(build.read(inputs[-1], len(inputs) - 1), scalar.position(rows_each))
    row = scalar.add(scalar.position(here[along]), first)
    number = scalar.add(scalar.mul(row, scalar.position(row_size)), scalar.position(place))
    return scalar.cast(number, DType.U64)


def _batch_place(elab: Elaborator, shape: Sequence[Size]) -> tuple[int | None, Size]:
    """Return the dim that runs over the batch, and how many of its places each row takes."""
    if elab.batch is None or elab.starting:
        return None, 1
    for k, size in enumerate(shape):
        each = exact_div(size, dim(elab.batch))
        if each is not None and elab.batch not in dims_of(each) and size != 0:
            return k, each
    return None, 1
