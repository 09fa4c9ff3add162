"""Training over data: partial batches, splits, shuffling, metrics, accumulation of losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnc
from nnc.runtime.data.source import Split
from tests.support.nets import EXAMPLES, net, training

DIGITS = EXAMPLES / "digits.nn"
LINEAR = """
input x: float[b, 5]
target y: float[b, 2]
h = x |> linear(2)
output h
loss mse(h, y)
"""
COUNTED = """
model Counted {
    input  x: float[n, 3]
    target k: i32[n] in 0..3
    param w: float[3] = ones()
    z = x * w
    output z
    loss fit  = cross_entropy(z, k)
    loss size = mean(sum(z^2, axis = 1))
    metric accuracy = mean(argmax(z) == k)
    metric right    = sum(argmax(z) == k)
    metric greatest = max(z)
    metric least    = min(z)
    metric rms      = sqrt(mean(z^2))
    metric spread   = mean(z^2) - mean(z)^2
    metric some     = float(any(argmax(z) == k))
    metric each     = float(all(argmax(z) == k))
    metric recall   = sum[i where k[i] == 1](if argmax[j](z[i, j]) == 1 then 1.0 else 0.0)
                      / max(sum[i where k[i] == 1](1.0), 1)
}
train Counted { optimizer = sgd(lr = 0.1) }
"""


def data(rows: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(0, 1, (rows, 5)), "y": rng.normal(0, 1, (rows, 2))}


def copies(program: nnc.Net) -> dict[str, Any]:
    return {path: array.copy() for path, array in program.params.items()}


def test_the_last_partial_batch_is_a_step_over_its_own_rows() -> None:
    """An epoch equals the same steps taken by hand in NumPy, in the epoch's order."""
    from nnc.runtime.data.source import shuffled

    program = net(training(LINEAR, "batch = 16\nseed = 9"))
    rows = data(53)
    w, b = (program.params[f"linear.{n}"].copy() for n in ("weight", "bias"))
    history = program.fit(rows, epochs=2)
    for epoch in range(2):
        order = shuffled(53, 9, epoch)
        total = 0.0
        for start in range(0, 53, 16):
            chosen = order[start : start + 16]
            x, y = rows["x"][chosen], rows["y"][chosen]
            difference = x @ w + b - y
            total += (difference**2).mean() * len(chosen)
            slope = 2 * difference / difference.size
            w, b = w - 0.1 * x.T @ slope, b - 0.1 * slope.sum(0)
        assert history.epochs[epoch].loss == pytest.approx(total / 53, rel=1e-12)
    np.testing.assert_allclose(program.params["linear.weight"], w, rtol=1e-12)
    np.testing.assert_allclose(program.params["linear.bias"], b, rtol=1e-12)
    assert [e.steps for e in history.epochs] == [4, 8]


@pytest.mark.parametrize("batch", [1, 7, 16, 101, 1000])
def test_metrics_over_a_split_are_numpys_over_all_rows(batch: int) -> None:
    program = net(COUNTED)
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (101, 3)).astype(np.float32)
    k = rng.integers(0, 3, 101).astype(np.int32)
    program.params["w"][...] = w = np.array([1, 2, -1], np.float32)
    z = (x * w).astype(np.float64)
    best = z.argmax(1)
    exp = np.exp(z - z.max(1, keepdims=True))
    expected = {
        "fit": -np.log(exp[np.arange(101), k] / exp.sum(1)).mean(),
        "size": (z**2).sum(1).mean(),
        "accuracy": (best == k).mean(),
        "right": (best == k).sum(),
        "greatest": z.max(),
        "least": z.min(),
        "rms": np.sqrt((z**2).mean()),
        "spread": z.var(),
        "some": 1,
        "each": 0,
        "recall": (best[k == 1] == 1).mean(),
    }
    found = program.evaluate({"x": x, "k": k}, batch=batch)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-6), name


