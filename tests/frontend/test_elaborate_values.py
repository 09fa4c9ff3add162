"""What expressions compute, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.programs import codes, model, output, run

X = np.array([[1.0, -2.0, 3.5], [0.5, 4.0, -1.25]])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = x + 1", X + 1),
        ("y = 2*x - 0.5", 2 * X - 0.5),
        ("y = -x/4", -X / 4),
        ("y = x^2", X**2),
        ("y = x^3 - x^0", X**3 - 1),
        ("y = (x*x + 1)^(-2)", (X * X + 1) ** -2.0),
        ("y = (x*x)^0.25", np.abs(X) ** 0.5),
        ("y = 2^x", 2.0**X),
        ("y = max(x, 0)", np.maximum(X, 0)),
        ("y = min(max(x, -1), 1.5)", np.clip(X, -1, 1.5)),
        ("y = if x > 0 then x else 0", np.maximum(X, 0)),
        ("y = float(x > 0 and not x > 2)", ((X > 0) & ~(X > 2)).astype(float)),
        ("y = float(-1 < x <= 1)", ((X > -1) & (X <= 1)).astype(float)),
        ("y = exp(x) + log(abs(x)) + tanh(x) + sqrt(abs(x))",
         np.exp(X) + np.log(np.abs(X)) + np.tanh(X) + np.sqrt(np.abs(X))),
        ("y = floor(x) + ceil(x) + round(x)", np.floor(X) + np.ceil(X) + np.round(X)),
        ("y = x % 2", np.mod(X, 2)),
        ("y = x // 2", np.floor_divide(X, 2)),
        ("y = sum(x)", X.sum()),
        ("y = mean(x, axis = 0)", X.mean(0)),
        ("y = mean(x > 0)", (X > 0).mean()),
        ("y = where(x > 1, 1, 2)", np.where(X > 1, 1, 2)),
        ("y = where(x > 1, i32(x), 0) + i32(1)", np.where(X > 1, X.astype(int), 0) + 1),
        ("y = where(x > 1, x, 0.5)", np.where(X > 1, X, 0.5)),
        ("y = float(where(x > 1, x < 3, true))", np.where(X > 1, X < 3, True)),
        ("y = clip(u8(x*x), 1, 6)", np.clip((X * X).astype(np.uint8), 1, 6)),
        ("y = clip(i64(x), -1, 2) // i64(2)", np.clip(X.astype(int), -1, 2) // 2),
        ("y = clip(x, -1, 2.5)", np.clip(X, -1, 2.5)),
        ("y = i32(x) @ transpose(i32(x))", X.astype(int) @ X.astype(int).T),
        ("y = matmul(i64(x), transpose(i64(x)))", X.astype(int) @ X.astype(int).T),
        ("y = one_hot(u8(x*x), 5)", (X * X).astype(int)[..., None] == np.arange(5)),
        ("y = one_hot(i64(x), 3)", X.astype(int)[..., None] == np.arange(3)),
        ("y = max(i32(x), axis = 0) + min(i32(x), i32(1)) + abs(i32(x))",
         X.astype(int).max(0) + np.minimum(X.astype(int), 1) + np.abs(X.astype(int))),
        ("y = float(pad(x > 0, 1, 0))", np.pad(X > 0, ((0, 0), (1, 0)))),
        ("y = float(pad(x > 0, 1, 0, value = true))",
         np.pad(X > 0, ((0, 0), (1, 0)), constant_values=True)),
        ("y = pad(u8(x*x), 0, 2, value = 9)",
         np.pad((X * X).astype(int), ((0, 0), (0, 2)), constant_values=9)),
        ("y = float(concat(x > 0, x > 1))", np.concatenate([X > 0, X > 1], 1)),
        ("y = concat(i8(x), i8(2*x)) + stack(i8(x), i8(x))[0, :, 0:1]",
         np.concatenate([X.astype(int), (2 * X).astype(int)], 1) + X.astype(int)[:, :1]),
        ("y = var(x)", X.var()),
        ("y = var(x, axis = 0)", X.var(0)),
        ("y = var(x + 1e6, axis = -1, keep = true, sample = true)",
         (X + 1e6).var(1, ddof=1, keepdims=True)),
        ("y = std(x, axis = (0, 1))", X.std()),
        ("y = std(x, sample = true)", X.std(ddof=1)),
        ("y = var(x > 0)", (X > 0).var()),
        ("y = max(x, axis = 1, keep = true)", X.max(1, keepdims=True)),
        ("y = min(x, axis = (0, 1)) + prod(x)", X.min() + X.prod()),
        ("y = argmax(x)", X.argmax(1)),
        ("y = argmin(x, axis = 0)", X.argmin(0)),
        ("y = sum(x > 0, axis = 0)", (X > 0).sum(0)),
        ("y = float(any(x > 3)) + float(all(x > 3, axis = 0))", 1.0 + np.zeros(3)),
        ("y = transpose(x)", X.T),
        ("y = x[0]", X[0]),
        ("y = x[:, 1]", X[:, 1]),
        ("y = x[:, -1]", X[:, -1]),
        ("y = x[:, 1:]", X[:, 1:]),
        ("y = x[.., 0:3:2]", X[:, ::2]),
        ("y = x[:, :-1]", X[:, :-1]),
        ("y = x @ [[1.0, 2], [3, 4], [5, 6]]", X @ np.array([[1.0, 2], [3, 4], [5, 6]])),
        ("y = x + [1, 2, 3]", X + np.array([1, 2, 3])),
        ("p, q, r = split(x, 3)\ny = p + q*r", X[:, :1] + X[:, 1:2] * X[:, 2:]),
        ("p, q = split(x, (1, 2))\ny = concat(q, p, q)",
         np.concatenate([X[:, 1:], X[:, :1], X[:, 1:]], 1)),
        ("y = concat(x, x, axis = 0)", np.concatenate([X, X], 0)),
        ("y = stack(x, 2*x)", np.stack([X, 2 * X])),
        ("y = stack(x, 2*x, axis = 2)", np.stack([X, 2 * X], 2)),
        ("y = pad(x, 1, 2, value = 7)", np.pad(X, ((0, 0), (1, 2)), constant_values=7)),
        ("y = pad(x, 1, 0, axis = 0)", np.pad(X, ((1, 0), (0, 0)))),
        ("y = reshape(x, (3, b))", X.reshape(3, 2)),
        ("y = reshape(x, (b, 3, 1))", X.reshape(2, 3, 1)),
        ("y = reshape(x, (b, -1, 1))", X.reshape(2, 3, 1)),
        ("y = transpose(reshape(x, (b, 3, 1)), (2, 0, 1))", X.reshape(2, 3, 1).transpose(2, 0, 1)),
        ("y = x * size(x)", X * 6),
        ("y = x + shape(x)[1]", X + 3),
        ("y = x * (b * 0.5)", X),
        ("y = i32(x)", X.astype(np.int32)),
        ("y = i32(x) // 2", X.astype(np.int32) // 2),
        ("y = i32(x) % 3", X.astype(np.int32) % 3),
        ("y = stop_gradient(x) * pi", X * np.pi),
        ("y = x - mean(x, axis = 1, keep = true)", X - X.mean(1, keepdims=True)),
    ],
)  # fmt: skip
def test_expressions_compute_what_numpy_does(body: str, expected: np.ndarray) -> None:
    found = output(body, x=X)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.shape == np.shape(expected)


@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    other=st.sampled_from(["same", "ones", "none"]),
    m=st.integers(1, 3), k=st.integers(1, 3), n=st.integers(1, 3),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40, deadline=None, derandomize=True)
def test_products_of_matrices_broadcast_like_numpy(
    lead: list[int], other: str, m: int, k: int, n: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    right = {"same": lead, "ones": [1] * len(lead), "none": []}[other]
    a, b = draw.normal(size=(*lead, m, k)), draw.normal(size=(*right, k, n))
    text = f"""
        model M() {{
            input a: float[{", ".join(map(str, a.shape))}]
            input b: float[{", ".join(map(str, b.shape))}]
            output y = a @ b
            output z = matmul(a, b)
        }}
    """
    found = run(model(text), {"a": a, "b": b})
    np.testing.assert_allclose(found["y"], a @ b, rtol=1e-12)
    np.testing.assert_allclose(found["z"], a @ b, rtol=1e-12)


@given(
    shape=st.lists(st.integers(1, 3), max_size=3),
    drop=st.integers(0, 3),
    flat=st.sets(st.integers(0, 2)),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_broadcasting_is_strict(shape: list[int], drop: int, flat: set[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    other = [1 if k in flat else d for k, d in enumerate(shape)][min(drop, len(shape)) :]
    a, b = draw.normal(size=shape), draw.normal(size=other)
    text = f"""
        model M() {{
            input a: float[{", ".join(map(str, shape))}]
            input b: float[{", ".join(map(str, other))}]
            output y = a - b
        }}
    """
    text = text.replace("float[]", "float")
    allowed = len(shape) == len(other) or shape[len(shape) - len(other) :] == other
    if allowed:
        np.testing.assert_allclose(run(model(text), {"a": a, "b": b})["y"], a - b)
    else:
        assert codes(text) == ["E0204"]


def test_whole_numbers_are_exact_and_take_the_type_they_meet() -> None:
    text = """
        model M(n: int = 3) {
            input x: float[b, n]
            half = 4*n/2
            y[i, j] = x[i, j] * half + (if i == j then 1 else 0) + i/1
            output y
            output count = sum[i < b, j < n](1)
            output ratio = n*1.0/half
        }
    """
    found = run(model(text), {"x": X})
    i, j = np.indices(X.shape)
    np.testing.assert_allclose(found["y"], X * 6 + (i == j) + i)
    assert found["count"] == 6
    assert found["count"].dtype == np.int32
    assert found["ratio"] == 0.5


def test_functions_work_on_elements_and_on_tensors() -> None:
    header = """
        fn f(x: float[..s], k: float) -> float[..s] {
            t = x * k
            return if t > 0 then t else silu(t)
        }
    """
    body = "z[i, j] = f(x[i, j], 2) + leaky_relu(x[i, j])\ny = z - f(x, 2) - leaky_relu(x)"
    np.testing.assert_allclose(output(body, header=header, x=X), 0 * X, atol=1e-12)


def test_several_results_and_defaults() -> None:
    header = """
        fn both(x: float[..s, n], by: int = n) -> (float[..s], float[..s, n]) {
            return sum(x, axis = -1), x * by
        }
    """
    body = "a, c = both(x)\nd, e = both(x, by = 2)\ny = c - e + sum(a) - sum(d)"
    np.testing.assert_allclose(output(body, header=header, x=X), X)


def test_joint_leading_dims_are_broadcast() -> None:
    header = "fn dot(a: float[..s, n], b: float[..s, n]) -> float[..s] = sum(a*b, axis = -1)"
    found = output("y = dot(x, [1, 2, 3]) + dot([[1, 1, 1]], x)", header=header, x=X)
    np.testing.assert_allclose(found, X @ [1, 2, 3] + X.sum(1))


def test_dims_that_only_the_result_names() -> None:
    found = output("y: float[b, 2] = 3*ones() + zeros()", x=X)
    np.testing.assert_array_equal(found, np.full((2, 2), 3.0))
    np.testing.assert_array_equal(output("y = ones[2, 1]() + identity[2, 2]()", x=X), 1 + np.eye(2))
    assert codes("model M() {\noutput y = ones()\n}") == ["E0207"]


def test_decimals_are_folded_in_double_precision() -> None:
    text = "model M() {\noutput y = sqrt(2) * 1e-3 / 3 + max(1, 2.5) + 7 % 4.0 + abs(-1.5)\n}"
    expected = 2**0.5 * 1e-3 / 3 + 2.5 + 3.0 + 1.5
    assert run(model(text, precision="f32"), {})["y"] == np.float32(expected)


def test_a_written_gradient_leaves_the_value() -> None:
    header = """
        fn clamp(x: float[..s]) -> float[..s] = max(x, 0) with gradient(dy) { return dy }
    """
    np.testing.assert_allclose(output("y = clamp(x)", header=header, x=X), np.maximum(X, 0))
    body = "y[i, j] = clamp(x[i, j])"
    np.testing.assert_allclose(output(body, header=header, x=X), np.maximum(X, 0))


def test_random_draws_depend_on_seed_step_and_place() -> None:
    text = """
        model M() {
            input x: float[batch, 40]
            u = uniform[batch, 40]()
            v = uniform[batch, 40]()
            output y = x + u
            output z = x + v
            output w = dropout(x + 1, 0.5)
        }
    """
    found = model(text)
    x = np.zeros((3, 40))

    def draw(seed: int, step: int, training: bool = True) -> dict[str, np.ndarray]:
        return run(found, {"x": x}, training=training, seed=seed, step=step)

    first = draw(1, 0)
    assert np.array_equal(first["y"], draw(1, 0)["y"])
    assert not np.array_equal(first["y"], draw(2, 0)["y"])
    assert not np.array_equal(first["y"], draw(1, 1)["y"])
    assert not np.array_equal(first["y"], first["z"])
    assert np.array_equal(draw(1, 0, False)["y"], draw(1, 5, False)["y"])
    assert ((first["y"] >= 0) & (first["y"] < 1)).all()
    assert abs(first["y"].mean() - 0.5) < 0.1
    assert set(np.unique(first["w"])) == {0.0, 2.0}
    assert np.array_equal(draw(1, 0, False)["w"], x + 1)


def test_rows_of_a_batch_draw_by_their_place_in_the_whole() -> None:
    text = """
        model M() {
            input x: float[batch, 4]
            output y = x + normal[batch, 4]()
            output z = reshape(x, (2*batch, 2)) + uniform[2*batch, 2]()
        }
    """
    found = model(text)
    whole = run(found, {"x": np.zeros((5, 4))}, training=True)
    part = run(found, {"x": np.zeros((2, 4))}, training=True, row=3)
    np.testing.assert_array_equal(part["y"], whole["y"][3:])
    np.testing.assert_array_equal(part["z"], whole["z"][6:])


def test_the_library_on_tensors_of_one_number_and_many() -> None:
    z = np.array([0.2, -0.7, 1.5])
    for body, expected in (
        ("y = where(x > 0, x, -1)", np.where(X > 0, X, -1)),
        ("y = where(x[0] > 0, 1.0, x)", np.where(X[0] > 0, 1.0, X)),
        ("y = clip(x, -1, 1)", np.clip(X, -1, 1)),
        ("y = one_hot(argmax(x), 3)", np.eye(3)[X.argmax(1)]),
        ("y = sigmoid([0.2, -0.7, 1.5])", 1 / (1 + np.exp(-z))),
        ("y = softmax(x, axis = 0)", np.exp(X) / np.exp(X).sum(0)),
        ("y = mse(x, 1)", ((X - 1) ** 2).mean()),
    ):
        np.testing.assert_allclose(output(body, x=X), expected, rtol=1e-12, err_msg=body)


def test_many_parts_are_joined() -> None:
    body = "ys = repeat k < 9 { yield (k + 1)*x }\ny = concat(" + ", ".join(
        f"ys[{k}]" for k in range(9)
    )
    found = output(body + ", axis = 0)", x=X)
    np.testing.assert_allclose(found, np.concatenate([(k + 1) * X for k in range(9)]))
