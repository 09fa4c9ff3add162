"""Index notation in full: prefix filters, routing, rotations, guards, ties, odd types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnc
from tests.support.nets import differentiate, net
from tests.support.reference import compare

torch = pytest.importorskip("torch")
functional = torch.nn.functional
RNG = np.random.default_rng(12)
Tensors = dict[str, Any]


def model(body: str) -> str:
    return f'model M {{\n{body}\n}}\ntrain M {{ optimizer = sgd(lr = 0.1), precision = "f64" }}\n'


def test_prefix_sums_ranks_and_distances() -> None:
    program = net(
        model(
            """
            input x: float[b, n]
            param p: float = ones()
            z = x*p
            c[i, j < n] = sum[k < n where k <= j](z[i, k])
            m[i, j < n] = max[k < n where k <= j](z[i, k])
            rank[i, j] = sum[k](z[i, k] < z[i, j])
            d[i, k, j] = (z[i, j] - z[k, j])^2
            apart[i < b, k < b] = sqrt(sum[j](d[i, k, j]) + 1e-3)
            near[i] = argmin[k < b where k != i](apart[i, k])
            output c
            output m
            output rank
            output near
            loss mean(c^2) + mean(m*c) + mean(apart)
            """
        )
    )

    def reference(p: Tensors, d: Tensors) -> Tensors:
        z = d["x"] * p["p"]
        c, m = z.cumsum(1), z.cummax(1).values
        rank = (z[:, :, None] > z[:, None, :]).sum(2)
        apart = (((z[:, None] - z[None]) ** 2).sum(2) + 1e-3).sqrt()
        near = (apart + torch.eye(len(z)) * 1e9).argmin(1)
        loss = (c**2).mean() + (m * c).mean() + apart.mean()
        return {"c": c, "m": m, "rank": rank, "near": near, "loss:loss": loss}

    for shape in ((1, 1), (4, 7), (9, 3)):
        compare(program, {"x": RNG.normal(0, 1, shape)}, reference)


def test_indices_are_values_and_are_compared() -> None:
    program = net(
        model(
            """
            input x: float[b, t]
            param p: float = ones()
            pos[i < t] = float(i) / float(t)
            band[i < t, j < t] = if -1 <= i - j <= 1 then 1.0 else 0.0
            before[i < t, j < t] = i < j
            y = (x*p) @ band
            signed[i, j] = if j % 2 == 0 then x[i, j]*p else -x[i, j]
            waves[i < b, k < t, c < 3] = sin(pos[k]*float(c + 1))
            output y
            output before
            output waves
            loss mean(y^2) + mean(signed*pos)
            """
        )
    )

    def reference(p: Tensors, d: Tensors) -> Tensors:
        x = d["x"]
        rows, t = x.shape
        i = torch.arange(t)
        pos = i.double() / t
        y = (x * p["p"]) @ ((i[:, None] - i).abs() <= 1).double()
        signed = torch.where(i % 2 == 0, x * p["p"], -x)
        waves = torch.sin(pos[:, None] * torch.arange(1, 4)).expand(rows, t, 3)
        loss = (y**2).mean() + (signed * pos).mean()
        return {"y": y, "before": i[:, None] < i, "waves": waves, "loss:loss": loss}

    for shape in ((1, 1), (3, 8)):
        compare(program, {"x": RNG.normal(0, 1, shape)}, reference)


def test_experts_chosen_by_the_data() -> None:
    """The best expert's weights are gathered by argmax, and all are mixed by their shares."""
    program = net(
        model(
            """
            input x: float[b, 4]
            g = x |> linear(3) |> softmax
            param w: float[3, 4, 5] = normal(0, 0.5)
            k = argmax(g)
            best[i, o] = sum[j](x[i, j]*w[k[i], j, o])*g[i, k[i]]
            mixed[i, o] = sum[e, j](g[i, e]*x[i, j]*w[e, j, o])
            load[e < 3] = sum[i](k[i] == e)
            output best
            output load
            loss mean(best^2) + mean(mixed^2)
            """
        )
    )

    def reference(p: Tensors, d: Tensors) -> Tensors:
        x = d["x"]
        g = (x @ p["linear.weight"] + p["linear.bias"]).softmax(1)
        k = g.argmax(1)
        best = torch.einsum("bj,bjo->bo", x, p["w"][k]) * g.gather(1, k[:, None])
        mixed = torch.einsum("be,bj,ejo->bo", g, x, p["w"])
        loss = (best**2).mean() + (mixed**2).mean()
        return {"best": best, "load": torch.bincount(k, minlength=3), "loss:loss": loss}

    for rows in (1, 9):
        compare(program, {"x": RNG.normal(0, 1, (rows, 4))}, reference)


