"""When training is saved, what is saved, and how it goes on from there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnc.runtime import state
from nnc.runtime.data.source import Source, Split
from nnc.runtime.errors import UserError
from nnc.runtime.executor import Executor
from nnc.runtime.train.checkpoint import Checkpoint, Store, name_of
from nnc.runtime.train.early_stop import Best
from nnc.runtime.train.history import Epoch, decode
from nnc.runtime.train.loop import Plan, Position, Progress, Training

Made = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Every:
    """How often to save; whatever comes first counts."""

    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None


@dataclass
class Saver:
    """Saves a training into a store: now and then, at its end, and when it is stopped.

    ``made_of`` says what must be the same for training to go on to the same bits.
    """

    store: Store
    every: Every
    made_of: Made
    best: Best | None = None
    best_name: str | None = None
    told: Callable[[Path], None] | None = None
    _saved: float = field(default_factory=time.monotonic)
    _done: bool = False

    def until(self, training: Training) -> int | None:
        """Return how many steps are left until the next checkpoint by steps."""
        n = self.every.steps
        return None if n is None else n - training.at.steps % n

    def on_run(self, training: Training, progress: Progress) -> None:
        """Save where enough steps or minutes have passed, or where the plan ends in an epoch."""
        n = self.every.steps
        if training.is_cut():
            self.save(training)
            self._done = True
        elif (n is not None and training.at.steps % n == 0) or self._late():
            self.save(training)

    def on_epoch(self, training: Training, epoch: Epoch) -> None:
        """Save where enough epochs have passed, and where this one is the best."""
        if self._done:
            return
        better = self.best is not None and self.best.better(epoch)
        if better:
            self.best_name = name_of(training.at.steps, training.at.epoch)
        n = self.every.epochs
        if better or (n is not None and training.at.epoch % n == 0) or self._late():
            self.save(training)

    def on_end(self, training: Training) -> None:
        """Save what training ended with."""
        if not self._done:
            self.save(training)

    def _late(self) -> bool:
        minutes = self.every.minutes
        return minutes is not None and time.monotonic() - self._saved >= 60 * minutes

    def save(self, training: Training) -> None:
        """Save training as it stands. Raises UserError where that cannot be."""
        executor, at = training.executor, training.at
        with executor.instance.lock:
            weights = executor.copy_weights()
            held = state.copied(state.rest(executor))
            if executor.has_average():
                held |= {f"{p}:raw": a.copy() for p, a in state.parameters(executor).items()}
        about = {
            "made_of": dict(self.made_of),
            "position": asdict(at),
            "seconds": training.seconds(),
            "history": training.history.as_data(),
            "best": training.best.as_data() if training.best is not None else None,
            "best_saved": self.best.as_data() if self.best is not None else None,
            "best_name": self.best_name,
            "finished": training.over(),
        }
        made = Checkpoint(weights, held, training.best_weights, about)
        kept = [self.best_name] if self.best_name is not None else []
        path = self.store.save(name_of(at.steps, at.epoch), made, kept)
        self._saved = time.monotonic()
        if self.told is not None:
            self.told(path)

    def resume(self, training: Training, found: Checkpoint, path: Path) -> None:
        """Let training go on from a checkpoint. Raises UserError where it is of another one."""
        compare(found.training["made_of"], self.made_of, path)
        executor, about = training.executor, found.training
        own = state.rest(executor)
        raw = {k.removesuffix(":raw"): v for k, v in found.state.items() if k.endswith(":raw")}
        held = {k: v for k, v in found.state.items() if not k.endswith(":raw")}
        _check_names(held, own, path)
        with executor.instance.lock:
            state.put(state.parameters(executor), {**found.weights, **raw})
            state.put(own, held)
        training.at = Position(**about["position"])
        training.spent = float(about["seconds"])
        training.history.epochs = decode(about["history"])
        if training.best is not None and about["best"] is not None:
            training.best.restore(about["best"])
            training.best_weights = dict(found.best)
        if self.best is not None and about["best_saved"] is not None:
            self.best.restore(about["best_saved"])
            self.best_name = about["best_name"]


def _check_names(held: Mapping[str, Any], own: Mapping[str, Any], path: Path) -> None:
    """Raise UserError where a checkpoint does not hold just the state that the program has."""
    notes = [f"it has no '{name}'" for name in sorted(own.keys() - held.keys())]
    notes += [f"'{name}' is not of this program" for name in sorted(held.keys() - own.keys())]
    notes += [
        f"'{name}' is {held[name].dtype}{list(held[name].shape)} there and "
        f"{own[name].dtype}{list(own[name].shape)} here"
        for name in sorted(own.keys() & held.keys())
        if held[name].shape != own[name].shape or held[name].dtype != own[name].dtype
    ]
    if notes:
        raise UserError("E0663", f"training cannot go on from '{path}'", tuple(notes))


def compare(then: Mapping[str, Any], now: Made, path: Path) -> None:
    """Raise UserError naming all in which a checkpoint's training differs from this one."""
    notes = []
    for name in dict.fromkeys((*then, *now)):
        a, b = then.get(name), now.get(name)
        if a == b:
            continue
        told = name in PLAIN
        notes.append(f"{name} was {a} and is {b}" if told else f"{name} is not what it was")
    if notes:
        raise UserError(
            "E0663",
            f"training cannot go on from '{path}' as if it had never stopped",
            tuple(notes),
            "undo the change, or begin anew in another folder; --weights takes over the weights",
        )


PLAIN = ("batch", "accumulate", "seed")
"""What is told with its values where it differs; the rest are digests."""


def made_of(
    executor: Executor, train: Source, validation: Source | None, plan: Plan
) -> dict[str, str | int]:
    """Return what the bits of a training depend on: the program, the data, the plan's numbers."""
    found: dict[str, str | int] = dict(executor.manifest.made_of)
    found |= {"batch": plan.batch, "accumulate": plan.accumulate, "seed": plan.seed}
    found["the training data"] = digest(train)
    if validation is not None:
        found["the held-out data"] = digest(validation)
    return found


def digest(source: Source) -> str:
    """Return a digest of a source's rows, or of what a source that is read as it goes says."""
    made = hashlib.sha256()
    if not isinstance(source, Split):
        made.update(str(getattr(source, "identity", source.rows)).encode())
        return made.hexdigest()
    for name, array in sorted({**source.cut, **source.whole}.items()):
        made.update(f"{name} {array.dtype} {array.shape} ".encode())
        made.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return made.hexdigest()
