"""Calls from Python with what does not fit: a coded message, and nothing has changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnc
from tests.support.nets import net

TEXT = """
model M {
    input  x: float[b, 3]
    target t: float[b, 3]
    input  heat: float
    z = heat * (x |> linear(3))
    output z
    loss mse(z, t)
}
train M { optimizer = sgd(0.1) }
"""
X = np.ones((2, 3), np.float32)


@pytest.fixture(scope="module")
def program() -> nnc.Net:
    return net(TEXT)


def call(program: nnc.Net, **changes: Any) -> Any:
    return program(**{"x": X, "heat": 1.0, **changes})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"xx": X}, "E0601"),
        ({"x": X[0]}, "E0604"),
        ({"x": X[:, :2]}, "E0607"),
        ({"x": X[:0]}, "E0608"),
        ({"x": X.astype(complex)}, "E0603"),
        ({"x": "text"}, "E0603"),
        ({"x": None}, "E0603"),
        ({"x": [[1, 2, 3], [1, 2]]}, "E0603"),
        ({"x": np.full((2, 3), 1e300)}, "E0605"),
        ({"heat": [1.0]}, "E0604"),
    ],
)
def test_arrays_that_do_not_fit(program: nnc.Net, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(nnc.UserError, match=code):
        call(program, **changes)


def test_numbers_and_odd_arrays_that_do_fit(program: nnc.Net) -> None:
    """A number is an array without dims; infinity stays what it is; order does not matter."""
    expected = call(program)["z"]
    np.testing.assert_array_equal(call(program, heat=np.float64(1))["z"], expected)
    np.testing.assert_array_equal(call(program, x=np.asfortranarray(X))["z"], expected)
    np.testing.assert_array_equal(call(program, x=X.tolist())["z"], expected)
    assert np.isinf(call(program, heat=np.inf)["z"]).all()


@pytest.mark.parametrize("data", [[1, 2], X])
def test_data_is_given_by_name(program: nnc.Net, data: Any) -> None:
    with pytest.raises(nnc.UserError, match="E0603"):
        program.fit(data)


def test_more_memory_than_there_is() -> None:
    program = net("model M { input x: float[b]\n output y = zeros[b, 10^9, 10^9]() }")
    with pytest.raises(nnc.UserError, match="E0656"):
        program(x=np.ones(4))


def test_ranges_that_end_with_a_dim() -> None:
    program = net(
        """
        model G {
            input feature: float[nodes, 3]
            input source: i32[edges] in 0..nodes
            y[e, d] = feature[source[e], d]
            param w: float = ones()
            output y
            loss mean(w*y)
        }
        train G { optimizer = sgd(0.1) }
        """
    )
    feature = np.ones((4, 3), np.float32)
    good, bad = np.array([0, 3], np.int32), np.array([1, 4], np.int32)
    for _ in range(2):
        assert program(feature=feature, source=good)["y"].shape == (2, 3)
        program.step(feature=feature, source=good)
        for fails in (program, program.step):
            with pytest.raises(nnc.UserError, match=r"E0606.*'source' holds 4 at \[1\]"):
                fails(feature=feature, source=bad)
    with pytest.raises(nnc.UserError, match="E0606"):
        program.fit({"feature": feature, "source": bad})
    larger = np.ones((5, 3), np.float32)
    assert program(feature=larger, source=bad)["y"].shape == (2, 3)