@pytest.mark.slow
def test_rotary_positions_and_grouped_heads() -> None:
    program = net(
        model(
            """
            input x: float[b, t, 8]
            q = x |> linear(8, with_bias = false)
            k = x |> linear(4, with_bias = false)
            v = x |> linear(4, with_bias = false)
            angle[i < t, f < 2] = float(i) * exp(-float(f)*1.5)
            u[n, i, h < 2, f < 4] = if f < 2
                then q[n, i, h*4 + f]*cos(angle[i, f]) - q[n, i, h*4 + f + 2]*sin(angle[i, f])
                else q[n, i, h*4 + f - 2]*sin(angle[i, f - 2])
                    + q[n, i, h*4 + f]*cos(angle[i, f - 2])
            w[n, i, f < 4] = if f < 2
                then k[n, i, f]*cos(angle[i, f]) - k[n, i, f + 2]*sin(angle[i, f])
                else k[n, i, f - 2]*sin(angle[i, f - 2]) + k[n, i, f]*cos(angle[i, f - 2])
            s[n, h, i, j < t] = if j <= i then sum[f](u[n, i, h, f]*w[n, j, f])/2 else -1e9
            a = softmax(s)
            y[n, i, o < 8] = sum[j](a[n, o//4, i, j]*v[n, j, o%4])
            output y
            loss mean(y^2)
            """
        )
    )

    def reference(p: Tensors, d: Tensors) -> Tensors:
        x = d["x"]
        rows, t, _ = x.shape
        q = (x @ p["linear.weight"]).reshape(rows, t, 2, 4)
        k, v = x @ p["linear_2.weight"], x @ p["linear_3.weight"]
        angle = torch.arange(t).double()[:, None] * torch.exp(-torch.arange(2).double() * 1.5)

        def turned(z: Any, c: Any, s: Any) -> Any:
            low, high = z[..., :2], z[..., 2:]
            return torch.cat((low * c - high * s, low * s + high * c), -1)

        u = turned(q, angle.cos()[:, None], angle.sin()[:, None])
        w = turned(k, angle.cos(), angle.sin())
        s = torch.einsum("nihf,njf->nhij", u, w) / 2
        s = s.masked_fill(torch.ones(t, t).triu(1).bool(), -1e9)
        y = torch.einsum("nhij,njf->nihf", s.softmax(-1), v).reshape(rows, t, 8)
        return {"y": y, "loss:loss": (y**2).mean()}

    for rows, time in ((1, 1), (2, 6)):
        compare(program, {"x": RNG.normal(0, 1, (rows, time, 8))}, reference)


def test_guards_keep_what_they_guard_out_of_gradients() -> None:
    program = net(
        model(
            """
            input x: float[b]
            param p: float = ones()
            z = x*p
            y[i] = if z[i] > 0 then log(z[i]) + sqrt(z[i]) else -z[i]
            w[i] = if z[i] != 0 then 1/z[i] else 0
            output y
            output w
            loss sum(y) + 0.01*sum(w) + sum(where(z > 0, log(max(z, 1e-6)), z))
            """
        )
    )

    def reference(p: Tensors, d: Tensors) -> Tensors:
        z = d["x"] * p["p"]
        above, one = z > 0, torch.ones_like(z)
        safe = torch.where(above, z, one)
        y = torch.where(above, safe.log() + safe.sqrt(), -z)
        w = torch.where(z != 0, 1 / torch.where(z != 0, z, one), 0 * one)
        third = torch.where(above, safe.clamp(min=1e-6).log(), z)
        return {"y": y, "w": w, "loss:loss": y.sum() + 0.01 * w.sum() + third.sum()}

    x = np.array([0.0, 1, -1, 2, -0.5, 0])
    compare(program, {"x": x}, reference, scatter=None, steps=1)


def test_ties_credit_the_first_and_nan_wins() -> None:
    program = net(
        model(
            """
            input x: float[r, n]
            param p: float[2, 4] = zeros()
            y[i] = max[j](p[i, j])
            z[i] = min[j](p[i, j])
            output first = argmax(p)
            output last = argmin(p)
            output greatest = max(x, axis = 1)
            output at = argmax(x)
            output over = max(x, 0)
            output above = sum(x > 0)
            loss y[0] + 2*y[1] + 3*z[0] + 0*sum(x)
            """
        )
    )
    program.params["p"][...] = [[1, 3, 3, 1], [2, 2, 2, 2]]
    x = np.array([[1, np.nan, 3], [0, -1, 5]])
    _, gradients = differentiate(program, {"x": np.ones((1, 1))})
    np.testing.assert_array_equal(gradients["p"], [[3, 1, 0, 0], [2, 0, 0, 0]])
    found = program(x=x)
    assert (list(found["first"]), list(found["last"])) == ([1, 0], [0, 0])
    np.testing.assert_array_equal(found["greatest"], [np.nan, 5])
    np.testing.assert_array_equal(found["over"], [[1, np.nan, 3], [0, 0, 5]])
    assert (list(found["at"]), found["above"]) == ([1, 2], 3)