def test_several_losses_are_summed_and_each_reported() -> None:
    program = net(COUNTED)
    rng = np.random.default_rng(2)
    rows = {"x": rng.normal(0, 1, (50, 3)), "k": rng.integers(0, 3, 50)}
    before = program.evaluate(rows)
    assert program.step(**rows) == pytest.approx(before["fit"] + before["size"], rel=1e-6)
    epoch = program.fit(rows, epochs=1, batch=8).last
    assert set(epoch.losses) == {"fit", "size"}
    assert epoch.loss == pytest.approx(sum(epoch.losses.values()), rel=1e-12)


def test_a_validation_share_is_drawn_by_seed_and_disjoint() -> None:
    from nnc.runtime.data.stream import divide

    split = nnc.compile(DIGITS).splits().train
    numbered = Split({"row": np.arange(split.rows)}, {}, split.rows)
    one, two = divide(numbered, 0.25, 5), divide(numbered, 0.25, 5)
    other = divide(numbered, 0.25, 6)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.cut["row"], b.cut["row"])
    assert not np.array_equal(one[1].cut["row"], other[1].cut["row"])
    together = np.concatenate([s.cut["row"] for s in one])
    np.testing.assert_array_equal(np.sort(together), np.arange(split.rows))


def test_each_epoch_has_its_own_order_fixed_by_the_seed() -> None:
    from nnc.runtime.data.source import shuffled

    orders = [tuple(shuffled(40, seed, epoch)) for seed in (1, 2) for epoch in range(3)]
    assert len(set(orders)) == 6
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert orders[2] == tuple(shuffled(40, 1, 2))


def test_two_runs_give_the_same_bits_and_another_seed_does_not() -> None:
    found = []
    for seed in (3, 3, 4):
        program = nnc.compile(DIGITS, threads=1, hidden=16)
        program.initialise(seed)
        history = program.fit(epochs=2, seed=seed)
        found.append((copies(program), history.last.loss, dict(history.last.metrics)))
    (one, loss, metrics), (two, again, same), (three, _, _) = found
    assert (loss, metrics) == (again, same)
    for path, array in one.items():
        assert array.tobytes() == two[path].tobytes()
        assert "weight" not in path or not np.array_equal(array, three[path])


def test_training_goes_on_where_it_stopped() -> None:
    """``fit`` for two epochs, and again for one, takes three epochs' worth of steps."""
    program = net(training(LINEAR, "batch = 10"))
    first = program.fit(data(40), epochs=2)
    second = program.fit(data(40), epochs=1)
    assert program.executor.step_count() == 12
    assert second.last.loss < first.last.loss


def test_steps_may_end_within_an_epoch() -> None:
    program = net(training(LINEAR, "batch = 8\nsteps = 11"))
    history = program.fit(data(50))
    assert history.last.steps == 11
    assert program.executor.step_count() == 11
    assert len(history.epochs) == 2


def test_an_array_without_the_batch_dim_is_given_whole() -> None:
    program = net(
        training(
            """
            input x: float[b, 3]
            input basis: float[m, 3]
            target y: float[b]
            param w: float[3] = zeros()
            h[i] = sum[j, k](x[i, j] * basis[k, j] * w[j])
            output h
            loss mse(h, y)
            """,
            "batch = 4",
        )
    )
    rng = np.random.default_rng(3)
    rows = {"x": rng.normal(0, 1, (10, 3)), "basis": rng.normal(0, 1, (5, 3)), "y": np.ones(10)}
    x, basis = rows["x"], rows["basis"]
    program.fit(rows, epochs=30)
    expected = (x * basis.sum(0)) @ program.params["w"]
    np.testing.assert_allclose(program(x=x, basis=basis)["h"], expected, rtol=1e-12)
    assert program.evaluate(rows)["loss"] == pytest.approx(((expected - 1) ** 2).mean())


DROPOUT = """
model Dropped {
    input x: float[b, 40]
    param w: float[40] = ones()
    y = dropout(x * w, 0.5)
    output y
    loss kept = mean(y)
}
train Dropped {
    optimizer = sgd(lr = 0.0)
    seed = 5
}
"""


