"""The smallest example: two points, two parameters, a thousand steps of gradient descent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import nnc
from nnc.cli import main
from tests.support.nets import EXAMPLES

FILE = EXAMPLES / "logistic.nn"


def test_from_python() -> None:
    net = nnc.compile(FILE)
    assert net.params["w"] == 0
    assert net.params["b"] == 0
    history = net.fit()
    assert history.last.steps == 1000
    assert net.params["w"] == pytest.approx(5.83271, abs=6e-6)
    assert net.params["b"] == pytest.approx(-2.70019, abs=6e-6)
    points = np.array([0, 1], np.float32)
    assert net.evaluate(split="train")["loss"] == pytest.approx(0.0538577, abs=6e-8)
    found = net(x=points)["probability"]
    np.testing.assert_allclose(found, [0.06296, 0.95821], rtol=0, atol=6e-6)


def test_by_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    points = tmp_path / "x.npy"
    np.save(points, np.array([0, 1], np.float32))

    def call(*words: str) -> dict:
        done = CliRunner().invoke(main, [*words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout.splitlines()[-1])

    trained = call("train", str(FILE), "--out", str(run))
    assert trained["steps"] == 1000
    assert trained["parameters"] == 2
    evaluated = call("eval", str(FILE), "--weights", str(run))
    assert evaluated["loss"] == pytest.approx(0.0538577, abs=6e-8)
    predicted = call("predict", str(FILE), "--weights", str(run), "--input", f"x={points}")
    assert predicted["probability"] == pytest.approx([0.06296, 0.95821], abs=6e-6)
