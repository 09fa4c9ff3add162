"""Data files: what is read, and what is refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from nnc.runtime.errors import UserError
from nnc.runtime.files import locate, read_idx, read_npz


def idx_bytes(array: np.ndarray) -> bytes:
    codes = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    code = codes[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_round_trip(tmp_path: Path, kind: str, packed: bool) -> None:
    array = (np.arange(24) - 3).reshape(2, 3, 4).astype(kind)
    raw = idx_bytes(array)
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    read = read_idx(path)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 11, -1])
def test_a_truncated_idx_file_is_refused(tmp_path: Path, cut: int) -> None:
    raw = idx_bytes(np.arange(6, dtype="i4").reshape(2, 3))
    path = tmp_path / "a"
    path.write_bytes(raw[:cut])
    with pytest.raises(UserError) as fault:
        read_idx(path)
    assert fault.value.code == "E0614"


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    raw = bytearray(gzip.compress(idx_bytes(np.arange(600, dtype="i4"))))
    raw[len(raw) // 2] ^= 0xFF
    path = tmp_path / "a.gz"
    path.write_bytes(bytes(raw))
    with pytest.raises(UserError):
        read_idx(path)


def test_npz_with_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError) as fault:
        read_npz(path)
    assert fault.value.code == "E0613"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"junk" * 10])
def test_an_npz_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(UserError):
        read_npz(path)


def test_paths_stay_below_the_model_file(tmp_path: Path) -> None:
    inside = tmp_path / "models"
    inside.mkdir()
    (tmp_path / "secret.npz").write_bytes(b"x")
    (inside / "ok.npz").write_bytes(b"x")
    assert locate("ok.npz", [inside]) == (inside / "ok.npz").resolve()
    with pytest.raises(UserError) as fault:
        locate("../secret.npz", [inside])
    assert fault.value.code == "E0611"
    with pytest.raises(UserError):
        locate(str(tmp_path / "secret.npz"), [inside])
    with pytest.raises(UserError) as fault:
        locate("missing.npz", [inside])
    assert fault.value.code == "E0612"
    assert locate("secret.npz", [inside, tmp_path]) == (tmp_path / "secret.npz").resolve()


def test_a_link_does_not_lead_outside(tmp_path: Path) -> None:
    inside = tmp_path / "models"
    inside.mkdir()
    (tmp_path / "secret.npz").write_bytes(b"x")
    (inside / "link.npz").symlink_to(tmp_path / "secret.npz")
    with pytest.raises(UserError):
        locate("link.npz", [inside])