def masks(threads: int, sizes: list[int]) -> list[float]:
    """The mean of what dropout lets pass, weighed so that it tells the mask."""
    program = net(DROPOUT, threads=threads)
    rng = np.random.default_rng(4)
    rows = rng.uniform(1, 2, (300, 40)).astype(np.float32)
    return [program.step(x=rows[:n]) for n in sizes]


def test_dropout_draws_anew_each_step_and_alike_for_any_thread_count() -> None:
    one = masks(1, [300, 300, 300])
    assert len(set(one)) == 3
    assert masks(1, [300, 300, 300]) == one
    assert masks(3, [300, 300, 300]) == one
    program = net(DROPOUT)
    x = np.ones((4, 40), np.float32)
    np.testing.assert_array_equal(program(x=x)["y"], x)


def test_dropout_in_micro_batches_is_that_of_the_whole_batch() -> None:
    """An element's draw goes by its place in the whole batch, not in the micro-batch."""
    text = DROPOUT.replace("lr = 0.0", "lr = 0.5")
    rows = {"x": np.random.default_rng(4).uniform(1, 2, (24, 40)).astype(np.float32)}
    found = []
    for batch, accumulate in ((24, 1), (8, 3)):
        program = net(text.replace("seed = 5", f"seed = 5\naccumulate = {accumulate}"))
        program.fit(rows, epochs=3, batch=batch)
        found.append(program.params["w"].copy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_an_inference_call_is_a_function_of_its_inputs_and_seed() -> None:
    program = net(
        training(
            "input x: float[b, 4]\nparam w: float = ones()\nnoise = random_normal[b, 4]()\n"
            "y = w * x + noise\noutput y\noutput plain = w * x\n"
            "loss mean((dropout(y, 0.5) - 1)^2)",
            "seed = 11",
        )
    )
    x = np.ones((5, 4))
    first = program(x=x)["y"]
    seeded = program(x=x, seed=3)["y"]
    assert not np.array_equal(first, seeded)
    np.testing.assert_array_equal(program(x=x)["y"], first)
    np.testing.assert_array_equal(program(x=x[:2], seed=3)["y"], seeded[:2])
    losses = [program.step(x=x) for _ in range(3)]
    program.params["w"][...] = 1
    np.testing.assert_array_equal(program(x=x)["y"], first)
    program.initialise()
    again = []
    for k in range(3):
        program(x=x, seed=k)
        again.append(program.step(x=x))
    assert again == losses


def test_held_out_rows_are_given_or_drawn() -> None:
    from nnc.runtime.data.stream import divide

    rows, others = data(60), data(20, seed=1)
    given = net(training(LINEAR, "batch = 16\nseed = 9"))
    history = given.fit(rows, others, epochs=3)
    assert history.last.metrics == given.evaluate(others)
    drawn = net(training(LINEAR, "batch = 16\nseed = 9"))
    history = drawn.fit(rows, 0.25, epochs=3)
    numbered = Split({"row": np.arange(60)}, {}, 60)
    kept, held = (part.cut["row"] for part in divide(numbered, 0.25, 9))
    assert (len(kept), len(held)) == (45, 15)
    assert history.last.metrics == drawn.evaluate({k: a[held] for k, a in rows.items()})
    alone = net(training(LINEAR, "batch = 16\nseed = 9"))
    alone.fit({k: a[kept] for k, a in rows.items()}, epochs=3)
    for path, array in copies(alone).items():
        np.testing.assert_array_equal(drawn.params[path], array)


def test_reports_come_at_each_epoch_and_may_use_the_program() -> None:
    program = net(training(LINEAR, "batch = 10"))
    rows = data(35)
    seen: list[tuple[int, int, float]] = []
    progress: list[int] = []
    program.fit(
        rows,
        epochs=3,
        on_epoch=lambda e: seen.append((e.epoch, e.steps, program.evaluate(rows)["loss"])),
        on_progress=lambda p: progress.append(p.step),
    )
    assert [(epoch, steps) for epoch, steps, _ in seen] == [(1, 4), (2, 8), (3, 12)]
    assert seen[0][2] > seen[2][2]
    assert progress
    assert max(progress) <= 4
