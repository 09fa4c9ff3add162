"""The training loop: epochs of native steps, the last partial batch exact, held-out metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nnc.runtime.data import Split
from nnc.runtime.executor import Executor

REPORT_SECONDS = 0.1
"""How long a run of native steps lasts, roughly, between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of a history."""

    epoch: int
    steps: int
    loss: float
    losses: Mapping[str, float]
    metrics: Mapping[str, float]
    seconds: float


@dataclass
class History:
    """What training did, epoch by epoch. ``loss`` is the mean over the epoch's samples."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def last(self) -> Epoch:
        """The last epoch. Raises IndexError where none was run."""
        return self.epochs[-1]

    def as_data(self) -> list[dict[str, Any]]:
        """Return the history as plain data."""
        return [asdict(epoch) for epoch in self.epochs]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and in which portions to train."""

    batch: int
    epochs: int | None
    steps: int | None
    seed: int
    accumulate: int = 1

    def done(self, epoch: int, steps: int) -> bool:
        """Whether training is over."""
        if self.steps is not None:
            return steps >= self.steps
        return self.epochs is not None and epoch >= self.epochs


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands, for reports while an epoch runs."""

    epoch: int
    epochs: int | None
    step: int
    steps_in_epoch: int
    loss: float


Report = Callable[[Progress], None]
EpochEnd = Callable[[Epoch], None]


def fit(
    executor: Executor,
    train: Split,
    validation: Split | None,
    plan: Plan,
    on_progress: Report | None = None,
    on_epoch: EpochEnd | None = None,
) -> History:
    """Train and return the history. The order of rows depends on seed and epoch only."""
    history, pace = History(), Pace()
    steps, epoch = 0, 0
    while not plan.done(epoch, steps):
        began = time.perf_counter()
        order = order_of(train.rows, plan.batch * plan.accumulate, plan.seed, epoch)
        limit = None if plan.steps is None else plan.steps - steps
        taken, sums, rows = _epoch(executor, train, order, plan, limit, epoch, pace, on_progress)
        steps += taken
        losses = {name: value / rows for name, value in sums.items()}
        held = executor.evaluate(validation, plan.batch) if validation is not None else {}
        line = Epoch(
            epoch + 1, steps, sum(losses.values()), losses, held, time.perf_counter() - began
        )
        history.epochs.append(line)
        if on_epoch is not None:
            on_epoch(line)
        epoch += 1
    return history


def order_of(rows: int, step: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the order of rows of an epoch.

    Rows that all go into one ``step`` stay as they are given: nothing would be gained by mixing
    them, and arrays that are given whole may name them by number, as the edges of a graph do.
    """
    return np.arange(rows) if rows <= step else shuffled(rows, seed, epoch)


def shuffled(rows: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the order of rows of an epoch (counter-based, so any epoch's is known at once)."""
    key = np.array([seed & (2**64 - 1), epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(rows).astype(np.int64)


def _epoch(
    executor: Executor,
    train: Split,
    order: np.ndarray[Any, np.dtype[np.int64]],
    plan: Plan,
    limit: int | None,
    epoch: int,
    pace: Pace,
    report: Report | None,
) -> tuple[int, dict[str, float], int]:
    """Run one epoch, or up to ``limit`` steps of it; return steps, loss sums and rows seen."""
    group = plan.batch * plan.accumulate
    whole, rest = divmod(train.rows, group)
    total = whole + (1 if rest else 0)
    count = total if limit is None else min(total, limit)
    executor.begin_epoch(train, order)
    done = 0
    for portion in pace.portions(min(whole, count)):
        executor.steps(plan.batch, portion, done * group, plan.accumulate)
        done += portion
        if report is not None:
            sums = executor.loss_sums()
            loss = sum(sums.values()) / (done * group)
            report(Progress(epoch + 1, plan.epochs, done, count, loss))
    rows = done * group
    if done < count:
        executor.last_step(plan.batch, rest, rows)
        done, rows = done + 1, rows + rest
    return done, executor.loss_sums(), rows


@dataclass
class Pace:
    """How many steps one run of native code should take, to last about REPORT_SECONDS."""

    size: int = 1

    def portions(self, steps: int) -> Iterator[int]:
        """Cut ``steps`` into runs, each sized by what the ones before took."""
        while steps > 0:
            size = min(self.size, steps)
            began = time.perf_counter()
            yield size
            steps -= size
            per_step = max((time.perf_counter() - began) / size, 1e-7)
            self.size = max(1, min(int(REPORT_SECONDS / per_step), 4 * self.size))
