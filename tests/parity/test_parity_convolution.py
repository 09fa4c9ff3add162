"""Convolution and pooling written in index notation: PyTorch's values, gradients and work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc.ir import build
from nnc.ir.graph import Graph, Leaf, Node, Output, postorder
from nnc.ir.loops import Buffer
from nnc.ir.loops_interpret import Machine
from nnc.ir.model import Model
from nnc.passes.autodiff import gradients
from nnc.passes.lower import lower
from nnc.passes.pipeline import optimize
from tests.support.nets import differentiate, net, training
from tests.support.programs import model

CONVOLUTION = """
layer conv(out: int, kernel: int, stride: int, dilation: int, pad: int, groups: int)
          (x: float[b, c, h, w])
          -> float[b, out, (h + 2*pad - dilation*(kernel - 1) - 1)//stride + 1,
                   (w + 2*pad - dilation*(kernel - 1) - 1)//stride + 1] {
    require c % groups == 0 and out % groups == 0, "channels divide into groups"
    reach  = dilation*(kernel - 1) + 1
    height = (h + 2*pad - reach)//stride + 1
    width  = (w + 2*pad - reach)//stride + 1
    param weight: float[out, c/groups, kernel, kernel] = he_normal()
    y[n, o, i < height, j < width] = sum[k, u, v](
        weight[o, k, u, v] * (
            if 0 <= i*stride + u*dilation - pad and i*stride + u*dilation - pad < h
                and 0 <= j*stride + v*dilation - pad and j*stride + v*dilation - pad < w
            then x[n, o // (out/groups) * (c/groups) + k,
                   i*stride + u*dilation - pad, j*stride + v*dilation - pad]
            else 0))
    return y
}
"""


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    out: int
    height: int
    width: int
    kernel: int
    stride: int
    dilation: int
    pad: int
    groups: int

    @property
    def reach(self) -> int:
        return self.dilation * (self.kernel - 1) + 1


@st.composite
def cases(draw: st.DrawFn) -> Case:
    groups = draw(st.integers(1, 3))
    kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    pad = draw(st.integers(0, 3))
    least = max(1, dilation * (kernel - 1) + 1 - 2 * pad)
    return Case(
        batch=draw(st.integers(1, 3)),
        channels=groups * draw(st.integers(1, 3)),
        out=groups * draw(st.integers(1, 5)),
        height=least + draw(st.integers(0, 7)),
        width=least + draw(st.integers(0, 20)),
        kernel=kernel,
        stride=draw(st.integers(1, 4)),
        dilation=dilation,
        pad=pad,
        groups=groups,
    )


def convolution_agrees(case: Case) -> None:
    """The data is computed by a layer of its own, so that its gradient matters."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    least = case.reach - 2 * case.pad
    program = net(
        CONVOLUTION
        + training(
            f"""
            input x: float[b, {case.channels}, h, w]
            input c: float[b, {case.out}, p, q]
            require h >= {least} and w >= {least}
            param a: float[{case.channels}] = ones()
            z[n, k, i, j] = a[k] * x[n, k, i, j]
            y = z |> conv({case.out}, {case.kernel}, {case.stride}, {case.dilation}, {case.pad},
                          {case.groups})
            require p == (h + {2 * case.pad - case.reach})//{case.stride} + 1
            require q == (w + {2 * case.pad - case.reach})//{case.stride} + 1
            output y
            loss sum(y * c)
            """
        )
    )
    x = rng.normal(0, 1, (case.batch, case.channels, case.height, case.width))
    weight = torch.tensor(program.params["conv.weight"].copy(), requires_grad=True)
    a = torch.tensor(rng.normal(1, 1, case.channels), requires_grad=True)
    program.params["a"][...] = a.detach().numpy()
    y = torch.nn.functional.conv2d(
        torch.tensor(x) * a[:, None, None],
        weight, None, case.stride, case.pad, case.dilation, case.groups,
    )  # fmt: skip
    c = rng.normal(0, 1, tuple(y.shape))
    (y * torch.tensor(c)).sum().backward()
    _, found = differentiate(program, {"x": x, "c": c})
    np.testing.assert_allclose(program(x=x, c=c)["y"], y.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["conv.weight"], weight.grad.numpy(), rtol=0, atol=1e-11)
    np.testing.assert_allclose(found["a"], a.grad.numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "case",
    [
        Case(2, 3, 5, 9, 21, 3, 1, 1, 1, 1),
        Case(1, 4, 6, 8, 11, 3, 2, 2, 2, 2),
        Case(3, 2, 2, 7, 9, 1, 3, 1, 0, 2),
    ],
    ids=["same", "strided-dilated-grouped", "depthwise-1x1"],
)
def test_convolution_agrees_with_pytorch(case: Case) -> None:
    convolution_agrees(case)


