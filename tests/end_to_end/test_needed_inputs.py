"""A call brings what it needs: outputs may have inputs of their own, metrics targets of theirs."""

from __future__ import annotations

import numpy as np
import pytest

import nnc
from tests.support.nets import net

TEXT = """
model M {
    input  x: float[batch, 3]
    input  z: float[count, 3]
    target y: float[batch, 2]
    target wanted: i32[batch]
    input  unused: float[batch, rest]
    f = linear(2)
    loss mse(f(x), y)
    metric right = mean(argmax(f(x)) == wanted)
    output a = f(x)
    output b = f(z)
    output c = 2*x
}
train M { optimizer = sgd(lr = 0.1), batch = 4, epochs = 3, seed = 1, precision = "f64" }
"""
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(10, 3)), RNG.normal(size=(10, 2))
WANTED = RNG.integers(0, 2, 10).astype(np.int32)


def test_training_needs_no_input_of_an_output() -> None:
    program = net(TEXT)
    weight, bias = (np.array(program.params[f"f.{name}"]) for name in ("weight", "bias"))
    guess = X @ weight + bias
    assert program.step(x=X, y=Y, wanted=WANTED) == pytest.approx(
        np.mean((guess - Y) ** 2), rel=1e-12
    )
    history = program.fit({"x": X, "y": Y, "wanted": WANTED})
    assert history.last.loss < history.epochs[0].loss


def test_what_only_a_metric_reads_is_measured() -> None:
    program = net(TEXT)
    guess = X @ program.params["f.weight"] + program.params["f.bias"]
    found = program.evaluate({"x": X, "y": Y, "wanted": WANTED})
    assert found["right"] == pytest.approx(np.mean(guess.argmax(1) == WANTED))
    with pytest.raises(nnc.UserError, match="no array was given for 'wanted'"):
        program.evaluate({"x": X, "y": Y})


def test_outputs_need_their_inputs() -> None:
    program = net(TEXT)
    z = RNG.normal(size=(5, 3))
    outputs = program(x=X, z=z)
    np.testing.assert_allclose(
        outputs["b"], z @ program.params["f.weight"] + program.params["f.bias"], rtol=1e-12
    )
    with pytest.raises(nnc.UserError, match="no array was given for 'z'"):
        program(x=X)


def test_an_array_is_needed_for_a_dim_that_it_alone_gives() -> None:
    program = net("""
    model M {
        input x: float[batch, 3]
        input like: float[batch, width]
        output y = sum(x) + 0*zeros[width]()
    }
    """)
    assert program(x=np.ones((2, 3), "f4"), like=np.zeros((2, 7), "f4"))["y"].shape == (7,)
    with pytest.raises(nnc.UserError, match="no array was given for 'like'"):
        program(x=np.ones((2, 3), "f4"))
