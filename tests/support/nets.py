"""Compiled programs from text, their gradients, and finite differences of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import nnc
from nnc.backends import llvm

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def net(text: str, threads: int = 1, **config: Any) -> nnc.Net:
    """Compile the text of a model file."""
    return nnc.compile(dedent(text), threads=threads, **config)


@contextmanager
def every_launch_shared(cache: Path) -> Iterator[None]:
    """Let all threads share every launch, which for small ones would not pay; compile anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llvm, "DEFAULT_GRAIN", 0)
        patch.setenv("NNC_CACHE_DIR", str(cache))
        yield


def training(body: str, settings: str = "", name: str = "M") -> str:
    """Return the text of a model and of a train block in f64 for it."""
    return (
        f"model {name} {{\n{dedent(body)}\n}}\n"
        f'train {name} {{\noptimizer = sgd(lr = 0.1)\nprecision = "f64"\n{dedent(settings)}\n}}\n'
    )


def differentiate(
    program: nnc.Net, arrays: Mapping[str, object]
) -> tuple[dict[str, float], dict[str, Array]]:
    """Return the losses by name and every trainable parameter's gradient by path."""
    executor = program.executor
    bound = executor.call("gradient", executor.checked(arrays, ("input", "target")))
    losses = {name: float(bound.outputs[f"loss:{name}"]) for name in executor.manifest.losses}
    paths = [p.path for p in executor.manifest.parameters if p.trainable]
    return losses, {p: executor.instance.tensor(f"gradient:{p}").copy() for p in paths}


def total(program: nnc.Net, arrays: Mapping[str, object]) -> float:
    """Return the sum of the losses."""
    return sum(differentiate(program, arrays)[0].values())


def numeric(program: nnc.Net, arrays: Mapping[str, object], path: str, eps: float = 1e-6) -> Array:
    """Return the gradient of the sum of the losses by central differences."""
    weights = program.params[path]
    found = np.empty(weights.shape)
    for place in np.ndindex(weights.shape):
        kept = weights[place]
        weights[place] = kept + eps
        above = total(program, arrays)
        weights[place] = kept - eps
        below = total(program, arrays)
        weights[place] = kept
        found[place] = (above - below) / (2 * eps)
    return found
