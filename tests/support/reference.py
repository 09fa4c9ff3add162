"""Compares compiled models with the same models written in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import nnc
from tests.support.nets import differentiate

Reference = Callable[[dict[str, Any], dict[str, Any]], Mapping[str, Any]]
"""From parameters and data, both tensors by name, to losses ("loss:name") and outputs ("name")."""
RATE = 0.1


def compare(
    program: nnc.Net,
    arrays: Mapping[str, Any],
    reference: Reference,
    *,
    steps: int = 3,
    rtol: float = 1e-9,
    atol: float = 1e-11,
    scatter: float | None = 0.5,
) -> None:
    """Check losses, gradients, outputs and some steps of gradient descent at the rate 0.1.

    The parameters start as normal numbers of the deviation ``scatter``, or as they are.
    """
    import torch

    torch.set_num_threads(1)  # the tensors are small, and other tests may run beside

    rng = np.random.default_rng(sum(map(ord, program.executor.manifest.name)))
    trained = [p.path for p in program.executor.manifest.parameters if p.trainable]
    if scatter is not None:
        for path in trained:
            values = program.params[path]
            values[...] = rng.normal(0, scatter, values.shape)
    kept = {path: np.array(view) for path, view in program.params.items()}
    theirs = {
        path: torch.tensor(value, requires_grad=path in trained) for path, value in kept.items()
    }
    data = {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}
    inputs = {p.name for p in program.executor.manifest.ports if p.kind == "input"}

    differentiate(program, arrays)
    poison(program)
    losses, gradients = differentiate(program, arrays)
    expected = reference(theirs, data)
    named = {k.removeprefix("loss:"): v for k, v in expected.items() if k.startswith("loss:")}
    assert set(losses) == set(named)
    for name, value in named.items():
        np.testing.assert_allclose(losses[name], value.item(), rtol, atol, err_msg=name)
    sum(named.values()).backward()
    for path in trained:
        found = theirs[path].grad
        zeros = np.zeros(kept[path].shape)
        np.testing.assert_allclose(
            gradients[path], zeros if found is None else found.numpy(), rtol, atol, err_msg=path
        )
    outputs = {k: v for k, v in expected.items() if not k.startswith("loss:")}
    if outputs:
        values = program(**{name: arrays[name] for name in arrays if name in inputs})
        for name, value in outputs.items():
            np.testing.assert_allclose(
                values[name], value.detach().numpy(), rtol, atol, err_msg=name
            )
    poison(program)
    optimizer = torch.optim.SGD([theirs[path] for path in trained], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        total = sum(v for k, v in reference(theirs, data).items() if k.startswith("loss:"))
        total.backward()
        np.testing.assert_allclose(program.step(**arrays), total.item(), rtol * 10, atol)
        optimizer.step()
    for path in trained:
        np.testing.assert_allclose(
            program.params[path], theirs[path].detach().numpy(), rtol * 100, atol, err_msg=path
        )


def poison(program: nnc.Net) -> None:
    """Fill the scratch memory with not-a-numbers: what was not written may not be read."""
    program.executor.instance._scratch[...] = 255
