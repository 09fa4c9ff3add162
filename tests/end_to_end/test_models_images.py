"""Convolutions, pooling and their like in index notation: those of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.nets import net
from tests.support.reference import compare

torch = pytest.importorskip("torch")
functional = torch.nn.functional
TRAIN = '{ optimizer = sgd(lr = 0.1), precision = "f64" }'

CONV = """
layer conv(out: int, kernel: int = 3, stride: int = 1, pad: int = 0, dilation: int = 1,
           groups: int = 1)
          (x: float[b, c, h, w])
          -> float[b, out, (h + 2*pad - dilation*(kernel - 1) - 1)//stride + 1,
                   (w + 2*pad - dilation*(kernel - 1) - 1)//stride + 1] {
    require c % groups == 0 and out % groups == 0, "channels divide into groups"
    oh  = (h + 2*pad - dilation*(kernel - 1) - 1)//stride + 1
    ow  = (w + 2*pad - dilation*(kernel - 1) - 1)//stride + 1
    per = c // groups
    param weight: float[out, per, kernel, kernel] = he_normal()
    param bias: float[out] = zeros()
    y[n, o, i < oh, j < ow] = bias[o] + sum[k < per, u, v](
        weight[o, k, u, v] * (
            if 0 <= i*stride + u*dilation - pad < h and 0 <= j*stride + v*dilation - pad < w
            then x[n, o//(out//groups)*per + k,
                   i*stride + u*dilation - pad, j*stride + v*dilation - pad]
            else 0))
    return y
}
"""


def test_a_convolutional_classifier_with_max_and_average_pooling() -> None:
    program = net(
        CONV
        + """
        fn max_pool(x: float[b, c, h, w], size: int) -> float[b, c, h//size, w//size] {
            y[n, k, i < h//size, j < w//size] =
                max[u < size, v < size](x[n, k, i*size + u, j*size + v])
            return y
        }
        fn average_pool(x: float[b, c, h, w]) -> float[b, c] = mean(x, axis = (2, 3))
        model Small(classes: int = 3) {
            input  image: u8[batch, 2, 11, 9]
            target class: i32[batch] in 0..classes
            x = float(image)/128 - 1
            h = x |> conv(4, pad = 1) |> relu |> max_pool(2)
            h = h |> conv(6, kernel = 2, stride = 2, groups = 2, pad = 1) |> tanh
            logits = h |> average_pool |> linear(classes)
            output logits
            loss cross_entropy(logits, class)
        }
        train Small """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        x = d["image"].double() / 128 - 1
        h = functional.conv2d(x, p["conv.weight"], p["conv.bias"], padding=1)
        h = functional.max_pool2d(torch.relu(h), 2)
        h = functional.conv2d(h, p["conv_2.weight"], p["conv_2.bias"], 2, 1, groups=2)
        logits = torch.tanh(h).mean((2, 3)) @ p["linear.weight"] + p["linear.bias"]
        return {"logits": logits, "loss:loss": functional.cross_entropy(logits, d["class"].long())}

    rng = np.random.default_rng(0)
    for rows in (1, 3):
        arrays = {
            "image": rng.integers(0, 256, (rows, 2, 11, 9)).astype(np.uint8),
            "class": rng.integers(0, 3, rows).astype(np.int32),
        }
        compare(program, arrays, reference)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation", "groups"),
    [
        (3, 2, 1, 1, 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1, 1, 0, 1, 1), (3, 1, 2, 2, 2), (2, 3, 0, 2, 4), (5, 2, 2, 1, 2))
        ),
    ],
)
def test_a_convolution_of_an_image_of_any_size(
    kernel: int, stride: int, pad: int, dilation: int, groups: int
) -> None:
    """Height and width are symbolic, so one program serves images of all sizes."""
    program = net(
        CONV
        + """
        model Any(k: int, s: int, p: int, d: int, g: int) {
            input  x: float[n, 4, high, wide]
            require high >= 12 and wide >= 12
            param shift: float[4] = zeros()
            moved[i, c, y, z] = x[i, c, y, z] + shift[c]
            y = moved |> conv(8, kernel = k, stride = s, pad = p, dilation = d, groups = g)
            output y
            loss mean(y^2)
        }
        train Any """
        + TRAIN,
        k=kernel, s=stride, p=pad, d=dilation, g=groups,
    )  # fmt: skip

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        x = d["x"] + p["shift"][:, None, None]
        y = functional.conv2d(x, p["conv.weight"], p["conv.bias"], stride, pad, dilation, groups)
        return {"y": y, "loss:loss": (y**2).mean()}

    rng = np.random.default_rng(1)
    for shape in ((1, 4, 12, 13), (2, 4, 17, 12)):
        compare(program, {"x": rng.normal(0, 1, shape)}, reference, steps=2)


def test_upsampling_and_transposed_convolution() -> None:
    program = net(
        """
        layer up_conv(out: int, kernel: int, stride: int)
                     (x: float[b, c, h, w])
                     -> float[b, out, (h - 1)*stride + kernel, (w - 1)*stride + kernel] {
            param weight: float[c, out, kernel, kernel] = normal(0, 0.2)
            y[n, o, i*stride + u, j*stride + v] = sum[k](x[n, k, i, j] * weight[k, o, u, v])
            return y
        }
        fn nearest(x: float[b, c, h, w], by: int) -> float[b, c, h*by, w*by] {
            y[n, k, i < h*by, j < w*by] = x[n, k, i//by, j//by]
            return y
        }
        fn shuffle(x: float[b, c, h, w], by: int) -> float[b, c//(by*by), h*by, w*by] {
            y[n, k < c//(by*by), i < h*by, j < w*by] = x[n, k*by*by + i%by*by + j%by, i//by, j//by]
            return y
        }
        model Up {
            input x: float[b, 3, 4, 5]
            h = x |> up_conv(4, kernel = 3, stride = 2) |> tanh
            a = nearest(h, 3)
            s = shuffle(h, 2)
            output h
            output a
            output s
            loss one = mean(a^3)
            loss two = mean(s * s * s)
        }
        train Up """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        h = torch.tanh(functional.conv_transpose2d(d["x"], p["up_conv.weight"], stride=2))
        a = functional.interpolate(h, scale_factor=3, mode="nearest")
        s = functional.pixel_shuffle(h, 2)
        return {"h": h, "a": a, "s": s, "loss:one": (a**3).mean(), "loss:two": (s**3).mean()}

    rng = np.random.default_rng(2)
    for rows in (1, 3):
        compare(program, {"x": rng.normal(0, 1, (rows, 3, 4, 5))}, reference)


@pytest.mark.slow
def test_one_dimensional_convolution_over_a_symbolic_time() -> None:
    """Causal and dilated, as in WaveNet; the time is not known at compile time."""
    program = net(
        """
        layer causal(out: int, kernel: int, dilation: int)(x: float[b, time, c])
                    -> float[b, time, out] {
            param weight: float[kernel, c, out] = glorot_uniform(fan_in = c*kernel, fan_out = out)
            y[n, t < time, o] = sum[u, k](weight[u, k, o] *
                (if t - u*dilation >= 0 then x[n, t - u*dilation, k] else 0))
            return y
        }
        model Wave(depth: int = 2) {
            input  x: float[b, time, 2]
            target y: float[b, time]
            h = x
            repeat i < depth {
                f = h |> causal(4, 2, 1 + i)
                g = h |> causal(4, 2, 1 + i)
                u = tanh(f) * sigmoid(g)
                h = concat(h, u, axis = 2) |> linear(3)
            }
            z = h |> linear(1)
            output z
            loss mse(reshape(z, (b, time)), y)
        }
        train Wave """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        h = d["x"]
        for i in range(2):
            dilation = 1 + i
            parts = []
            for name in ("causal", "causal_2"):
                w = p[f"{name}.{i}.weight"].permute(2, 1, 0).flip(2)
                padded = functional.pad(h.transpose(1, 2), (dilation, 0))
                parts.append(functional.conv1d(padded, w, dilation=dilation).transpose(1, 2))
            u = torch.tanh(parts[0]) * torch.sigmoid(parts[1])
            h = torch.cat((h, u), 2) @ p[f"linear.{i}.weight"] + p[f"linear.{i}.bias"]
        z = h @ p["linear_2.weight"] + p["linear_2.bias"]
        return {"z": z, "loss:loss": functional.mse_loss(z[..., 0], d["y"])}

    rng = np.random.default_rng(3)
    for rows, time in ((1, 1), (2, 19), (5, 3)):
        arrays = {"x": rng.normal(0, 1, (rows, time, 2)), "y": rng.normal(0, 1, (rows, time))}
        compare(program, arrays, reference)


@pytest.mark.slow
def test_norms_of_channels_and_running_statistics() -> None:
    """Batch norm of images trains on batch statistics and infers with the running ones."""
    program = net(
        CONV
        + """
        layer group_norm(groups: int, eps: float = 1e-5)(x: float[b, c, h, w])
                        -> float[b, c, h, w] {
            param scale: float[c] = ones()
            param shift: float[c] = zeros()
            per = c // groups
            m[n, g < groups] = mean[k < per, i, j](x[n, g*per + k, i, j])
            v[n, g < groups] = mean[k < per, i, j]((x[n, g*per + k, i, j] - m[n, g])^2)
            y[n, k, i, j] =
                (x[n, k, i, j] - m[n, k//per]) * rsqrt(v[n, k//per] + eps)*scale[k] + shift[k]
            return y
        }
        model Norms {
            input x: float[n, 3, 5, 4]
            h = x |> conv(4) |> batch_norm(momentum = 0.3)
            y = h |> relu |> group_norm(2)
            loss mean(y^3) + mean(h^4)
        }
        train Norms """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        h = functional.conv2d(d["x"], p["conv.weight"], p["conv.bias"])
        n = "batch_norm."
        h = functional.batch_norm(h, None, None, p[n + "scale"], p[n + "shift"], training=True)
        g = "group_norm."
        y = functional.group_norm(torch.relu(h), 2, p[g + "scale"], p[g + "shift"])
        return {"loss:loss": (y**3).mean() + (h**4).mean()}

    rng = np.random.default_rng(4)
    for rows in (1, 6):
        compare(program, {"x": rng.normal(0, 1, (rows, 3, 5, 4))}, reference, rtol=1e-8, atol=1e-9)


def test_pooling_that_overlaps_and_pads() -> None:
    """Windows of 3 by stride 2, padded with what no window takes."""
    program = net(
        """
        model Pools {
            input x: float[n, 2, h, w]
            require h >= 3 and w >= 3
            param scale: float[2] = ones()
            z[b, c, i, j] = x[b, c, i, j]*scale[c]
            top[b, c, i < (h + 2 - 3)//2 + 1, j < (w + 2 - 3)//2 + 1] =
                max[u < 3, v < 3 where 0 <= 2*i + u - 1 < h and 0 <= 2*j + v - 1 < w](
                    z[b, c, 2*i + u - 1, 2*j + v - 1])
            even[b, c, i < (h - 3)//2 + 1, j < (w - 3)//2 + 1] =
                mean[u < 3, v < 3](z[b, c, 2*i + u, 2*j + v])
            output top
            output even
            loss mean(top^2) + mean(even^2)
        }
        train Pools """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        z = d["x"] * p["scale"][:, None, None]
        top = functional.max_pool2d(z, 3, 2, 1)
        even = functional.avg_pool2d(z, 3, 2)
        return {"top": top, "even": even, "loss:loss": (top**2).mean() + (even**2).mean()}

    rng = np.random.default_rng(5)
    for shape in ((1, 2, 3, 3), (2, 2, 8, 7)):
        compare(program, {"x": rng.normal(0, 1, shape)}, reference)
