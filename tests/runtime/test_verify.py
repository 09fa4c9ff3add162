"""`nnc verify` passes what is right, and names the stage of what is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import nnc
from nnc.cli import main
from nnc.ir.model import Port
from nnc.ir.types import DType, TensorType
from nnc.passes import pipeline, rules
from nnc.passes.rewrite import Rule, RuleSet
from nnc.runtime.verify.gradients import Differences
from nnc.runtime.verify.report import LEFT_OUT, Report
from nnc.runtime.verify.stages import BITS, Native, compare
from nnc.runtime.verify.world import port_array

MIXED = """
model Mixed(width: int = 5) {
    input  ids: i32[batch, time] in 0..11
    input  shift: float[batch]
    target label: i32[batch] in 0..4
    require time % 2 == 0, "pairs"
    e = ids |> embedding(11, width) |> layer_norm()
    h = mean(e, axis = 1) |> linear(width) |> batch_norm() |> tanh |> dropout(0.3)
    g[b, i] = h[b, i] + abs(shift[b])
    logits = g |> linear(4)
    output probs = softmax(logits)
    loss cross_entropy(logits, label)
    metric accuracy = mean(argmax(logits) == label)
}
train Mixed {
    optimizer = { "**.bias" = sgd(lr = 0.1), "**" = adam(lr = 1e-2) }
    regularize = l2(1e-2)
    clip_norm = 0.5
}
"""
SMALL = """
model Small {
    input x: float[batch, 3]
    target t: float[batch, 2]
    y = x |> linear(2) |> tanh
    output size = abs(y)
    loss mse(y, t)
}
train Small { optimizer = sgd(lr = 0.1) }
"""


def first(report: Report) -> str:
    assert not report.ok
    return report.failures()[0].stage


def test_a_model_of_many_parts_passes() -> None:
    report = nnc.verify(MIXED, seconds=600)
    assert report.ok, report.as_text()
    assert not [c for c in report.checks if c.status == LEFT_OUT]
    assert report.dims["time"] % 2 == 0
    stages = {c.stage for c in report.checks}
    assert {f"pass {p.name}" for p in pipeline.PIPELINE} <= stages
    assert {"loops, fused", "loops, not fused", "native code", BITS} <= stages
    grounds = {c.entry for c in report.checks if c.stage == "gradient against differences"}
    assert {"embedding.table", "batch_norm.scale", "linear.weight", "linear_2.bias"} <= grounds
    assert {"update", "gradient", "infer", "evaluate"} <= {c.entry for c in report.checks}


def test_a_wrong_rule_of_algebra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = RuleSet.of((Rule("abs(x)", "x"), *rules.RULES))
    monkeypatch.setattr(rules, "_ALGEBRA", wrong)
    report = nnc.verify(SMALL, seconds=600)
    assert first(report) in ("pass fold", "pass simplify")
    (failed,) = report.failures()
    assert failed.entry == "infer"
    assert failed.difference is not None
    assert failed.difference.tensor == "output:size"
    assert failed.difference.found == -failed.difference.expected


def test_a_wrong_derivative_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnc.passes import autodiff

    right = autodiff.gradients

    def wrong(goal: Any, wrt: Any, facts: Any = ()) -> Any:
        from nnc.ir import build, scalar

        found = right(goal, wrt, facts)
        return [build.elementwise(scalar.add, found[0], found[0]), *found[1:]]

    monkeypatch.setattr("nnc.runtime.differentiate.gradients", wrong, raising=False)
    monkeypatch.setattr("nnc.runtime.assemble.gradients", wrong, raising=False)
    report = nnc.verify(SMALL, seconds=600)
    assert first(report) == "gradient against differences"
    assert [c.entry for c in report.failures()] == ["linear.bias"]


def test_wrong_native_code_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnc.backends.llvm import LLVMBackend

    right = LLVMBackend.compile

    def wrong(self: Any, program: Any, options: Mapping[str, str] | None = None) -> bytes:
        import llvmlite.binding  # noqa: F401 - loaded before time is taken

        from nnc.backends.llvm import _emit
        from nnc.backends.llvm.objects import compile_text

        text, target = _emit(program, options or {})
        assert " fmul " in text
        return compile_text(text.replace(" fmul ", " fadd "), target)

    monkeypatch.setattr(LLVMBackend, "compile", wrong)
    assert LLVMBackend.compile is not right
    assert first(nnc.verify(SMALL, seconds=600)) == "native code"


def test_wrong_loops_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnc.passes import math

    right = math.expand

    def wrong(program: Any) -> Any:
        import dataclasses

        entries = tuple(
            dataclasses.replace(e, steps=e.steps[:-1]) if e.name == "update" else e
            for e in program.entries
        )
        return dataclasses.replace(right(program), entries=entries)

    monkeypatch.setattr(math, "expand", wrong)
    report = nnc.verify(SMALL, seconds=600)
    assert first(report) == "loops, not fused"
    assert report.failures()[0].entry == "update"


def test_bits_that_depend_on_threads_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Native.run

    def wrong(self: Native, entry: str, threads: int, arrays: dict[str, Any]) -> str | None:
        told = right(self, entry, threads, arrays)
        if threads == 3 and entry == "infer":
            size = arrays["output:size"]
            size[1, 1] = np.nextafter(size[1, 1], np.float32(9))
        return told

    monkeypatch.setattr(Native, "run", wrong)
    report = nnc.verify(SMALL, seconds=600)
    (failed,) = report.failures()
    assert (failed.stage, failed.entry) == (BITS, "infer")
    assert failed.difference is not None
    assert failed.difference.place == (1, 1)
    assert "3 threads" in failed.detail


def test_a_compiler_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnc.passes import lower

    def broken(*_: Any, **__: Any) -> Any:
        raise AssertionError("no schedule")

    monkeypatch.setattr(lower, "lower", broken)
    report = nnc.verify(SMALL, seconds=600)
    assert first(report) == "loops, not fused"
    assert "AssertionError at" in report.failures()[0].detail
    assert "no schedule" in report.failures()[0].detail


class Kinked(Differences):
    """A loss with a kink just beside the place that is looked at."""

    def __init__(self) -> None:
        pass

    def loss(self, moved: Mapping[str, Any]) -> tuple[float, Mapping[str, Any]]:
        return float(np.abs(moved["w"] - 3e-5).sum()), {}


@pytest.mark.parametrize(("slope", "wrong"), [(-1.0, False), (1.0, True), (-0.3, True)])
def test_a_kink_between_two_ends_takes_smaller_steps(slope: float, wrong: bool) -> None:
    found = Kinked().disagreement("w", np.zeros(1), np.ones(1), slope)
    assert (found is not None) is wrong


def test_a_derivative_that_is_meant_to_differ_is_told() -> None:
    text = SMALL.replace("mse(y, t)", "mse(stop_gradient(y)*y, t)")
    report = nnc.verify(text, seconds=600)
    assert report.ok
    told = [c for c in report.checks if c.status == LEFT_OUT]
    assert told
    assert all("stops a gradient" in c.detail for c in told)


def test_without_time_all_that_is_slow_is_left_out_and_told() -> None:
    report = nnc.verify(SMALL.replace("linear(2)", "linear(200) |> linear(2)"), seconds=0.0)
    assert report.ok
    left = [c for c in report.checks if c.status == LEFT_OUT]
    assert len(left) > 5
    assert "--seconds" in left[0].detail
    assert "left out" in report.as_text()
    assert BITS in {c.stage for c in report.checks}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.nn"
    path.write_text(SMALL)
    out = tmp_path / "report.md"
    arguments = ["verify", str(path), "--dims", "batch=2", "--seed", "4", "--seconds", "600"]
    done = CliRunner().invoke(main, [*arguments, "--json", "--out", str(out)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["ok"]
    assert told["config and dims"] == "batch=2"
    page = out.read_text()
    for part in (nnc.__version__, told["sha256"], told["machine"], "| native code | infer | ok |"):
        assert part in page
    monkeypatch.setattr(Native, "run", lambda *_: "it broke")
    failed = CliRunner().invoke(main, arguments)
    assert failed.exit_code == 1
    assert "FAILED: native code, infer: it broke" in failed.stdout
    assert CliRunner().invoke(main, ["verify", str(path), "--dims", "batch=x"]).exit_code == 2


def test_values_keep_to_their_range() -> None:
    draw = np.random.default_rng(0)
    port = Port("p", TensorType(DType.I32, (200,)), "input", 3, 9)
    values = port_array(port, (200,), {}, draw)
    assert (values.min(), values.max(), values.dtype) == (3, 8, np.int32)


def test_differences_beyond_rounding_are_seen() -> None:
    want = {("output", "y"): np.array([1.0, np.nan, np.inf, 0.0], np.float32)}
    near = {("output", "y"): np.array([1.00001, np.nan, np.inf, 1e-6], np.float32)}
    assert compare(want, near) is None
    for at, value in ((0, 1.01), (1, 0.0), (2, 1e30), (3, 0.01), (0, np.nan)):
        far = near["output", "y"].copy()
        far[at] = value
        found = compare(want, {("output", "y"): far})
        assert found is not None
        assert found.place == (at,)