def test_reductions_of_every_type() -> None:
    program = net(
        """
        model M {
            input x: u8[rows]
            input k: i64[rows]
            input t: bool[rows]
            input s: i8[rows]
            output total = sum(i32(x))
            output share = mean(t)
            output count = sum(t)
            output large = sum(k)
            output top = max(s)
            output least = min[i where t[i]](k[i])
            output middle = mean[i where t[i]](float(x[i]))
            output every = all[i where t[i]](x[i] > 3)
            output some = any[i where not t[i]](x[i] > 250)
            output darkest = argmin(x)
        }
        """
    )
    x = RNG.integers(0, 256, 300).astype(np.uint8)
    k, t = RNG.integers(-(2**40), 2**40, 300), RNG.random(300) < 0.5
    s = RNG.integers(-3, 3, 300).astype(np.int8)
    found = program(x=x, k=k, t=t, s=s)
    expected = {
        "total": x.sum(), "share": t.mean(), "count": t.sum(), "large": k.sum(), "top": s.max(),
        "least": k[t].min(), "middle": x[t].mean(), "every": (x[t] > 3).all(),
        "some": (x[~t] > 250).any(), "darkest": x.argmin(),
    }  # fmt: skip
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, 1e-6, err_msg=name)
    nothing = program(x=x[:1], k=k[:1], t=np.zeros(1, bool), s=s[:1])
    assert nothing["least"] == np.iinfo(np.int64).max
    assert (nothing["middle"], nothing["every"]) == (0, True)


def test_several_symbolic_dims_that_a_require_ties_together() -> None:
    program = net(
        model(
            """
            input a: float[b, m]
            input c: float[b, n]
            require n == 2*m, "two of c for each of a"
            pairs = reshape(c, (b, m, 2))
            param p: float = ones()
            e[i, j] = a[i, j]*pairs[i, j, 0]*p + pairs[i, j, 1]
            g = reshape(concat(a, c, axis = 1), (b, m, 3))
            output g
            loss mean(e^2) + mean(g)*p
            """
        )
    )

    def reference(p: Tensors, d: Tensors) -> Tensors:
        a, c = d["a"], d["c"]
        rows, m = a.shape
        pairs = c.reshape(rows, m, 2)
        e = a * pairs[..., 0] * p["p"] + pairs[..., 1]
        g = torch.cat((a, c), 1).reshape(rows, m, 3)
        return {"g": g, "loss:loss": (e**2).mean() + g.mean() * p["p"]}

    for rows, m in ((1, 1), (3, 5)):
        arrays = {"a": RNG.normal(0, 1, (rows, m)), "c": RNG.normal(0, 1, (rows, 2 * m))}
        compare(program, arrays, reference)
    with pytest.raises(nnc.UserError, match="two of c for each of a"):
        program(a=np.ones((1, 2)), c=np.ones((1, 5)))


def test_slices_splits_pads_and_stacks() -> None:
    program = net(
        model(
            """
            input x: float[b, 6, 4]
            param p: float[6, 4] = ones()
            z = x*p
            a, c = split(z, (2, 4), axis = 1)
            u = z[:, 1:5, -1]
            v = z[0, :, 2:]
            w = pad(u, 1, 2, axis = 1)
            s = stack(u, u*2, axis = 1)
            r = reshape(transpose(z, axes = (2, 0, 1)), (4*b, 6))
            k = concat(a, c, a, axis = 1)
            output v
            output w
            output s
            output r
            output k
            loss mean(w^3) + mean(s^2) + mean(r*r*r) + mean(k[:, 3:]^2) + sum(v)
            """
        )
    )

    def reference(p: Tensors, d: Tensors) -> Tensors:
        z = d["x"] * p["p"]
        a, c = z.split([2, 4], 1)
        u, v = z[:, 1:5, -1], z[0, :, 2:]
        w, s = functional.pad(u, (1, 2)), torch.stack((u, u * 2), 1)
        r, k = z.permute(2, 0, 1).reshape(-1, 6), torch.cat((a, c, a), 1)
        loss = (w**3).mean() + (s**2).mean() + (r**3).mean() + (k[:, 3:] ** 2).mean() + v.sum()
        return {"v": v, "w": w, "s": s, "r": r, "k": k, "loss:loss": loss}

    for rows in (1, 3):
        compare(program, {"x": RNG.normal(0, 1, (rows, 6, 4))}, reference)


