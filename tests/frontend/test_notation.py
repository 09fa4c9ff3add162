"""What index notation means: the values of forms against NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.notation import Program

from nnc.ir.expr import Apply, Position, Read, reads
from nnc.ir.graph import Form
from nnc.ir.index import dim, floordiv, mod

RNG = np.random.default_rng(7)
h, w, n = map(dim, "hwn")


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_softmax_over_any_rest(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    names = ["abn"[k - len(shape)] for k in range(len(shape))]
    ran = Program({"x": (x, names)}).run(
        """
        e[.., i] = exp(x[.., i] - max[j](x[.., j]))
        y[.., i] = e[.., i] / sum[j](e[.., j])
        """
    )
    e = np.exp(x - x.max(-1, keepdims=True))
    np.testing.assert_allclose(ran["y"], e / e.sum(-1, keepdims=True), rtol=1e-14)
    top = ran.nodes["e"].inputs[1].op
    assert isinstance(top, Form)
    assert top.reduce == "max"
    assert len(top.axes) == len(shape)  # it does not depend on i


def test_layer_norm() -> None:
    x, scale, shift = normal(3, 4, 5), normal(5), normal(5)
    ran = Program({"x": (x, "abn"), "scale": (scale, "n"), "shift": (shift, "n")}).run(
        """
        d[.., i] = x[.., i] - mean[j](x[.., j])
        y[.., i] = d[.., i] * rsqrt(mean[j](d[.., j]^2) + 1e-5) * scale[i] + shift[i]
        """
    )
    d = x - x.mean(-1, keepdims=True)
    expected = d / np.sqrt((d**2).mean(-1, keepdims=True) + 1e-5) * scale + shift
    np.testing.assert_allclose(ran["y"], expected, rtol=1e-12)


def test_batch_norm_has_its_rest_at_the_end() -> None:
    x = normal(2, 3, 4, 5)
    ran = Program({"x": (x, ["b", 3, "h", "w"])}).run(
        """
        m[c] = mean[a, ..](x[a, c, ..])
        y[a, c, ..] = x[a, c, ..] - m[c]
        """
    )
    np.testing.assert_allclose(ran["y"], x - x.mean((0, 2, 3), keepdims=True), atol=1e-14)


@pytest.mark.parametrize(
    ("a", "b"),
    [((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 1, 2, 3), (5, 6, 3, 4))],
)
def test_matmul_broadcasts_its_rest(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = normal(*a), normal(*b)
    ran = Program({"a": (x, a), "b": (y, b)}).run("c[.., i, j] = sum[p](a[.., i, p] * b[.., p, j])")
    np.testing.assert_allclose(ran["c"], x @ y, atol=1e-13)
    assert ran.form("c").reduce == "sum"
    assert len(ran.nodes["c"].inputs) == 2  # no form in between


def convolution(x: np.ndarray, k: np.ndarray, s: int, d: int, p: int, g: int) -> np.ndarray:
    b, c, *sides = x.shape
    out, _, *kernel = k.shape
    padded = np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)])
    result = [
        (side + 2 * p - d * (size - 1) - 1) // s + 1
        for side, size in zip(sides, kernel, strict=True)
    ]
    y = np.zeros((b, out, *result))
    for o in range(out):
        first = (o // (out // g)) * (c // g)
        for u, v in itertools.product(*map(range, kernel)):
            rows = slice(u * d, u * d + s * (result[0] - 1) + 1, s)
            cols = slice(v * d, v * d + s * (result[1] - 1) + 1, s)
            part = padded[:, first : first + c // g, rows, cols]
            y[:, o] += np.einsum("bchw,c->bhw", part, k[o, :, u, v])
    return y


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    pad=st.integers(0, 3), groups=st.sampled_from((1, 2)), more=st.integers(0, 4),
)  # fmt: skip
def test_convolution(
    kernel: int, stride: int, dilation: int, pad: int, groups: int, more: int
) -> None:
    least = max(dilation * (kernel - 1) + 1 - 2 * pad, 1)
    x = normal(2, 4, least + more, least + more // 2)
    k = normal(6, 4 // groups, kernel, kernel)
    config = {"s": stride, "e": dilation, "p": pad, "g": groups, "k": kernel, "c": 4, "out": 6}
    reach = dilation * (kernel - 1)
    program = Program(
        {"x": (x, ["b", 4, "h", "w"]), "weight": (k, k.shape)},
        config,
        [h + 2 * pad - reach - 1, w + 2 * pad - reach - 1],
    )
    ran = program.run(
        """
        r = e*(k - 1) + 1
        y[a, o, i < (h + 2*p - r)//s + 1, j < (w + 2*p - r)//s + 1] = sum[q, u, v](
            weight[o, q, u, v] * (if 0 <= i*s + u*e - p < h and 0 <= j*s + v*e - p < w
            then x[a, o//(out/g)*(c/g) + q, i*s + u*e - p, j*s + v*e - p] else 0))
        """
    )
    np.testing.assert_allclose(
        ran["y"], convolution(x, k, stride, dilation, pad, groups), atol=1e-11
    )
    outside = [r.outside for r in reads(ran.form("y").body)]
    assert outside == [None, 0.0 if pad else None]
    assert "select" not in str(ran.form("y").body)  # the guard is in the read


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("pad", [0, 1])
def test_transposed_convolution_adds_up_where_stores_meet(stride: int, pad: int) -> None:
    x, k = normal(2, 3, 4), normal(3, 5, 3)
    full = np.zeros((2, 5, 3 * stride + 3))
    for i, u in itertools.product(range(4), range(3)):
        full[:, :, i * stride + u] += np.einsum("bc,co->bo", x[:, :, i], k[:, :, u])
    program = Program({"x": (x, ["b", 3, "h"]), "weight": (k, k.shape)}, {"s": stride, "p": pad})
    if pad:
        ran = program.run(
            "y[a, o, i*s + u - p < (h - 1)*s + 3 - 2*p] = sum[c](x[a, c, i] * weight[c, o, u])"
        )
        np.testing.assert_allclose(ran["y"], full[:, :, pad:-pad], atol=1e-12)
        assert ran.form("y").drops
    else:
        ran = program.run("y[a, o, i*s + u] = sum[c](x[a, c, i] * weight[c, o, u])")
        np.testing.assert_allclose(ran["y"], full, atol=1e-12)
        assert not ran.form("y").drops


def even(size: object) -> list:
    return [-mod(size, 2)]


def test_pooling_and_upsampling() -> None:
    x = normal(2, 3, 6, 8)
    program = Program({"x": (x, ["b", 3, "h", "w"])}, facts=even(h) + even(w))
    ran = program.run(
        """
        m[s, k, i < h/2, j < w/2] = max[u < 2, v < 2](x[s, k, 2*i + u, 2*j + v])
        u[s, k, i < 2*h, j < 2*w] = x[s, k, i // 2, j // 2]
        padded[s, k, i < h//2 + 1] = max[u < 3 where 0 <= 2*i + u - 1 < h](x[s, k, 2*i + u - 1, 0])
        """
    )
    np.testing.assert_array_equal(ran["m"], x.reshape(2, 3, 3, 2, 4, 2).max((3, 5)))
    np.testing.assert_array_equal(ran["u"], x.repeat(2, 2).repeat(2, 3))
    wide = np.pad(x[..., 0], [(0, 0), (0, 0), (1, 1)], constant_values=-np.inf)
    rows = [wide[:, :, i : i + 3].max(-1) for i in range(0, 6, 2)]
    rows.append(wide[:, :, 6:8].max(-1))
    np.testing.assert_array_equal(ran["padded"], np.stack(rows, -1))


def test_rotary_positions() -> None:
    x, pos = normal(2, 5, 3, 4), np.int32(3)
    ran = Program({"x": (x, ["b", "t", "heads", 4]), "pos": (pos, ())}, {"d": 4}).run(
        """
        half = d/2
        angle[s < t, k < half] = float(pos + s) * 100.0^(-k*1.0/half)
        y[i, s, a, k] = x[i, s, a, k] * cos(angle[s, k % half])
            + (if k < half then -x[i, s, a, k + half] else x[i, s, a, k - half])
            * sin(angle[s, k % half])
        """
    )
    angle = (pos + np.arange(5))[:, None] * 100.0 ** (-np.arange(2) / 2)
    turn = angle[:, np.arange(4) % 2][None, :, None, :]
    turned = np.concatenate([-x[..., 2:], x[..., :2]], -1)
    np.testing.assert_allclose(ran["y"], x * np.cos(turn) + turned * np.sin(turn), rtol=1e-12)


def test_attention_with_a_cache() -> None:
    old, new = normal(2, 7, 2, 3), normal(2, 2, 2, 3)
    q, pos = normal(2, 2, 4, 3), np.int32(3)
    tensors = {
        "ck": (old, ["b", "s", 2, 3]),
        "k": (new, ["b", "t", 2, 3]),
        "q": (q, ["b", "t", 4, 3]),
        "pos": (pos, ()),
    }
    ran = Program(tensors, {"share": 2}).run(
        """
        ck[i, j, g, e] = if pos <= j and j < pos + t then k[i, j - pos, g, e] else ck[i, j, g, e]
        score[i, a, r, j] = sum[e](q[i, r, a, e] * ck[i, j, a//share, e])
        top[i, a, r] = max[j where j <= pos + r](score[i, a, r, j])
        p[i, a, r, j] = if j <= pos + r then exp(score[i, a, r, j] - top[i, a, r]) else 0
        y[i, r, a, e] = sum[j](p[i, a, r, j] * ck[i, j, a//share, e]) / sum[j](p[i, a, r, j])
        """
    )
    cache = old.copy()
    cache[:, 3:5] = new
    np.testing.assert_array_equal(ran["ck"], cache)
    keys = cache[:, :, [0, 0, 1, 1]]
    score = np.einsum("irae,ijae->iarj", q, keys)
    score[np.broadcast_to(np.arange(7) > 3 + np.arange(2)[:, None], score.shape)] = -np.inf
    p = np.exp(score - score.max(-1, keepdims=True))
    expected = np.einsum("iarj,ijae->irae", p, keys)
    expected /= p.sum(-1).transpose(0, 2, 1)[..., None]
    np.testing.assert_allclose(ran["y"], expected, rtol=1e-12)
    assert isinstance(ran.form("top").where, Apply)
    assert all(isinstance(a, Position) for a in ran.form("top").where.args)


IDS = np.array([1, 0, 2, 1, 1], np.int32)
OK = np.array([True, False, True, True, False])


def rows(**more: object) -> Program:
    x = np.arange(15.0).reshape(5, 3) % 7 - 2
    table = np.arange(12.0).reshape(4, 3)
    return Program(
        {"ids": (IDS, "n"), "ok": (OK, "n"), "x": (x, ["n", 3]), "table": (table, table.shape)},
        **more,
    )


X = np.arange(15.0).reshape(5, 3) % 7 - 2

CASES = {
    "scatter-add": ("y[v < 3, d] = sum[e where ids[e] == v](x[e, d])",
                    [X[v == IDS].sum(0) for v in range(3)]),
    "histogram": ("y[v < 4] = sum[e where ids[e] == v](1)", [1, 3, 1, 0]),
    "gather": ("y[e, d] = table[ids[e], d]", np.arange(12.0).reshape(4, 3)[IDS]),
    "gather with arithmetic": ("y[e] = table[ids[e] + 1, 0]", 3.0 * (IDS + 1)),
    "gather by a computed place": ("y[e] = table[max(ids[e] - 1, 0), 0]", [0, 0, 3, 0, 0]),
    "guarded gather": ("y[e] = if ids[e] < 2 then table[ids[e] + 2, 1] else -1.0",
                       [10, 7, -1, 10, 10]),
    "filtered mean": ("y = mean[e, d where ok[e]](x[e, d])", X[OK].mean()),
    "mean of nothing": ("y = mean[e where x[e, 0] > 100](x[e, 0])", 0.0),
    "sum of nothing": ("y = sum[e where x[e, 0] > 100](x[e, 0])", 0.0),
    "max of nothing": ("y = max[e where x[e, 0] > 100](x[e, 0])", -np.inf),
    "min of filtered": ("y[d] = min[e where ok[e]](x[e, d])", X[OK].min(0)),
    "argmax": ("y[e] = argmax[d](x[e, d])", X.argmax(1)),
    "argmax over two": ("y = argmax[e, d](x[e, d])", X.argmax()),
    "argmin over two": ("y = argmin[d, e](x[e, d])", X.T.argmin()),
    "any": ("y[d] = any[e](x[e, d] > 3)", (X > 3).any(0)),
    "all": ("y = all[e](ok[e] or ids[e] < 2)", (OK | (IDS < 2)).all()),
    "prod": ("y[e] = prod[d](x[e, d])", X.prod(1)),
    "count of truths": ("y = sum[e](ok[e])", 3),
    "share of truths": ("y = mean[e](ok[e])", 0.6),
    "reversal": ("y[e] = x[n - 1 - e, 0]", X[::-1, 0]),
    "diagonal": ("y[e, e] = x[e, 0]", np.diag(X[:, 0])),
    "trace": ("y = sum[d < 3](table[d, d])", 12.0),
    "reshaped on the left": ("y[d // 2, d % 2] = x[0, d]", [[-2, -1], [0, 0]]),
    "flattened on the left": ("y[e*3 + d] = x[e, d]", X.ravel()),
    "spread out": ("y[2*d] = table[1, d]", [3, 0, 4, 0, 5]),
    "given size": ("y[2*d < 8] = table[1, d]", [3, 0, 4, 0, 5, 0, 0, 0]),
    "shifted down, dropped": ("y[d - 1 < 3] = table[1, d]", [4, 5, 0]),
    "identity": ("y[i < 3, j < 3] = if i == j then 1.0 else 0.0", np.eye(3)),
    "causal mask": ("y[i < 3, j < 3] = i < j", np.triu(np.ones((3, 3)), 1) > 0),
    "numbers of the indices": ("y[i < 3] = sum[j < 4 where j <= i](j)", [0, 1, 3]),
    "index as a decimal": ("y[i < 3] = i * 0.5", [0, 0.5, 1]),
    "nested reductions": ("y[e] = sum[d](x[e, d] * max[a](x[a, d])) - min[a, b](x[a, b])",
                          (X * X.max(0)).sum(1) - X.min()),
    "one name for two indices": ("y = sum[i](x[i, 0]) + sum[i](table[i, 0])", X[:, 0].sum() + 18),
    "a product of two": ("y[e, a] = x[e, 0] * table[a, 0]", np.outer(X[:, 0], [0, 3, 6, 9])),
    "repeated along a new dim": ("y[e, r < 2] = sum[d](x[e, d])", X.sum(1)[:, None].repeat(2, 1)),
    "rest reduced": ("y = sum[..](x[..])", X.sum()),
    "concatenation": (
        "y[i < n + 4, d] = if i < n then x[i, d] else table[i - n, d]",
        np.concatenate([X, np.arange(12.0).reshape(4, 3)]),
    ),
    "sorting mask": ("y[e] = sum[a where x[a, 0] < x[e, 0] or x[a, 0] == x[e, 0] and a < e](1)",
                     np.argsort(np.argsort(X[:, 0], kind="stable"))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_meaning(name: str) -> None:
    text, expected = CASES[name]
    got = rows().run(text)["y"]
    np.testing.assert_allclose(got, np.asarray(expected, float), rtol=1e-13)


def test_inferred_ranges_of_affine_reads() -> None:
    x, k = normal(9), normal(3)
    program = Program({"x": (x, "n"), "k": (k, k.shape)}, facts=[n - 3])
    ran = program.run(
        """
        y[i] = sum[u](x[2*i + u] * k[u])
        z[i] = x[i + 2] - x[i + 1]
        back[i] = x[n - 2 - i]
        half[i] = x[i // 2]
        """
    )
    assert ran.nodes["y"].type.shape == (floordiv(n - 3, 2) + 1,)
    np.testing.assert_allclose(ran["y"], [x[2 * i : 2 * i + 3] @ k for i in range(4)])
    np.testing.assert_allclose(ran["z"], x[2:] - x[1:-1])
    np.testing.assert_allclose(ran["back"], x[:-1][::-1])
    np.testing.assert_allclose(ran["half"], x.repeat(2))


def test_a_shifted_read_is_not_bare_whatever_the_shift_comes_to() -> None:
    x, y = normal(3), normal(5)
    for pos in (0, 2):
        ran = Program({"x": (x, "n"), "y": (y, "m")}, {"pos": pos}).run(
            "z[j] = if pos <= j and j < pos + n then x[j - pos] else y[j]"
        )
        expected = y.copy()
        expected[pos : pos + 3] = x
        np.testing.assert_array_equal(ran["z"], expected)


def test_rest_in_subscripts_that_depend_on_data() -> None:
    ids, table, z = RNG.integers(0, 4, (2, 3)), normal(4, 5), normal(2, 3, 4)
    ran = Program(
        {"ids": (ids.astype(np.int32), "bt"), "table": (table, (4, 5)), "z": (z, ["b", "t", 4])}
    ).run(
        """
        y[.., d] = table[ids[..], d]
        own[..] = z[.., ids[..]]
        hot[.., k < 4] = if ids[..] == k then 1.0 else 0.0
        """
    )
    np.testing.assert_array_equal(ran["y"], table[ids])
    np.testing.assert_array_equal(ran["own"], np.take_along_axis(z, ids[..., None], -1)[..., 0])
    np.testing.assert_array_equal(ran["hot"], np.eye(4)[ids])


def test_losses_of_a_segmentation() -> None:
    known = RNG.random((2, 3, 4)) > 0.3
    mask = RNG.integers(0, 5, (2, 3, 4)).astype(np.uint8)
    mask[~known] = 255
    said = normal(2, 5, 3, 4)
    program = Program(
        {"mask": (mask, "bhw"), "said": (said, ["b", 5, "h", "w"])}, {"ignore": 255, "classes": 5}
    )
    ran = program.run(
        """
        known[a, i, j] = mask[a, i, j] != ignore
        pixel = -mean[a, i, j where known[a, i, j]](said[a, mask[a, i, j], i, j])
        both[k] = sum[a, i, j where known[a, i, j] and mask[a, i, j] == k](said[a, k, i, j])
        either[k] = sum[a, i, j where known[a, i, j]](
            said[a, k, i, j] + (if mask[a, i, j] == k then 1 else 0))
        dice = 1 - mean[k](2*both[k] / (either[k] + 1))
        seen[k < classes] = sum[a, i, j where known[a, i, j] and mask[a, i, j] == k](1)
        share = mean[k where seen[k] > 0](float(seen[k]) / float(seen[k] + 1))
        """
    )
    places = np.argwhere(known)
    expected = -np.mean([said[a, mask[a, i, j], i, j] for a, i, j in places])
    np.testing.assert_allclose(ran["pixel"], expected)
    member = np.stack([mask == k for k in range(5)], 1)
    both = (said * member).sum((0, 2, 3))
    either = ((said + member) * known[:, None]).sum((0, 2, 3))
    np.testing.assert_allclose(ran["dice"], 1 - np.mean(2 * both / (either + 1)))
    seen = member.sum((0, 2, 3))
    np.testing.assert_array_equal(ran["seen"], seen)
    np.testing.assert_allclose(ran["share"], np.mean((seen / (seen + 1))[seen > 0]))


def test_the_side_not_taken_is_not_read() -> None:
    ids = np.array([0, 99, 2], np.int32)
    ok = np.array([True, False, True])
    table = normal(3)
    program = Program({"ids": (ids, "n"), "ok": (ok, "n"), "table": (table, (3,))})
    ran = program.run(
        """
        a[e] = if ok[e] then table[ids[e]] else 0
        b[e] = sum[j < 2 where ok[e]](table[ids[e]])
        c = sum[e where ok[e]](max[d](table[d]) * table[ids[e]])
        d[e] = if 0 <= ids[e] < 3 then table[ids[e]] else 7.0
        g = sum[e where ok[e] and table[ids[e]] > -100](1)
        """
    )
    np.testing.assert_allclose(ran["a"], [table[0], 0, table[2]])
    np.testing.assert_allclose(ran["b"], [2 * table[0], 0, 2 * table[2]])
    np.testing.assert_allclose(ran["c"], table.max() * (table[0] + table[2]))
    np.testing.assert_allclose(ran["d"], [table[0], 7, table[2]])
    assert ran["g"] == 2
    assert ran.form("d").body.outside == 7.0 if isinstance(ran.form("d").body, Read) else True


def test_a_guard_around_a_reduction_protects_what_is_in_it() -> None:
    x = normal(4, 3)
    ran = Program({"x": (x, ["n", 3])}).run(
        """
        y[i < n] = if i > 0 then sum[d](x[i - 1, d]) else 0
        z = sum[i < n where i > 0](sum[d](x[i - 1, d]))
        """
    )
    np.testing.assert_allclose(ran["y"], [0, *x.sum(1)[:-1]])
    np.testing.assert_allclose(ran["z"], x[:-1].sum())


def test_axes_keep_the_names_of_the_program() -> None:
    ran = rows().run("y[e] = sum[d](x[e, d]) / sum[d](table[e % 4, d])")
    assert [name for name, _ in ran.form("y").axes] == ["e"]
    for node in ran.nodes["y"].inputs:
        assert isinstance(node.op, Form)
        assert [name for name, _ in node.op.axes] == ["e", "d"]
