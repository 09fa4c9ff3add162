"""Weights by path, in safetensors files. Reading one runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnc.ir import files
from nnc.ir.types import TensorType
from nnc.runtime.arrays import Array
from nnc.runtime.errors import UserError, nearest


def save(path: Path, tensors: Mapping[str, Array], model: str) -> None:
    """Write the tensors of a model to ``path``: under a temporary name, to the disk, then renamed.

    Whatever happens, ``path`` holds the old or the new file, whole. Equal tensors make equal files.
    """
    from safetensors.numpy import save as serialise

    # One note only: safetensors writes several in an order of chance.
    write_whole(path, serialise(dict(tensors), {"model": model}))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that its name never stands for half of it.

    Raises UserError where it cannot be written; what was there is then still there.
    """
    make_folder(path.parent)
    try:
        files.write_whole(path, data)
    except OSError as fault:
        raise unwritten(path, fault) from None


def make_folder(path: Path) -> None:
    """Make a folder, and those it lies in. Raises UserError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise unwritten(path, fault) from None


def unwritten(path: Path, fault: OSError) -> UserError:
    """Return the error of a file or folder that cannot be written."""
    return UserError("E0634", f"'{path}' cannot be written", (fault.strerror or str(fault),))


def load(path: Path) -> dict[str, Array]:
    """Return the tensors of a safetensors file. Raises UserError for anything else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise UserError("E0631", f"there is no weight file '{path}'")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as fault:
        raise UserError("E0632", f"'{path}' cannot be read as safetensors", (str(fault),)) from None


def check(given: Mapping[str, Array], wanted: Mapping[str, TensorType], source: str) -> None:
    """Compare the paths, shapes and types in a file with a model's.

    Raises UserError naming every path that is unknown or missing and every tensor that differs.
    """
    notes: list[str] = []
    for path in sorted(given.keys() - wanted.keys()):
        guess = nearest(path, sorted(wanted.keys() - given.keys()))
        notes.append(f"the model has no '{path}'" + (f"; nearest is '{guess}'" if guess else ""))
    notes += [f"'{path}' is missing" for path in sorted(wanted.keys() - given.keys())]
    for path in sorted(given.keys() & wanted.keys()):
        have, want = given[path], wanted[path]
        if have.shape != tuple(want.shape) or have.dtype != want.dtype.numpy:
            shape = list(have.shape)
            notes.append(f"'{path}' is {have.dtype}{shape} there and {want} in the model")
    if notes:
        raise UserError(
            "E0633",
            f"the weights in {source} are not those of this model",
            tuple(notes),
            "were they made with another configuration? --set name=value sets it",
        )
