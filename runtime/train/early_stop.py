"""Stopping when held-out figures no longer get better (Prechelt, "Early stopping", 1998)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnc.runtime.train.history import Epoch


def figure(epoch: Epoch, name: str, losses: Mapping[str, float]) -> float:
    """Return the figure that ``name`` means: over held-out rows where there are any.

    ``loss`` is the sum of the losses among ``losses``' names.
    """
    if name in epoch.metrics and (name != "loss" or len(losses) == 1):
        return epoch.metrics[name]
    if name == "loss":
        held = [epoch.metrics[n] for n in losses if n in epoch.metrics]
        return sum(held) if held else epoch.loss
    return epoch.losses.get(name, math.nan)


@dataclass
class Best:
    """The best figure so far. Not-a-number is never better."""

    name: str
    mode: str
    min_delta: float = 0.0
    value: float | None = None
    epoch: int = 0

    def better(self, epoch: Epoch) -> bool:
        """Take in an epoch; whether it is better than all before by more than ``min_delta``."""
        value = figure(epoch, self.name, epoch.losses)
        if math.isnan(value):
            return False
        sign = 1.0 if self.mode == "min" else -1.0
        if self.value is not None and not sign * (self.value - value) > self.min_delta:
            return False
        self.value, self.epoch = value, epoch.epoch
        return True

    def as_data(self) -> dict[str, Any]:
        """Return what is to be kept, as plain data."""
        return {"name": self.name, "mode": self.mode, "value": self.value, "epoch": self.epoch}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what was kept of the same figure; from another, begin anew."""
        if data.get("name") == self.name and data.get("mode") == self.mode:
            value = data["value"]
            self.value = float(value) if value is not None else None
            self.epoch = int(data["epoch"])
