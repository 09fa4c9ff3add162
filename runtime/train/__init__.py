"""Training: the loop, checkpoints, and what looks on."""

from __future__ import annotations

from nnc.runtime.train.history import Epoch, History
from nnc.runtime.train.loop import EpochEnd, Plan, Progress, Report, Training

__all__ = ["Epoch", "EpochEnd", "History", "Plan", "Progress", "Report", "Training"]
