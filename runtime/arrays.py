"""Arrays at the door: names, types, ranks, sizes and ranges, checked before native code runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nnc.ir.index import Dim, Poly, Size, dims_of, evaluate
from nnc.ir.model import Port
from nnc.ir.types import DType
from nnc.runtime.errors import UserError, nearest

Array = np.ndarray[Any, np.dtype[Any]]
Where = Callable[[tuple[int, ...]], str]
"""Tells in words where an element of an array comes from: "in line 3 of 'a.csv', column 'y'"."""


def check_names(given: Iterable[str], ports: Mapping[str, Port], needed: Iterable[str]) -> None:
    """Raise UserError for a name that no port has, or a needed port without an array."""
    for name in given:
        if name not in ports:
            guess = nearest(name, list(ports))
            raise UserError(
                "E0601",
                f"the model has no input or target called '{name}'",
                (f"it has: {', '.join(ports)}",),
                f"did you mean '{guess}'?" if guess else None,
            )
    missing = [name for name in needed if name not in set(given)]
    if missing:
        raise UserError(
            "E0602",
            f"no array was given for {_listed(missing)}",
            tuple(
                f"{name}: {ports[name].type}, {ports[name].kind} of the model" for name in missing
            ),
        )


def admit(port: Port, value: object, where: Where | None = None, *, finite: bool = False) -> Array:
    """Return ``value`` as a contiguous array of the port's element type.

    Floats go to any float type; whole numbers and truth values go wherever each value is kept
    exactly. Anything else is refused with UserError, and so is a value outside ``in low..high``,
    and one that is no number or infinite where all must be ``finite``. ``where`` tells in errors
    where an element comes from.
    """
    try:
        array = np.asarray(value)
    except ValueError as fault:
        raise UserError("E0603", f"'{port.name}' is not an array: {fault}") from None
    want = port.type.dtype
    if array.dtype.kind not in "biuf":
        raise UserError(
            "E0603",
            f"'{port.name}' holds {array.dtype}, which is not a number type",
            (f"the model declares {port.name}: {port.type}",),
        )
    if array.ndim != port.type.rank:
        raise UserError(
            "E0604",
            f"'{port.name}' has {array.ndim} dims where the model declares {port.type.rank}",
            (f"given: {list(array.shape)}", f"declared: {port.type}"),
        )
    good = np.asarray(_converted(port, array, want, where), order="C")
    if finite and want.is_float:
        _check_finite(port, good, where)
    return check_range(port, good if good.flags.aligned else good.copy(), where)


def _check_finite(port: Port, array: Array, where: Where | None) -> None:
    good = np.isfinite(array)
    if not good.all():
        place = first_of(~good)
        raise UserError(
            "E0616",
            f"'{port.name}' holds {array[place]} {told(where, place)}",
            ("training on it would make every weight not-a-number",),
            "mend the data, or say allow_nan = true where it is read if the model expects it",
        )


def first_of(wrong: Array) -> tuple[int, ...]:
    """Return the first place, in row-major order, at which ``wrong`` is true."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))


def told(where: Where | None, place: tuple[int, ...]) -> str:
    """Return where an element is, in words: by ``where``, or else by its subscripts."""
    return where(place) if where is not None else f"at {list(place)}"


