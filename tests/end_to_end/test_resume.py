"""Training that was stopped goes on to the same bits: at every step, for every kind of state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnc
from nnc.runtime import state
from nnc.runtime.train.checkpoint import Store

MODEL = """
model M {
    input  x: float[n, 6]
    target k: i32[n] in 0..3
    h = x |> linear(8) |> batch_norm() |> relu |> dropout(0.3) |> linear(3)
    output h
    loss cross_entropy(h, k)
    metric accuracy = mean(argmax(h) == k)
}
"""
HARD = """
    optimizer = { "**.bias" = sgd(0.1, momentum = 0.9), "**" = adam(lr = cosine(0.01, total = 40)) }
    batch = 4, accumulate = 2, seed = 5, clip_norm = 1, ema = 0.9
    regularize = l2(0.01)
"""
ROWS, STEPS = 30, 30


def text(recipe: str) -> str:
    return f"{MODEL}\ntrain M {{ {recipe} }}\n"


def data(rows: int = ROWS) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(0, 1, (rows, 6)).astype(np.float32),
        "k": rng.integers(0, 3, rows).astype(np.int32),
    }


class StopAt:
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step(self, at: Any) -> bool:
        return bool(at.steps == self.steps)


def everything(net: nnc.Net, history: nnc.History) -> dict[str, bytes]:
    """All bits that training leaves: parameters, slots, counters, averages, history."""
    found = {**state.parameters(net.executor), **state.rest(net.executor)}
    lines = [repr((e.epoch, e.steps, e.loss, e.losses, e.metrics)) for e in history.epochs]
    return {n: a.tobytes() for n, a in found.items()} | {"history": "\n".join(lines).encode()}


def straight(program: str, **length: int) -> dict[str, bytes]:
    net = nnc.compile(program, threads=1)
    return everything(net, net.fit(data(), validation=0.2, **length))


def in_two(program: str, stop: int, folder: Path, threads: int, **length: int) -> dict[str, bytes]:
    net = nnc.compile(program, threads=1)
    net.fit(data(), validation=0.2, checkpoints=folder, callbacks=[StopAt(stop)], **length)
    again = nnc.compile(program, threads=threads)
    history = again.fit(data(), validation=0.2, checkpoints=folder, resume=True, **length)
    return everything(again, history)


def test_stopped_at_every_step_of_thirty_and_resumed(tmp_path: Path) -> None:
    program = text(HARD)
    expected = straight(program, steps=STEPS)
    for stop in range(1, STEPS + 1):
        found = in_two(program, stop, tmp_path / str(stop), 1 + stop % 2, steps=STEPS)
        assert found.keys() == expected.keys()
        assert [n for n in expected if found[n] != expected[n]] == [], stop


RECIPES = st.builds(
    lambda optimizer, batch, accumulate, extra, seed: text(
        f"optimizer = {optimizer}\nbatch = {batch}\naccumulate = {accumulate}\nseed = {seed}\n"
        + extra
    ),
    st.sampled_from(
        ["sgd(0.1)", "sgd(0.1, momentum = 0.9, nesterov = true)", "rmsprop(centered = true)",
         "adagrad(initial = 0.5)", "adamw(lr = cosine(0.01, warmup = 3, total = 20))"]
    ),
    st.integers(1, 24), st.integers(1, 3),
    st.sampled_from(["", "ema = 0.5", "early_stop = 1", 'freeze = "linear.**"']),
    st.integers(0, 2**62),
)  # fmt: skip


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=RECIPES, stop=st.integers(1, 9))
def test_any_recipe_resumes_to_the_same_bits(
    program: str, stop: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = straight(program, epochs=3)
    assert in_two(program, stop, tmp_path_factory.mktemp("run"), 2, epochs=3) == expected


def test_more_steps_or_epochs_go_on_as_if_there_had_been_no_end(tmp_path: Path) -> None:
    program = text(HARD)
    for number, (first, then) in enumerate([({"steps": 7}, {"steps": 13}),
                                            ({"epochs": 2}, {"epochs": 4})]):  # fmt: skip
        folder = tmp_path / str(number)
        net = nnc.compile(program)
        net.fit(data(), checkpoints=folder, **first)
        again = nnc.compile(program)
        history = again.fit(data(), checkpoints=folder, resume=True, **then)
        other = nnc.compile(program)
        assert everything(again, history) == everything(other, other.fit(data(), **then))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"recipe": HARD.replace("0.01,", "0.02,")}, "the optimizer"),
        ({"recipe": HARD.replace("batch = 4", "batch = 5")}, "batch was 4 and is 5"),
        ({"recipe": HARD.replace("l2(0.01)", "l2(0.02)")}, "the model"),
        ({"rows": 31}, "the training data"),
        ({"model": ("linear(8)", "linear(9)")}, "the model"),
    ],
)
def test_what_differs_is_told(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    net = nnc.compile(text(HARD))
    net.fit(data(), steps=3, checkpoints=tmp_path)
    program = text(change.get("recipe", HARD)).replace(*change.get("model", ("", "")))
    again = nnc.compile(program)
    with pytest.raises(nnc.UserError, match="E0663") as caught:
        again.fit(data(change.get("rows", ROWS)), steps=6, checkpoints=tmp_path, resume=True)
    assert told in str(caught.value)


def test_nothing_to_resume_and_an_unfinished_run_are_told(tmp_path: Path) -> None:
    net = nnc.compile(text(HARD))
    with pytest.raises(nnc.UserError, match="E0662"):
        net.fit(data(), steps=3, checkpoints=tmp_path, resume=True)
    net.fit(data(), steps=9, checkpoints=tmp_path, callbacks=[StopAt(2)])
    with pytest.raises(nnc.UserError, match="E0661"):
        net.fit(data(), steps=9, checkpoints=tmp_path)


def test_a_callback_that_raises_leaves_a_checkpoint(tmp_path: Path) -> None:
    class Boom:
        def on_step(self, at: Any) -> None:
            if at.steps == 4:
                raise ZeroDivisionError("boom")

    program = text(HARD)
    net = nnc.compile(program)
    with pytest.raises(ZeroDivisionError, match="boom"):
        net.fit(data(), steps=9, checkpoints=tmp_path, callbacks=[Boom()])
    again = nnc.compile(program)
    history = again.fit(data(), steps=9, checkpoints=tmp_path, resume=True)
    other = nnc.compile(program)
    assert everything(again, history) == everything(other, other.fit(data(), steps=9))


def test_early_stop_restores_the_best_weights() -> None:
    seen: list[tuple[float, dict[str, Any]]] = []
    program = text("optimizer = sgd(2.0), batch = 8, early_stop = { patience = 2 }")
    net = nnc.compile(program)

    def on_epoch(epoch: nnc.Epoch) -> None:
        seen.append((epoch.metrics["loss"], {p: a.copy() for p, a in net.params.items()}))

    history = net.fit(data(), validation=0.3, epochs=100, on_epoch=on_epoch)
    assert history.stopped == "early_stop"
    best = min(range(len(seen)), key=lambda k: seen[k][0])
    assert len(seen) == best + 3
    for path, array in net.params.items():
        np.testing.assert_array_equal(array, seen[best][1][path])


def test_the_moving_average_is_that_of_numpy() -> None:
    program = text('optimizer = sgd(0.1), ema = 0.75, precision = "f64", batch = 10')
    net = nnc.compile(program)
    average: dict[str, Any] = {}

    class Look:
        def on_step(self, at: Any) -> None:
            for path, array in net.params.items():
                before = average.get(path, array)
                average[path] = 0.75 * before + 0.25 * array

    net.fit(data(), steps=7, callbacks=[Look()])
    with net.executor.averaged():
        for info in net.executor.manifest.parameters:
            if info.trainable:
                found = net.params[info.path]
                np.testing.assert_allclose(found, average[info.path], rtol=1e-12, atol=1e-15)


def test_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    program = text(
        "optimizer = sgd(2.0), batch = 8, checkpoint = { epochs = 1, keep = 2, best = accuracy }"
    )
    net = nnc.compile(program)
    history = net.fit(data(), validation=0.3, epochs=8, checkpoints=tmp_path)
    scores = [e.metrics["accuracy"] for e in history.epochs]
    kept = {int(n[-6:]) for n in Store(tmp_path).names()}
    assert kept == {7, 8, scores.index(max(scores)) + 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_first_and_resume_goes_on(number: int, tmp_path: Path) -> None:
    file = tmp_path / "m.nn"
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "d.npz", **data(300))
    file.write_text(text('data = npz("d.npz"), ' + HARD.strip() + "\nepochs = 100000"))
    command = [sys.executable, "-m", "nnc", "train", str(file), "--out", str(tmp_path / "run")]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    child.stderr.readline()  # the first epoch
    time.sleep(float(rng.uniform(0, 0.2)))
    os.kill(child.pid, number)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 128 + number, told
    assert "--resume" in told
    _, found, _ = Store(tmp_path / "run").load() or pytest.fail("there is no checkpoint")
    steps = found.training["position"]["steps"]
    net = nnc.compile(file)
    history = net.fit(steps=steps + 3, checkpoints=tmp_path / "run", resume=True)
    other = nnc.compile(file)
    assert everything(net, history) == everything(other, other.fit(steps=steps + 3))
