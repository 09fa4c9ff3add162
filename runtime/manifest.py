"""All that is needed to run compiled code, as plain data that goes into a file and comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnc.backends.base import RECORD_VERSION
from nnc.ir.expr import Apply, Const, Expr, Position
from nnc.ir.index import Atom, Axis, Dim, FloorDiv, Mod, Poly, Size, floordiv, mod, product
from nnc.ir.loops import Buffer, Site
from nnc.ir.model import Port
from nnc.ir.span import Span
from nnc.ir.types import DType, TensorType
from nnc.passes.plan import Live
from nnc.runtime.summary import Summary
from nnc.runtime.turns import Turn

FORMAT = f"1.{RECORD_VERSION}"
"""What a built file was written as: the manifest's own version, and that of the call record."""


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """What an entry needs at a call: its dims' values, and scratch memory that lives as stated."""

    name: str
    lives: tuple[Live, ...]
    uses: frozenset[str]


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """A parameter or buffer as users see it."""

    path: str
    type: TensorType
    trainable: bool


@dataclass(frozen=True, slots=True)
class Check:
    """A requirement on dims: ``condition`` must hold at every call (see ``conditions``)."""

    message: str
    condition: Expr


@dataclass(frozen=True)
class Manifest:
    """A compiled program without its code."""

    name: str
    target: str
    precision: DType
    dims: tuple[str, ...]
    batch: str | None
    ports: tuple[Port, ...]
    outputs: tuple[tuple[str, tuple[str, ...]], ...]
    parameters: tuple[ParameterInfo, ...]
    checks: tuple[Check, ...]
    buffers: tuple[Buffer, ...]
    entries: Mapping[str, EntryInfo]
    sites: tuple[Site, ...]
    summaries: tuple[Summary, ...]
    turns: tuple[Turn, ...]
    seed: int
    settings: Mapping[str, Any]
    made_of: Mapping[str, str] = field(default_factory=dict)
    """Digests of what the bits of training depend on."""
    places: tuple[str, ...] = ()
    """File and line of each site."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of what training minimises; none where it cannot train."""
        return tuple(dict.fromkeys(name for turn in self.turns for name in turn.losses))


@dataclass(frozen=True, slots=True)
class Compiled:
    """Object code and all that is needed to run it."""

    manifest: Manifest
    code: bytes


# ---------------------------------------------------------------------------------- encoding


def encode_size(size: Size) -> Any:
    """Return a size as JSON data: an int, or a list of [coefficient, atoms]."""
    if isinstance(size, int):
        return size
    return [[c, [_encode_atom(a) for a in monomial]] for monomial, c in size.terms]


def _encode_atom(atom: Atom) -> Any:
    match atom:
        case Dim(name):
            return ["dim", name]
        case Axis(name):
            return ["axis", name]
        case FloorDiv(value, by):
            return ["//", encode_size(value), by]
        case Mod(value, by):
            return ["%", encode_size(value), by]
        case _:
            raise TypeError(f"no such atom in a manifest: {atom.key}")


def decode_size(data: Any) -> Size:
    """Inverse of ``encode_size``. Raises ValueError for anything else."""
    if isinstance(data, int) and not isinstance(data, bool):
        return data
    if not isinstance(data, list):
        raise ValueError("a size is a whole number or a list of terms")
    total: Size = 0
    for c, atoms in data:
        total = total + product([int(c), *(_decode_atom(a) for a in atoms)])
    return total


def _decode_atom(data: Any) -> Size:
    match data:
        case ["dim", str(name)]:
            return Dim(name).as_poly()
        case ["axis", str(name)]:
            return Axis(name).as_poly()
        case ["//", value, int(by)]:
            return floordiv(decode_size(value), by)
        case ["%", value, int(by)]:
            return mod(decode_size(value), by)
        case _:
            raise ValueError("an atom of a size is a dim, an axis, a quotient or a remainder")


def encode(value: Any) -> Any:
    """Return a manifest, or any value within one, as JSON data."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Poly():
            return {"size": encode_size(value)}
        case DType():
            return {"dtype": value.value}
        case tuple() | list():
            return [encode(v) for v in value]
        case frozenset():
            return {"set": sorted(value)}
        case Mapping():
            return {"map": {str(k): encode(v) for k, v in value.items()}}
        case _ if dataclasses.is_dataclass(value) and type(value).__name__ in _CLASSES:
            fields = {
                f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init
            }
            return {"is": type(value).__name__, **fields}
        case _:
            raise TypeError(f"{type(value).__name__} cannot stand in a manifest")


_CLASSES: dict[str, Any] = {
    c.__name__: c
    for c in (
        Manifest, EntryInfo, ParameterInfo, Check, Live, Summary, Buffer, Site, Port, Span,
        TensorType, Const, Position, Apply, Turn,
    )
}  # fmt: skip


def decode(data: Any) -> Any:
    """Inverse of ``encode``; builds nothing but the classes of a manifest.

    Raises ValueError or TypeError for data that ``encode`` cannot have written.
    """
    match data:
        case None | bool() | int() | float() | str():
            return data
        case list():
            return tuple(decode(v) for v in data)
        case {"is": str(name), **fields} if name in _CLASSES:
            return _CLASSES[name](**{str(k): decode(v) for k, v in fields.items()})
        case {"size": size}:
            return decode_size(size)
        case {"dtype": name}:
            return DType(name)
        case {"set": members}:
            return frozenset(members)
        case {"map": members}:
            return {k: decode(v) for k, v in members.items()}
        case _:
            raise ValueError("this is not part of a manifest")
