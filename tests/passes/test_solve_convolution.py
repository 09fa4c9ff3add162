"""Convolution gradients by exchange of maps and residues: exact, dense, and of the right size."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc.ir import build, scalar
from nnc.ir.graph import Form, Node
from nnc.ir.index import Size, axes_of, axis, dim, floordiv
from nnc.ir.index import evaluate as value_of
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.types import DType, TensorType
from nnc.passes.autodiff import gradients
from nnc.passes.forms import owns
from nnc.passes.pieces import covers, pieces
from nnc.passes.solve import solve


@dataclass(frozen=True)
class Convolution:
    """Sizes of a convolution over ``len(sides)`` spatial dims."""

    batch: int
    groups: int
    channels: int
    filters: int
    sides: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pad: tuple[int, ...]


def outputs(c: Convolution, sides: tuple[Size, ...]) -> list[Size]:
    return [
        floordiv(h + 2 * p - d * (k - 1) - 1, s) + 1
        for h, k, s, d, p in zip(sides, c.kernel, c.stride, c.dilation, c.pad, strict=True)
    ]


def convolve(c: Convolution, symbolic: bool = False) -> tuple[Node, Node, Node, Node]:
    """The data, the weight, the cotangent and the loss ``sum(convolution * cotangent)``."""
    rank = len(c.sides)
    sides: tuple[Size, ...] = tuple(dim(f"h{k}") for k in range(rank)) if symbolic else c.sides
    batch: Size = dim("batch") if symbolic else c.batch
    x = build.leaf("input", "x", TensorType(DType.F64, (batch, c.groups * c.channels, *sides)))
    w = build.leaf(
        "state", "w", TensorType(DType.F64, (c.groups * c.filters, c.channels, *c.kernel))
    )
    out = outputs(c, sides)
    i = [axis(f"i{k}") for k in range(rank)]
    u = [axis(f"u{k}") for k in range(rank)]
    place = [i[k] * c.stride[k] + u[k] * c.dilation[k] - c.pad[k] for k in range(rank)]
    group, channel, filter_ = axis("g"), axis("c"), axis("o")
    read_x = build.read(
        x, 0, axis("b"), group * c.channels + channel, *place, outside=0 if any(c.pad) else None
    )
    read_w = build.read(w, 1, group * c.filters + filter_, channel, *u)
    axes: list[tuple[str, Size]] = [("b", batch), ("g", c.groups), ("o", c.filters)]
    axes += [(f"i{k}", out[k]) for k in range(rank)] + [("c", c.channels)]
    axes += [(f"u{k}", c.kernel[k]) for k in range(rank)]
    y = build.form(
        axes,
        [axis("b"), group * c.filters + filter_, *i],
        scalar.mul(read_x, read_w),
        [x, w],
        (batch, c.groups * c.filters, *out),
        reduce="sum",
    )
    dy = build.leaf("input", "dy", y.type)
    loss = build.reduce(build.elementwise("mul", y, dy), range(rank + 2), "sum")
    return x, w, dy, loss


def arrays(c: Convolution, seed: int) -> dict[tuple[str, str], np.ndarray]:
    random = np.random.default_rng(seed)
    out = [int(n) for n in outputs(c, c.sides)]
    return {
        ("input", "x"): random.normal(size=(c.batch, c.groups * c.channels, *c.sides)),
        ("state", "w"): random.normal(size=(c.groups * c.filters, c.channels, *c.kernel)),
        ("input", "dy"): random.normal(size=(c.batch, c.groups * c.filters, *out)),
    }


def run(node: Node, leaves: dict[tuple[str, str], np.ndarray], sides: dict[str, int]) -> np.ndarray:
    return evaluate_nodes([node], leaves, sides)[0]


def run_pieces(
    node: Node, leaves: dict[tuple[str, str], np.ndarray], sides: dict[str, int]
) -> np.ndarray:
    """The sum of the pieces, having checked that no element is stored to by two of them."""
    shape = [value_of(s, sides) for s in node.type.shape]
    total, stores = np.zeros(shape), np.zeros(shape)
    for form in pieces(node):
        total += run(Node(form, node.inputs, node.type), leaves, sides)
        kept = frozenset(a for o in form.out for a in axes_of(o))
        axes = tuple((a, value_of(e, sides)) for a, e in form.axes if a in kept)
        marks = Form(axes, form.out, "sum", scalar.const(1.0, DType.F64), None, form.drops)
        stores += run(Node(marks, (), TensorType(DType.F64, tuple(shape))), {}, {})
    assert stores.max(initial=0) <= 1
    return total


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    rank = draw(st.integers(1, 3))
    small = 4 if rank < 3 else 2
    kernel = tuple(draw(st.integers(1, small)) for _ in range(rank))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    pad = tuple(draw(st.integers(0, 2)) for _ in range(rank))
    room = 6 if rank < 3 else 2
    sides = tuple(
        d * (k - 1) + 1 + draw(st.integers(0, room)) for k, d in zip(kernel, dilation, strict=True)
    )
    groups, channels, filters = (draw(st.integers(1, 2)) for _ in range(3))
    return Convolution(
        draw(st.integers(1, 2)), groups, channels, filters, sides, kernel, stride, dilation, pad
    )


@given(convolutions(), st.integers(0, 99), st.booleans())
@settings(max_examples=60)
def test_gradients_agree_with_pytorch(c: Convolution, seed: int, symbolic: bool) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torch.nn.functional")
    x, w, _, loss = convolve(c, symbolic)
    leaves = arrays(c, seed)
    tx, tw = (torch.tensor(leaves[k], requires_grad=True) for k in (("input", "x"), ("state", "w")))
    conv = (functional.conv1d, functional.conv2d, functional.conv3d)[len(c.sides) - 1]
    ty = conv(tx, tw, None, c.stride, c.pad, c.dilation, c.groups)
    expected = torch.autograd.grad((ty * torch.tensor(leaves["input", "dy"])).sum(), (tx, tw))
    dims = {f"h{k}": n for k, n in enumerate(c.sides)} | {"batch": c.batch}
    for gradient, wanted in zip(gradients(loss, [x, w]), expected, strict=True):
        np.testing.assert_allclose(run(gradient, leaves, dims), wanted.numpy(), rtol=0, atol=1e-10)
        solved = solve(gradient)
        assert isinstance(solved.op, Form)
        np.testing.assert_allclose(run(solved, leaves, dims), wanted.numpy(), rtol=0, atol=1e-10)
        assert owns(solved.op), solved.op
        total = run_pieces(solved, leaves, dims)
        np.testing.assert_allclose(total, wanted.numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), list(product((1, 3, 5, 7), (1, 2, 3), (1, 2, 3)))
)
@pytest.mark.parametrize("symbolic", [False, True])
def test_data_gradient_has_the_points_of_the_forward(
    kernel: int, stride: int, dilation: int, symbolic: bool
) -> None:
    pad = dilation * (kernel - 1) // 2
    c = Convolution(1, 1, 2, 2, (56, 56), (kernel,) * 2, (stride,) * 2, (dilation,) * 2, (pad,) * 2)
    x, _, _, loss = convolve(c, symbolic)
    (dx,) = gradients(loss, [x])
    solved = solve(dx)
    sides = {"h0": 56, "h1": 56, "batch": 1}
    counts = [int(np.prod([value_of(e, sides) for _, e in form.axes])) for form in pieces(solved)]
    forward = 2 * 2 * int(np.prod(outputs(c, c.sides))) * kernel**2
    assert sum(counts) <= 1.05 * forward
    for form in pieces(solved):
        assert form.where is None
        assert not form.drops
        assert all(not isinstance(e, int) or e > 0 for _, e in form.axes)
    if kernel > stride and (dilation == 1 or stride == 1):
        assert covers(pieces(solved), solved.type.shape)