@pytest.mark.slow
@given(cases())
@settings(max_examples=30)
def test_random_convolutions_agree_with_pytorch(case: Case) -> None:
    convolution_agrees(case)


def transposed_agrees(stride: int, kernel: int, pad: int, dilation: int) -> None:
    """Affine on the left: y[i*stride + u*dilation - pad] gathers the products."""
    torch = pytest.importorskip("torch")
    reach = dilation * (kernel - 1) + 1
    size = f"(h - 1)*{stride} + {reach - 2 * pad}"
    program = net(
        training(
            f"""
            input x: float[b, 3, h]
            input c: float[b, 4, m]
            require m == {size} and m >= 1
            param a: float[3] = ones()
            param weight: float[3, 4, {kernel}] = he_normal()
            z[n, k, i] = a[k] * x[n, k, i]
            full[n, o, i*{stride} + u*{dilation}] = sum[k](z[n, k, i] * weight[k, o, u])
            y[n, o, i < m] = full[n, o, i + {pad}]
            output y
            loss sum(y * c)
            """
        )
    )
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (2, 3, 8))
    weight = torch.tensor(program.params["weight"].copy(), requires_grad=True)
    a = torch.tensor(rng.normal(1, 1, 3), requires_grad=True)
    program.params["a"][...] = a.detach().numpy()
    y = torch.nn.functional.conv_transpose1d(
        torch.tensor(x) * a[:, None], weight, None, stride, pad, dilation=dilation
    )
    c = rng.normal(0, 1, tuple(y.shape))
    (y * torch.tensor(c)).sum().backward()
    _, found = differentiate(program, {"x": x, "c": c})
    np.testing.assert_allclose(program(x=x, c=c)["y"], y.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["weight"], weight.grad.numpy(), rtol=0, atol=1e-11)
    np.testing.assert_allclose(found["a"], a.grad.numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("stride", "kernel", "pad", "dilation"), [(2, 3, 1, 1), (3, 2, 0, 2)])
def test_transposed_convolution_agrees_with_pytorch(
    stride: int, kernel: int, pad: int, dilation: int
) -> None:
    transposed_agrees(stride, kernel, pad, dilation)


@pytest.mark.slow
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(1, 3))
@settings(max_examples=20)
def test_random_transposed_convolutions_agree_with_pytorch(
    stride: int, kernel: int, pad: int, dilation: int
) -> None:
    transposed_agrees(stride, kernel, pad, dilation)


