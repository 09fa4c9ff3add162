"""What training did, epoch by epoch, and the files that tell it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


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
    """What training did, epoch by epoch. ``loss`` is the mean over the epoch's samples.

    ``stopped`` says what ended it before its plan did: ``early_stop``, ``callback``, or the name
    of a signal.
    """

    epochs: list[Epoch] = field(default_factory=list)
    stopped: str | None = None

    @property
    def last(self) -> Epoch:
        """The last epoch. Raises IndexError where none was run."""
        return self.epochs[-1]

    def as_data(self) -> list[dict[str, Any]]:
        """Return the history as plain data."""
        return [asdict(epoch) for epoch in self.epochs]

    def as_csv(self) -> str:
        """Return the history as comma-separated values, a line an epoch, under a line of names."""
        rows = [flat(epoch) for epoch in self.epochs]
        names = list(dict.fromkeys(name for row in rows for name in row))
        out = io.StringIO()
        writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()


def flat(epoch: Epoch) -> dict[str, float]:
    """Return the figures of an epoch under one name each."""
    row: dict[str, float] = {"epoch": epoch.epoch, "steps": epoch.steps, "loss": epoch.loss}
    if len(epoch.losses) > 1:
        row |= {f"loss.{name}": value for name, value in epoch.losses.items()}
    row |= {f"held_out.{name}": value for name, value in epoch.metrics.items()}
    return {**row, "seconds": epoch.seconds}


def encode(data: Any) -> Any:
    """Return plain data with texts in place of the numbers that JSON lacks; else every bit kept."""
    match data:
        case float() if not math.isfinite(data):
            return repr(data)
        case Mapping():
            return {k: encode(v) for k, v in data.items()}
        case list() | tuple():
            return [encode(v) for v in data]
        case _:
            return data


def decode(lines: Sequence[Mapping[str, Any]]) -> list[Epoch]:
    """Return epochs from what ``encode`` made of them. Raises KeyError, TypeError, ValueError."""

    def numbers(given: Mapping[str, Any]) -> dict[str, float]:
        return {str(k): float(v) for k, v in given.items()}

    return [
        Epoch(
            int(d["epoch"]), int(d["steps"]), float(d["loss"]), numbers(d["losses"]),
            numbers(d["metrics"]), float(d["seconds"]),
        )
        for d in lines
    ]  # fmt: skip


def as_json(data: Any) -> bytes:
    """Return plain data as the bytes of a JSON file that keeps every bit of its numbers."""
    return (json.dumps(encode(data), indent=1, allow_nan=False) + "\n").encode()
