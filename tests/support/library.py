"""Holds one expression of the library against PyTorch: its value and all of its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.support.nets import differentiate, net, training

Array = np.ndarray[Any, Any]
Tensors = Mapping[str, Any]


def agree(
    body: str,
    arrays: Mapping[str, Array],
    reference: Callable[[Tensors], Any],
    *,
    data: Mapping[str, Array] | None = None,
    rtol: float = 1e-9,
    atol: float = 1e-10,
    seed: int = 0,
) -> None:
    """Compile ``body``, which binds y, and compare with ``reference`` in f64.

    Arrays of decimals become parameters of their names, so that they have gradients; whole numbers
    and truth values are inputs, and so are the decimals of ``data``. ``reference`` is given PyTorch
    tensors of them and of every parameter that layers in the body made, by path, and returns what
    y must be. The gradients are those of ``sum(y*c)`` for random c.
    """
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    floats = {n: a for n, a in arrays.items() if a.dtype == np.float64}
    others = {n: a for n, a in arrays.items() if n not in floats} | dict(data or {})
    names = {"float64": "float", "int32": "i32", "int64": "i64", "bool": "bool"}
    lines = [f"param {n}: float{_dims(a)} = zeros()" for n, a in floats.items()]
    lines += [f"input {n}: {names[str(a.dtype)]}{_dims(a)}" for n, a in others.items()]
    shape = _shape_of("\n".join([*lines, body]))
    lines += [f"input seen_by_loss: float{list(shape) if shape else ''}"]
    program = net(training("\n".join([*lines, body, "output y", "loss sum(y*seen_by_loss)"])))
    trained = [p.path for p in program.executor.manifest.parameters if p.trainable]
    for path in trained:
        view = program.params[path]
        view[...] = floats[path] if path in floats else rng.normal(0, 1, view.shape)
    tensors = {
        path: torch.tensor(np.array(view), requires_grad=path in trained)
        for path, view in program.params.items()
    } | {n: torch.tensor(a) for n, a in others.items()}
    expected = reference(tensors)
    assert tuple(expected.shape) == tuple(shape), f"{body}: {shape} and {tuple(expected.shape)}"
    weights = rng.normal(0, 1, shape)
    (expected * torch.tensor(weights)).sum().backward()
    given = {**others, "seen_by_loss": weights}
    _, gradients = differentiate(program, given)
    values = program(**given)["y"]
    close = {"rtol": rtol, "atol": atol}
    np.testing.assert_allclose(values, expected.detach().numpy(), **close, err_msg=body)
    for path, found in gradients.items():
        theirs = tensors[path].grad
        wanted = np.zeros(found.shape) if theirs is None else theirs.numpy()
        np.testing.assert_allclose(found, wanted, **close, err_msg=f"{body}: {path}")


def _dims(array: Array) -> str:
    return str(list(array.shape)) if array.shape else ""


def _shape_of(body: str) -> tuple[Any, ...]:
    """Return the shape of y, which the frontend knows before anything is compiled."""
    from tests.support.programs import model

    made = model(f"model M {{\n{body}\noutput y\n}}\n")
    return made.inference.outputs[0].node.type.shape