def pooling_agrees(kernel: int, stride: int, pad: int) -> None:
    torch = pytest.importorskip("torch")
    out = f"(h + {2 * pad - kernel})//{stride} + 1"
    place = f"i*{stride} + u - {pad}"
    program = net(
        training(
            f"""
            input x: float[b, 3, h]
            input c: float[b, 3, m]
            require h >= {max(1, kernel - 2 * pad)} and m == {out}
            param a: float[3] = ones()
            z[n, k, i] = a[k] * x[n, k, i]
            top[n, k, i < {out}] = max[u < {kernel} where 0 <= {place} and {place} < h](
                z[n, k, {place}])
            mid[n, k, i < {out}] = mean[u < {kernel}](
                if 0 <= {place} and {place} < h then z[n, k, {place}] else 0)
            output top
            output mid
            loss sum(top * c) + sum(mid * c^2)
            """
        )
    )
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, (2, 3, 23))
    a = torch.tensor([1.5, -1.0, 0.5], dtype=torch.float64, requires_grad=True)
    program.params["a"][...] = a.detach().numpy()
    z = torch.tensor(x) * a[:, None]
    top = torch.nn.functional.max_pool1d(z, kernel, stride, pad)
    mid = torch.nn.functional.avg_pool1d(z, kernel, stride, pad)
    c = torch.tensor(rng.normal(0, 1, tuple(top.shape)))
    ((top * c).sum() + (mid * c**2).sum()).backward()
    _, found = differentiate(program, {"x": x, "c": c.numpy()})
    values = program(x=x, c=c.numpy())
    np.testing.assert_allclose(values["top"], top.detach().numpy(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(values["mid"], mid.detach().numpy(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(found["a"], a.grad.numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (4, 1, 2)])
def test_pooling_agrees_with_pytorch(kernel: int, stride: int, pad: int) -> None:
    pooling_agrees(kernel, stride, pad)


@pytest.mark.slow
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2))
@settings(max_examples=30)
def test_random_poolings_agree_with_pytorch(kernel: int, stride: int, pad: int) -> None:
    pooling_agrees(kernel, stride, min(pad, kernel // 2))


# the data gradient's work ---------------------------------------------------------------------

CHANNELS, HEIGHT, WIDTH = 12, 3, 16
"""Sizes that fill whole register tiles, so that what is counted is the sums' own."""
SAME = """
model Same(k: int, s: int) {
    input x: float[b, 12, h, w]
    param weight: float[12, 12, k, k] = he_normal()
    require h >= 1 and w >= 1
    y[n, o, i < (h - 1)//s + 1, j < (w - 1)//s + 1] = sum[c, u, v](weight[o, c, u, v] * (
        if 0 <= i*s + u - k//2 and i*s + u - k//2 < h and 0 <= j*s + v - k//2 and j*s + v - k//2 < w
        then x[n, c, i*s + u - k//2, j*s + v - k//2] else 0))
    output y
}
"""


def multiply_adds(made: Model, name: str, node: Node, stride: int) -> int:
    """Run a node's loops, and count."""
    facts = tuple(f for r in made.requirements for f in r.facts)
    graph = optimize(Graph(name, (Output("output", name, node),), facts))
    nodes = [n for n in postorder(o.node for o in graph.outputs) if isinstance(n.op, Leaf)]
    layout = {
        key: Buffer(key, n.type.dtype, n.type.shape, "input")
        for n in nodes
        if isinstance(n.op, Leaf) and (key := f"{n.op.space}:{n.op.name}")
    }
    layout[f"output:{name}"] = Buffer(f"output:{name}", node.type.dtype, node.type.shape, "output")
    program = lower("counted", {"main": graph}, list(layout.values()))
    dims = {"b": 1, "h": HEIGHT * stride, "w": WIDTH * stride}
    sizes = {
        "input:x": CHANNELS * HEIGHT * WIDTH * stride**2,
        "state:weight": CHANNELS**2 * made.config["k"] ** 2,
        "input:dy": CHANNELS * HEIGHT * WIDTH,
    }
    arrays: dict[str, Any] = {k: np.ones(n) for k, n in sizes.items() if k in layout}
    machine = Machine(program, dims, arrays, races=False)
    machine.run("main")
    return machine.multiply_adds


def taps_inside(outputs: int, kernel: int, stride: int) -> int:
    """How many pairs of an output and a tap along one dim read inside the data."""
    places = (i * stride + u - kernel // 2 for i in range(outputs) for u in range(kernel))
    return sum(0 <= place < outputs * stride for place in places)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_the_data_gradient_does_no_more_work_than_the_convolution(kernel: int, stride: int) -> None:
    made = model(SAME, k=kernel, s=stride)
    y = made.inference.outputs[0].node
    x = next(n for n in postorder([y]) if n.op == Leaf("input", "x"))
    dy = build.leaf("input", "dy", y.type)
    loss = build.reduce(build.elementwise("mul", y, dy), range(4), "sum")
    (dx,) = gradients(loss, [x])
    forward = multiply_adds(made, "y", y, stride)
    backward = multiply_adds(made, "dx", dx, stride)
    assert forward == CHANNELS**2 * kernel**2 * HEIGHT * WIDTH
    # no less than the pairs of output and tap that meet the data: the others add nothing
    meet = CHANNELS**2 * taps_inside(HEIGHT, kernel, stride) * taps_inside(WIDTH, kernel, stride)
    assert meet <= backward <= 1.05 * forward
