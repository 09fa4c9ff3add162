"""Follows a model of ``examples/`` and the same model in PyTorch, step by step.

Both begin with the same weights and see the same rows. In f64 twenty losses agree to 1e-9 and the
first gradients to 1e-9; in f32 five losses agree to 1e-4 and the gradients to 1e-5, relative to
the greatest element of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import nnc
from tests.support.nets import EXAMPLES, differentiate

Tensors = dict[str, Any]
Loss = Callable[[Tensors, Tensors], Any]
"""From parameters and a batch, both tensors by name, to the loss."""
Optimizer = Callable[[Tensors], Any]
"""From the trained parameters to a PyTorch optimizer of the model's own settings."""
Batch = Mapping[str, np.ndarray[Any, Any]]

STEPS = {"f64": 20, "f32": 5}
LOSS = {"f64": 1e-9, "f32": 1e-4}
GRADIENT = {"f64": 1e-9, "f32": 1e-5}


def compiled(model: str, precision: str, settings: str = "", **config: Any) -> nnc.Net:
    """Compile a model in a precision, with keys of its train block replaced.

    ``model`` is its place below ``examples/``, or its text.
    """
    text = model if "\n" in model else (EXAMPLES / model).read_text(encoding="utf-8")
    for line in (f'precision = "{precision}"', *settings.splitlines()):
        key = line.split("=")[0].strip()
        text = re.sub(rf"(?m)^    {key} *= .*\n", "", text)
        text = re.sub(r"(?m)^train (.*)\{$", rf"train \1{{\n    {line}", text)
    return nnc.compile(text, threads=1, **config)


def follow(net: nnc.Net, batch: Callable[[int], Batch], loss: Loss, optimizer: Optimizer) -> None:
    """Train ``net`` beside its PyTorch twin and compare losses, and the first gradients."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    manifest = net.executor.manifest
    precision = "f64" if manifest.precision.bytes == 8 else "f32"
    trained = {p.path for p in manifest.parameters if p.trainable}
    theirs = {
        path: torch.tensor(np.array(value), requires_grad=path in trained)
        for path, value in net.params.items()
    }
    first = batch(0)
    _, gradients = differentiate(net, first)
    loss(theirs, tensors(first)).backward()
    assert any(theirs[path].grad is not None for path in trained)
    for path in sorted(trained):
        found = theirs[path].grad
        expected = np.zeros(theirs[path].shape) if found is None else found.numpy()
        scale = max(float(np.abs(expected).max(initial=0)), 1e-30)
        np.testing.assert_allclose(
            gradients[path] / scale, expected / scale, 0, GRADIENT[precision], err_msg=path
        )
    descent = optimizer({path: theirs[path] for path in sorted(trained)})
    for step in range(STEPS[precision]):
        rows = batch(step)
        descent.zero_grad()
        expected = loss(theirs, tensors(rows))
        expected.backward()
        descent.step()
        assert net.step(**rows) == pytest.approx(expected.item(), rel=LOSS[precision]), step


def tensors(batch: Batch) -> Tensors:
    """Return the arrays of a batch as tensors."""
    import torch

    return {name: torch.tensor(np.asarray(array)) for name, array in batch.items()}
