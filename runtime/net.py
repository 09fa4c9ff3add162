"""A compiled model as Python sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nnc.ir.model import DataSource
from nnc.runtime import artefact, weights
from nnc.runtime.arrays import Array
from nnc.runtime.data.batches import Batches, used_up
from nnc.runtime.data.given import Given, given_source, given_splits
from nnc.runtime.data.source import PortsOf, check_cut
from nnc.runtime.data.splits import Splits, load
from nnc.runtime.errors import UserError
from nnc.runtime.executor import Executor
from nnc.runtime.manifest import Compiled
from nnc.runtime.train import EpochEnd, History, Plan, Report
from nnc.runtime.train.callbacks import Reports
from nnc.runtime.train.fitting import Wishes, begin, run
from nnc.runtime.train.saver import Every

DEFAULT_BATCH = 32
EVALUATION_ROWS = 1024
"""Rows of one evaluation call, where the batch is smaller: fewer calls, the same sums."""


class Params(Mapping[str, Array]):
    """Parameters and buffers by path; each is a view of the program's own memory.

    Writing into a view changes the model. Shapes and types are those of the model file.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._paths = tuple(p.path for p in executor.manifest.parameters)

    def __getitem__(self, path: str) -> Array:
        if path not in self._paths:
            raise KeyError(path)
        return self._executor.instance.tensor(f"state:{path}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return "\n".join(f"{p.path}: {p.type}" for p in self._executor.manifest.parameters)


class Net:
    """A compiled model with its weights: call it to infer, ``fit`` it to train.

    Made by ``nnc.compile`` and ``nnc.load``. Every method checks what it is given and raises
    ``nnc.UserError`` for a wrong name, type, rank, size or value, before native code runs. Calls
    may come from several threads; they run one after the other.
    """

    def __init__(
        self,
        executor: Executor,
        compiled: Compiled,
        machine: str,
        source: DataSource | None = None,
        folders: tuple[Path, ...] = (),
    ) -> None:
        self._executor = executor
        self._compiled = compiled
        self._machine = machine
        self._source = source
        self._folders = folders
        self._splits: Splits | None = None
        self.params: Mapping[str, Array] = Params(executor)

    # inference ------------------------------------------------------------------------------

    def __call__(self, /, *, seed: Any = None, **inputs: object) -> dict[str, Array]:
        """Return every output of the model, by name, for these inputs.

        Symbolic dims (the batch among them) take whatever sizes the arrays have. ``seed`` keys
        what the model draws, if it draws (in a model with an input of that name, it is that).
        """
        if seed is not None and "seed" in self._executor.ports:
            return self._executor.infer({**inputs, "seed": seed})
        return self._executor.infer(inputs, seed)

    # training -------------------------------------------------------------------------------

    def step(self, /, **arrays: object) -> float:
        """Take one training step on one batch of inputs and targets; return the loss before it."""
        return sum(self._executor.step(arrays).values())

    def fit(
        self,
        data: Given | None = None,
        validation: Given | float | None = None,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        seed: int | None = None,
        on_epoch: EpochEnd | None = None,
        on_progress: Report | None = None,
        callbacks: Sequence[object] = (),
        checkpoints: str | Path | None = None,
        resume: bool = False,
        minutes: float | None = None,
    ) -> History:
        """Train, and return the history: loss, metrics and seconds of each epoch.

        ``data``: arrays by name, one row a sample; the path of an ``.npz``, ``.csv`` or
        ``.parquet`` file or of a folder of images by class; or batches, an iterable of dicts of
        arrays, of which each is one step. Without it, what the file's train block names.
        ``validation``: data likewise, or the share of rows to hold out. Counts that are not given
        are the train block's; training goes on from the present weights.

        ``callbacks``: objects with ``on_step(progress)``, ``on_epoch(epoch)`` or
        ``on_checkpoint(path)``; one that returns true ends training. ``checkpoints``: the folder of
        the run, in which training is saved as the train block's ``checkpoint`` says, at its end,
        on Ctrl-C and where a callback raises; with ``resume`` it goes on from there. ``minutes``:
        how often to save where the train block does not say.
        """
        self._executor.need_training()
        plan = self._plan(epochs, steps, batch, seed)
        if data is None:
            splits = self._own_splits(validation, plan.seed)
        else:
            splits = given_splits(self._ports(), data, validation, plan.seed)
        train, held = splits.train, splits.validation
        if isinstance(train, Batches) and train.once and (plan.epochs or 1) > 1:
            raise used_up(f"this is {plan.epochs} epochs over a generator")
        check_cut(self._ports(), train.rows, plan.batch)
        folder = Path(checkpoints) if checkpoints is not None else None
        reports = Reports(on_progress, on_epoch)
        wishes = Wishes(folder, resume, Every(minutes=minutes), callbacks, (reports,))
        with self._executor.fitting:
            return run(begin(self._executor, train, held, plan, wishes))

    def _own_splits(self, validation: Given | float | None, seed: int) -> Splits:
        """Return the file's own data, with other rows held out where that is asked for."""
        if validation is None:
            return self.splits()
        if isinstance(validation, int | float):
            return self._load({"validation": float(validation)}, seed)
        splits = self._load({"validation": None}, seed)
        return replace(splits, validation=given_source(self._ports(), validation))

    def _plan(
        self, epochs: int | None, steps: int | None, batch: int | None, seed: int | None
    ) -> Plan:
        settings = self._executor.manifest.settings
        if epochs is None and steps is None:
            epochs, steps = settings.get("epochs"), settings.get("steps")
            if epochs is None and steps is None:
                epochs = 1
        size = settings.get("batch", DEFAULT_BATCH) if batch is None else batch
        for name, value in (("epochs", epochs), ("steps", steps), ("batch", size)):
            _check_count(name, value)
        key = self._executor.manifest.seed if seed is None else seed
        stop = settings.get("early_stop") or {}
        accumulate = settings.get("accumulate", 1)
        return Plan(size, epochs, steps, key, accumulate, stop.get("patience"))

    def evaluate(
        self,
        data: Given | None = None,
        *,
        split: str | None = None,
        batch: int | None = None,
    ) -> dict[str, float]:
        """Return every loss and metric over all of ``data``, or over a split of the file's own.

        ``split`` is train, validation or test; by default the held-out rows, if there are any.
        """
        _check_count("batch", batch)
        if data is not None:
            chosen = given_source(self._ports(), data)
        else:
            splits = self.splits()
            chosen = splits.named(split or ("train" if splits.validation is None else "validation"))
        size = batch or max(self._executor.manifest.settings.get("batch", 1), EVALUATION_ROWS)
        check_cut(self._ports(), chosen.rows, size)
        return self._executor.evaluate(chosen, size)

    def splits(self) -> Splits:
        """Read the data that the file's train block names, once."""
        if self._splits is None:
            self._splits = self._load({}, self._executor.manifest.seed)
        return self._splits

    def _load(self, changes: Mapping[str, Any], seed: int) -> Splits:
        if self._source is None:
            raise UserError(
                "E0624",
                "there is no data to use",
                ("the train block names none, and none was given",),
                'add `data = npz("file.npz")` to it, or give arrays by name',
            )
        source = replace(self._source, arguments={**self._source.arguments, **changes})
        return load(source, self._ports(), list(self._folders), seed)

    def _ports(self) -> PortsOf:
        manifest = self._executor.manifest
        return PortsOf([p for p in manifest.ports if p.trains], manifest.batch)

    def initialise(self, seed: int | None = None) -> None:
        """Draw the weights anew and forget all training."""
        self._executor.initialise(self._executor.manifest.seed if seed is None else seed)

    # weights --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write all parameters and buffers to a safetensors file, by path."""
        weights.save(Path(path), self._executor.copy_weights(), self._executor.manifest.name)

    def load(self, path: str | Path) -> None:
        """Read parameters and buffers that ``save`` wrote; all or, on a fault, none are changed."""
        self._accept(weights.load(Path(path)), str(path))

    def _accept(self, given: Mapping[str, Array], source: str) -> None:
        wanted = {p.path: p.type for p in self._executor.manifest.parameters}
        weights.check(given, wanted, source)
        with self._executor.instance.lock:
            self._executor.put_weights(given)

    def build(self, path: str | Path) -> None:
        """Write one file (code, manifest, weights) that ``nnc.load`` runs without compiling."""
        artefact.write(Path(path), self._compiled, self._executor.copy_weights(), self._machine)

    def adopt(self, given: Mapping[str, Array], source: str) -> None:
        """Take weights that were read elsewhere, checked as ``load`` checks them."""
        self._accept(given, source)

    @property
    def executor(self) -> Executor:
        """The program at work, for those who measure and test it."""
        return self._executor


def _check_count(name: str, value: int | None) -> None:
    """Raise UserError for a count below 1."""
    if value is not None and not (isinstance(value, int | np.integer) and value >= 1):
        raise UserError("E0643", f"{name} is {value}; it must be a whole number, at least 1")
