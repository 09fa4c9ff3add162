"""Data files: .npz and idx(.gz). Reading one runs no code and opens nothing else."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnc.runtime.arrays import Array
from nnc.runtime.errors import UserError

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
ARCHIVE_FAULTS = (
    ValueError, OSError, EOFError, KeyError, RuntimeError, NotImplementedError, MemoryError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What damaged, encrypted or unknown archives make NumPy and zipfile raise."""


def locate(path: str, folders: Sequence[Path], *, folder: bool = False) -> Path:
    """Return the file (or ``folder``) that ``path`` names, which must lie below one of ``folders``.

    The first folder is that of the model file; the command may add others. Raises UserError for a
    path that leaves them, or where there is no such file.
    """
    for allowed in folders:
        base = allowed.resolve()
        found = (base / path).resolve()
        if found.is_relative_to(base) and (found.is_dir() if folder else found.is_file()):
            return found
    if not folders:
        raise UserError(
            "E0611",
            f"there is no folder to find '{path}' in",
            ("this program was given as text, so it lies in none",),
            "name a folder: nnc.compile(..., data_folders=[...])",
        )
    outside = all(not (f.resolve() / path).resolve().is_relative_to(f.resolve()) for f in folders)
    searched = tuple(f"searched in {allowed}" for allowed in folders)
    if outside:
        raise UserError(
            "E0611",
            f"'{path}' lies outside the folder of the model file",
            searched,
            "move the data below the model file, or allow its folder with --data DIR",
        )
    raise UserError(
        "E0612",
        f"there is no {'folder' if folder else 'file'} '{path}'",
        searched,
        "data paths are relative to the model file; --data DIR adds a folder to search",
    )


def check_inside(path: Path, folders: Sequence[Path]) -> None:
    """Raise UserError for a file that, links followed, lies below none of ``folders``."""
    found = path.resolve()
    if not any(found.is_relative_to(allowed.resolve()) for allowed in folders):
        raise UserError(
            "E0611",
            f"'{path}' leads outside the folder of the model file",
            (f"it is a link to '{found}'",),
            "copy what it leads to, or allow that folder with --data DIR",
        )


def read_npy(path: Path) -> Array:
    """Return the array of a NumPy file. Raises UserError for a damaged or pickled one."""
    try:
        with path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except ARCHIVE_FAULTS as fault:
        raise UserError("E0613", f"'{path}' cannot be read as .npy", (str(fault),)) from None


def read_npz(path: Path) -> dict[str, Array]:
    """Return the arrays of a NumPy archive. Raises UserError for a damaged or pickled one."""
    if not zipfile.is_zipfile(path):
        raise UserError("E0613", f"'{path}' is not an .npz archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ARCHIVE_FAULTS as fault:
        raise UserError("E0613", f"'{path}' cannot be read as .npz", (str(fault),)) from None


def read_idx(path: Path) -> Array:
    """Return the array of an idx file, gzipped or not (the format of the MNIST database).

    Two zero bytes, a type code, the number of dims, each size as 4 big-endian bytes, then the
    elements in row-major order (Y. LeCun, C. Cortes, C. Burges, "The MNIST database"). Raises
    UserError for anything else.
    """
    try:
        raw = path.read_bytes()
        if raw[:2] == GZIP_MAGIC:
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as fault:
        raise UserError("E0614", f"'{path}' cannot be read", (str(fault),)) from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in IDX_TYPES:
        raise UserError("E0614", f"'{path}' is not an idx file", (f"it begins with {raw[:4]!r}",))
    kind, rank = np.dtype(IDX_TYPES[raw[2]]), raw[3]
    start = 4 + 4 * rank
    if len(raw) < start:
        raise UserError("E0614", f"'{path}' ends within its header")
    shape = [int.from_bytes(raw[4 + 4 * k : 8 + 4 * k], "big") for k in range(rank)]
    need = start + kind.itemsize * int(np.prod(shape, dtype=object))
    if len(raw) != need:
        raise UserError(
            "E0614",
            f"'{path}' has {len(raw)} bytes where its header calls for {need}",
            (f"shape {shape} of {kind.newbyteorder('=')}",),
        )
    data = np.frombuffer(raw, kind, offset=start).reshape(shape)
    return data.astype(kind.newbyteorder("="))