def test_repeats_that_yield_and_instances_that_share() -> None:
    program = net(
        """
        layer two(n: int, extra: int = n*2)(x: float[b, m]) -> (float[b, n], float[b, extra]) {
            f = linear(n)
            g = linear(extra, with_bias = false)
            return f(x), g(x)
        }
        layer head(n: int)(x: float[b, m]) -> float[b, n] = x |> linear(n) |> tanh
        """
        + model(
            """
            input x: float[b, 4]
            pair = two(3)
            u, v = pair(x)
            cell = linear(3)
            repeat i < 3 { u = tanh(cell(u)) + u }
            q = v @ transpose(pair.g.weight)
            hs = repeat i < 3 { yield x |> head(2) }
            a, c = repeat i < 2 {
                scaled = x*float(i + 1)
                yield scaled, scaled + 1
            }
            output u
            output hs
            output c
            loss mean(u^2) + mean(q^2) + mean(hs^2) + 0.1*sum(cell.weight^2) + mean(a)*0
            """
        )
    )

    def reference(p: Tensors, d: Tensors) -> Tensors:
        x = d["x"]
        u = x @ p["pair.f.weight"] + p["pair.f.bias"]
        q = x @ p["pair.g.weight"] @ p["pair.g.weight"].T
        for _ in range(3):
            u = torch.tanh(u @ p["cell.weight"] + p["cell.bias"]) + u
        heads = [f"head.{i}.linear." for i in range(3)]
        hs = torch.stack([torch.tanh(x @ p[h + "weight"] + p[h + "bias"]) for h in heads])
        loss = (u**2).mean() + (q**2).mean() + (hs**2).mean() + 0.1 * (p["cell.weight"] ** 2).sum()
        return {"u": u, "hs": hs, "c": torch.stack([x, 2 * x]) + 1, "loss:loss": loss}

    compare(program, {"x": RNG.normal(0, 1, (5, 4))}, reference)


def test_losses_of_all_kinds() -> None:
    program = net(
        model(
            """
            input x: float[b, 3]
            target y: float[b]
            target c: i32[b] in 0..4
            h = x |> linear(2)
            mu, ls = h[:, 0], h[:, 1]
            d = y - mu
            loss quantile = mean(max(0.9*d, -0.1*d))
            loss likelihood = mean(0.5*d^2*exp(-2*ls) + ls)
            s = x |> linear(4)
            own[i] = s[i, c[i]]
            margin[i] = sum[k where k != c[i]](max(0, 1 + s[i, k] - own[i]))
            loss hinge = mean(margin)
            q[i, k < 4] = if k == c[i] then 0.7 else 0.1
            loss divergence = mean(sum(q*(log(q) - log_softmax(s)), axis = 1))
            p = softmax(s)
            loss entropy = 0.1*mean(-sum(p*log(p + 1e-9), axis = 1))
            """
        )
    )

    def reference(p: Tensors, d: Tensors) -> Tensors:
        h = d["x"] @ p["linear.weight"] + p["linear.bias"]
        s = d["x"] @ p["linear_2.weight"] + p["linear_2.bias"]
        c = d["c"].long()
        e, ls = d["y"] - h[:, 0], h[:, 1]
        chosen = functional.one_hot(c, 4).double()
        margin = torch.relu(1 + s - s.gather(1, c[:, None])) * (1 - chosen)
        q, share = 0.1 + 0.6 * chosen, s.softmax(1)
        return {
            "loss:quantile": torch.maximum(0.9 * e, -0.1 * e).mean(),
            "loss:likelihood": (0.5 * e**2 * torch.exp(-2 * ls) + ls).mean(),
            "loss:hinge": margin.sum(1).mean(),
            "loss:divergence": (q * (q.log() - s.log_softmax(1))).sum(1).mean(),
            "loss:entropy": 0.1 * (-(share * (share + 1e-9).log()).sum(1)).mean(),
        }

    for rows in (1, 6):
        arrays = {
            "x": RNG.normal(0, 1, (rows, 3)),
            "y": RNG.normal(0, 1, rows),
            "c": RNG.integers(0, 4, rows).astype(np.int32),
        }
        compare(program, arrays, reference)


def test_dropout_passes_gradients_where_it_passed_values() -> None:
    program = net(
        model(
            """
            input x: float[b, 5]
            param p: float[7, 5] = ones()
            loss sum(dropout(p, 0.4)) + 0*sum(x)
            """
        )
    )
    losses, gradients = differentiate(program, {"x": np.ones((2, 5))})
    kept = gradients["p"]
    assert losses["loss"] == pytest.approx(kept.sum())
    assert set(np.unique(kept.round(9))) == {0.0, round(1 / 0.6, 9)}
