"""One compilation for every size; calls from several threads, and after a fork."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import nnc
from nnc.backends.llvm import compilations
from tests.support.nets import EXAMPLES, every_launch_shared, net, training

DIGITS = EXAMPLES / "digits.nn"
SEQUENCES = """
input x: float[n, time, 3]
target y: float[n]
h = tanh(x |> linear(5))
s[i, j] = sum[t, k](h[i, t, j] * h[i, t, k]) / float(time)
z = s |> linear(1)
output z
loss mean((z[:, 0] - y)^2)
metric largest = max(z)
"""


@pytest.fixture(scope="module", autouse=True)
def threads_for_the_least_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with every_launch_shared(tmp_path_factory.mktemp("cache")):
        yield


def rows(count: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.uniform(0, 16, (count, 64)).astype(np.float32),
        "digit": rng.integers(0, 10, count).astype(np.int32),
    }


def test_batches_of_any_size_compile_nothing_new() -> None:
    program = nnc.compile(DIGITS, hidden=17)
    before = compilations()
    whole = rows(128)
    expected = program(image=whole["image"])["probs"]
    for count in (64, 37, 1, 128, 2, 100):
        found = program(image=whole["image"][:count])["probs"]
        np.testing.assert_array_equal(found, expected[:count])
        program.evaluate({k: a[:count] for k, a in whole.items()}, batch=count)
    for count in (64, 37, 1, 128):
        program.step(**{k: a[:count] for k, a in whole.items()})
    program.fit(whole, epochs=1, batch=50)
    assert compilations() == before


def test_other_dims_of_any_size_compile_nothing_new() -> None:
    program = net(training(SEQUENCES, "batch = 4"))
    before = compilations()
    w, b = program.params["linear.weight"], program.params["linear.bias"]
    rng = np.random.default_rng(1)
    for n, time in ((3, 5), (1, 1), (40, 2), (2, 300), (3, 5)):
        x = rng.normal(0, 1, (n, time, 3))
        h = np.tanh(x @ w + b)
        s = np.einsum("itj,itk->ij", h, h) / time
        z = s @ program.params["linear_2.weight"] + program.params["linear_2.bias"]
        np.testing.assert_allclose(program(x=x)["z"], z, rtol=1e-10, atol=1e-12)
    assert compilations() == before


def test_data_sets_of_other_sizes_one_after_the_other() -> None:
    """Nothing that one data set left behind, a place for its batches say, serves the next."""
    program = net(training(SEQUENCES, "batch = 4"))
    rng = np.random.default_rng(2)
    for n, time in ((9, 2), (9, 60), (3, 7), (30, 400), (9, 2)):
        data = {"x": rng.normal(0, 1, (n, time, 3)), "y": rng.normal(0, 1, n)}
        weights = {path: array.copy() for path, array in program.params.items()}
        found = program.fit(data, epochs=1, seed=3).last.loss
        again = net(training(SEQUENCES, "batch = 4"))
        for path, array in weights.items():
            again.params[path][...] = array
        assert found == again.fit(data, epochs=1, seed=3).last.loss


def test_two_threads_call_one_program() -> None:
    program = nnc.compile(DIGITS, hidden=32, threads=2)
    whole = rows(90)
    expected = program(image=whole["image"])["probs"]
    wrong: list[int] = []

    def infer(number: int) -> None:
        for turn in range(60):
            count = 1 + (turn * 7 + number) % 90
            found = program(image=whole["image"][:count])["probs"]
            if not np.array_equal(found, expected[:count]):
                wrong.append(turn)

    threads = [threading.Thread(target=infer, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_threads_step_and_infer_at_once() -> None:
    """Steps wait for one another: as many are taken as were asked for, whoever asked."""
    program = nnc.compile(DIGITS, hidden=8, threads=2)
    whole = rows(40)
    losses: list[float] = []

    def work() -> None:
        for _ in range(25):
            losses.append(program.step(**whole))
            assert np.isfinite(program(image=whole["image"])["probs"]).all()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert program.executor.step_count() == 75
    one = nnc.compile(DIGITS, hidden=8, threads=1)
    assert sorted(losses, reverse=True) == sorted(
        (one.step(**whole) for _ in range(75)), reverse=True
    )


def test_two_fits_at_once_wait_for_one_another() -> None:
    program = net(training(SEQUENCES, "batch = 4"))
    rng = np.random.default_rng(2)
    sets = [
        {"x": rng.normal(0, 1, (n, time, 3)), "y": rng.normal(0, 1, n)}
        for n, time in ((30, 20), (7, 3))
    ]
    threads = [threading.Thread(target=program.fit, args=(d,), kwargs={"epochs": 6}) for d in sets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert program.executor.step_count() == 6 * (8 + 2)
    assert all(np.isfinite(array).all() for array in program.params.values())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_call_after_a_fork(threads: int) -> None:
    program = nnc.compile(DIGITS, hidden=32, threads=threads)
    whole = rows(500)
    expected = program(image=whole["image"])["probs"]
    losses = [nnc.compile(DIGITS, hidden=32, threads=1).step(**whole)]
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        same = np.array_equal(program(image=whole["image"])["probs"], expected)
        os._exit(0 if same and program.step(**whole) == losses[0] else 1)
    np.testing.assert_array_equal(program(image=whole["image"])["probs"], expected)
    assert program.step(**whole) == losses[0]
    assert os.waitpid(child, 0)[1] == 0
