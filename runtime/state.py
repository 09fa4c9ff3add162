"""The state of a program by name: parameters, buffers, optimizer slots, counters and sums.

Blocks and their layout are of no account here, so that a checkpoint fits every program with the
same parameters and optimizers. Gradients are left out: each step makes its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nnc.ir.index import evaluate
from nnc.runtime.arrays import Array
from nnc.runtime.executor import Executor
from nnc.runtime.names import TRAINABLE

PASSING = ("gradient:",)
"""Beginnings of the names of buffers that no step finds as another left them."""


def parameters(executor: Executor) -> dict[str, Array]:
    """Return views of all parameters and buffers, by path."""
    paths = [p.path for p in executor.manifest.parameters]
    return {path: executor.instance.tensor(f"state:{path}") for path in paths}


def rest(executor: Executor) -> dict[str, Array]:
    """Return views of all other state: slots as ``path:slot``, counters as ``system:name``."""
    paths = {f"state:{p.path}" for p in executor.manifest.parameters}
    found: dict[str, Array] = {}
    for name in executor.instance.state_names():
        if name.startswith(PASSING) or name == TRAINABLE or name in paths:
            continue
        if name.startswith("state:*"):
            found |= dict(_parted(executor, name))
        else:
            found[name.removeprefix("state:")] = executor.instance.tensor(name)
    return found


def _parted(executor: Executor, block: str) -> Iterator[tuple[str, Array]]:
    """Part a block that is laid out as the trainable parameters are."""
    buffers = executor.manifest.buffers
    inside = [b for b in buffers if b.inside == block]
    runs = [(evaluate(b.offset, {}), evaluate(b.extents[0], {})) for b in inside]
    slot = block.removeprefix("state:*").removeprefix("slot.")
    for buffer in buffers:
        if buffer.inside != TRAINABLE or buffer.name.startswith("state:*"):
            continue
        start = evaluate(buffer.offset, {})
        if runs and not any(at <= start < at + size for at, size in runs):
            continue
        path = buffer.name.removeprefix("state:")
        yield f"{path}:{slot}", executor.instance.part(block, path)


def copied(state: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies, which later steps leave as they are."""
    return {name: array.copy() for name, array in state.items()}


def put(target: Mapping[str, Array], source: Mapping[str, Array]) -> None:
    """Write ``source`` into the views of ``target``, which must have the same names and shapes."""
    for name, array in source.items():
        target[name][...] = array
