"""From what a user asks of training to a ``Training`` with all that looks on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnc.runtime.data.source import Source
from nnc.runtime.errors import UserError
from nnc.runtime.executor import Executor
from nnc.runtime.train.callbacks import Callbacks
from nnc.runtime.train.checkpoint import KEEP, Store
from nnc.runtime.train.early_stop import Best
from nnc.runtime.train.history import History
from nnc.runtime.train.loop import Observer, Plan, Training
from nnc.runtime.train.saver import Every, Saver, made_of
from nnc.runtime.train.signals import Signals


@dataclass(frozen=True)
class Wishes:
    """What a user asks of training beside data and length.

    ``checkpoints`` is the folder of the run, in which ``checkpoints`` lie; ``every`` says how
    often to save where the train block does not. ``resume``: True goes on from the newest, and is
    an error without one.
    """

    checkpoints: Path | None = None
    resume: bool = False
    every: Every = field(default_factory=Every)
    callbacks: Sequence[object] = ()
    observers: Sequence[Observer] = ()
    warn: Callable[[str], None] | None = None


def begin(
    executor: Executor, train: Source, held: Source | None, plan: Plan, wishes: Wishes
) -> Training:
    """Return a training that is ready to run, resumed where that was asked. Raises UserError."""
    settings = executor.manifest.settings
    stop = settings.get("early_stop")
    best: Best | None = None
    if stop is not None:
        best = Best(stop["metric"], stop["mode"], float(stop.get("min_delta", 0.0)))
    observers: list[Observer] = list(wishes.observers)
    callbacks = Callbacks(wishes.callbacks) if wishes.callbacks else None
    if callbacks is not None:
        observers.append(callbacks)
    training = Training(executor, train, held, plan, observers, best=best)
    if wishes.checkpoints is None:
        if wishes.resume:
            raise UserError("E0662", "there is no folder to resume from")
        return training
    saver = _saver(training, wishes, settings.get("checkpoint") or {})
    training.saver = saver
    if callbacks is not None:
        saver.told = lambda path: callbacks.call(training, "on_checkpoint", path)
    _place(training, saver, wishes)
    return training


def _saver(training: Training, wishes: Wishes, asked: Mapping[str, Any]) -> Saver:
    assert wishes.checkpoints is not None
    every = wishes.every
    if asked:
        every = Every(asked.get("steps"), asked.get("epochs"), asked.get("minutes"))
    best = Best(asked["best"], asked["mode"]) if "best" in asked else None
    store = Store(wishes.checkpoints, asked.get("keep", KEEP))
    made = made_of(training.executor, training.train, training.validation, training.plan)
    return Saver(store, every, made, best)


def _place(training: Training, saver: Saver, wishes: Wishes) -> None:
    """Let training go on from the newest checkpoint, or see that it may begin anew."""
    found = saver.store.load() if wishes.resume or saver.store.names() else None
    if wishes.resume:
        if found is None:
            raise UserError(
                "E0662",
                f"there is nothing to resume in '{saver.store.folder}'",
                ("it holds no checkpoint",),
                "leave --resume out to begin, or name the folder of a run with --out",
            )
        path, checkpoint, damaged = found
        for one in damaged:
            if wishes.warn is not None:
                wishes.warn(f"'{one}' is damaged; going on from '{path}'")
        saver.resume(training, checkpoint, path)
        return
    if found is not None and not found[1].training.get("finished"):
        raise UserError(
            "E0661",
            f"'{saver.store.folder}' holds a training that has not ended",
            (f"its last checkpoint is '{found[0]}'",),
            "--resume goes on with it; --out names another folder; or remove it",
        )
    saver.store.clear()


def run(training: Training) -> History:
    """Run a training that saves itself when a signal asks it to end; others end as ever.

    Raises KeyboardInterrupt after saving, where Ctrl-C asked for it.
    """
    if training.saver is None:
        return training.run()
    signals = Signals()
    training.observers = (*training.observers, signals)
    with signals.heard():
        history = training.run()
    if signals.number == signal.SIGINT:
        raise KeyboardInterrupt
    if signals.number is not None:
        raise SystemExit(128 + signals.number)
    return history
