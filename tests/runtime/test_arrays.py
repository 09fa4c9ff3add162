"""Arrays at the door: what is taken, converted and refused."""

from __future__ import annotations

import numpy as np
import pytest

from nnc.ir.index import dim
from nnc.ir.model import Port
from nnc.ir.types import DType, TensorType
from nnc.runtime.arrays import admit, bind, check_names
from nnc.runtime.errors import UserError

IMAGE = Port("image", TensorType(DType.F32, (dim("batch"), 4)), "input")
DIGIT = Port("digit", TensorType(DType.I32, (dim("batch"),)), "target", 0, 10)
BYTES = Port("pixel", TensorType(DType.U8, (dim("batch"),)), "input")
PORTS = {p.name: p for p in (IMAGE, DIGIT)}


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "?", "u1", "i2"])
def test_a_float_port_takes_what_it_can_keep(kind: str) -> None:
    array = admit(IMAGE, np.ones((3, 4), kind))
    assert array.dtype == np.float32
    assert array.flags.c_contiguous


def test_whole_numbers_that_a_float_cannot_keep_are_refused() -> None:
    assert admit(IMAGE, np.full((1, 4), 2**24, "i8")).dtype == np.float32
    with pytest.raises(UserError) as fault:
        admit(IMAGE, np.full((1, 4), 2**24 + 1, "i8"))
    assert fault.value.code == "E0605"


def test_a_strided_array_is_made_contiguous() -> None:
    wide = np.arange(24, dtype="f4").reshape(3, 8)[:, ::2]
    array = admit(IMAGE, wide)
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, wide)


@pytest.mark.parametrize(
    ("port", "value", "code"),
    [
        (IMAGE, np.ones((3, 4, 1), "f4"), "E0604"),
        (IMAGE, np.ones((3, 4), "c8"), "E0603"),
        (IMAGE, np.array([["a"] * 4]), "E0603"),
        (IMAGE, [[1, 2], [3]], "E0603"),
        (DIGIT, np.array([0.5]), "E0605"),
        (DIGIT, np.array([3, 10]), "E0606"),
        (DIGIT, np.array([3, -1]), "E0606"),
        (DIGIT, np.array([2**40]), "E0605"),
        (BYTES, np.array([256]), "E0605"),
    ],
)
def test_what_does_not_fit_is_refused(port: Port, value: object, code: str) -> None:
    with pytest.raises(UserError) as fault:
        admit(port, value)
    assert fault.value.code == code


def test_a_value_outside_its_range_is_named_with_its_place() -> None:
    with pytest.raises(UserError, match=r"10 at \[1\]"):
        admit(DIGIT, np.array([3, 10]))


def test_names() -> None:
    with pytest.raises(UserError, match="did you mean 'image'"):
        check_names(["imge"], PORTS, PORTS)
    with pytest.raises(UserError, match="no array was given for 'digit'"):
        check_names(["image"], PORTS, PORTS)


def test_dims_must_agree() -> None:
    arrays = {"image": np.ones((3, 4), "f4"), "digit": np.ones(3, "i4")}
    assert bind(PORTS.values(), arrays) == {"batch": 3}
    arrays["digit"] = np.ones(2, "i4")
    with pytest.raises(UserError, match="'batch' is 3 in 'image' and 2 in 'digit'"):
        bind(PORTS.values(), arrays)
    arrays["image"] = np.ones((2, 5), "f4")
    with pytest.raises(UserError, match="has 5 in place 1 where the model declares 4"):
        bind(PORTS.values(), arrays)
    with pytest.raises(UserError) as fault:
        bind([IMAGE], {"image": np.ones((0, 4), "f4")})
    assert fault.value.code == "E0608"