def _converted(port: Port, array: Array, want: DType, where: Where | None) -> Array:
    if array.dtype == want.numpy:
        return array
    source = array.dtype.kind
    wrong: Array
    if want.is_float:
        with np.errstate(over="ignore"):
            rounded = array.astype(want.numpy)
        if source == "f":
            wrong = np.isinf(rounded) != np.isinf(array)
        else:
            wrong = rounded.astype(array.dtype) != array
        if not wrong.any():
            return rounded
    elif want is DType.BOOL:
        wrong = ~np.isin(array, (0, 1))
        if source == "b" or not wrong.any():
            return array.astype(want.numpy)
    elif source in "biu":
        kept = array.astype(want.numpy)
        wrong = (kept != array) | ((kept < 0) != (array < 0))
        if not wrong.any():
            return kept
    else:
        wrong = array != np.floor(array)
        wrong = wrong if wrong.any() else np.ones(array.shape, np.bool_)
    note: tuple[str, ...] = ()
    hint = f"convert it first, for example {port.name}.astype('{want.numpy}')"
    if where is not None and wrong.any():
        place = first_of(wrong)
        note = (f"the first is {array[place]}, {where(place)}",)
        hint = f"mend the data, or declare {port.name} with a type that keeps such values"
    raise UserError(
        "E0605",
        f"'{port.name}' holds {array.dtype} values that {want} cannot keep",
        (f"the model declares {port.name}: {port.type}", *note),
        hint,
    )


def settled(port: Port, dims: Mapping[str, int]) -> Port:
    """Return ``port`` with the ends of its range as numbers, as far as ``dims`` tell them."""

    def known(limit: Size | None) -> Size | None:
        if limit is None or isinstance(limit, int) or not dims_of(limit) <= dims.keys():
            return limit
        return evaluate(limit, dims)

    return replace(port, low=known(port.low), high=known(port.high))


def check_range(port: Port, array: Array, where: Where | None = None) -> Array:
    """Return ``array``; raises UserError where a value lies outside the port's range.

    Ends that are no numbers are not looked at (see ``settled``).
    """
    if array.size == 0 or (port.low is None and port.high is None):
        return array
    for limit, outside in ((port.low, np.less), (port.high, np.greater_equal)):
        if not isinstance(limit, int):
            continue
        wrong = outside(array, limit)
        if wrong.any():
            place = first_of(wrong)
            raise UserError(
                "E0606",
                f"'{port.name}' holds {array[place]} {told(where, place)}, outside "
                f"{port.low}..{port.high}",
                ("the upper end of a range is not part of it",),
            )
    return array


def bind(ports: Iterable[Port], arrays: Mapping[str, Array]) -> dict[str, int]:
    """Return the symbolic dims that the arrays' shapes give.

    Raises UserError where two arrays disagree about a dim, a fixed size is not met, or a value
    lies outside a range that a dim ends.
    """
    ports = tuple(ports)
    dims: dict[str, int] = {}
    origin: dict[str, str] = {}
    later: list[tuple[Port, int, Size, int]] = []
    for port in ports:
        for place, (want, have) in enumerate(
            zip(port.type.shape, arrays[port.name].shape, strict=True)
        ):
            name = _plain(want)
            if name is None:
                later.append((port, place, want, have))
            elif dims.setdefault(name, have) != have:
                raise UserError(
                    "E0607",
                    f"'{name}' is {dims[name]} in '{origin[name]}' and {have} in '{port.name}'",
                    (f"the model declares {port.name}: {port.type}",),
                )
            else:
                origin.setdefault(name, port.name)
    for port, place, want, have in later:
        if dims_of(want) <= dims.keys() and evaluate(want, dims) != have:
            raise UserError(
                "E0607",
                f"'{port.name}' has {have} in place {place} where the model declares {want}",
                (
                    f"given: {list(arrays[port.name].shape)}",
                    f"declared: {port.name}: {port.type}",
                ),
            )
    for name, have in dims.items():
        if have < 1:
            raise UserError("E0608", f"'{name}' is 0: there is nothing in '{origin[name]}'")
    for port in ports:
        if isinstance(port.low, Poly) or isinstance(port.high, Poly):
            check_range(settled(port, dims), arrays[port.name])
    return dims


def _plain(size: Size) -> str | None:
    """Return the name of a size that is just one symbolic dim."""
    if isinstance(size, Poly) and len(size.terms) == 1:
        (monomial, c) = size.terms[0]
        if c == 1 and len(monomial) == 1 and isinstance(monomial[0], Dim):
            return monomial[0].name
    return None


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
