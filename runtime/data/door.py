"""Rows at the door: arrays by name, checked against a model's inputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from nnc.runtime.arrays import admit, bind, check_names
from nnc.runtime.data.source import PortsOf, Split, is_cut
from nnc.runtime.errors import UserError

WhereOf = Callable[[str, tuple[int, ...]], str]
"""Tells in words where an element of the array of a name comes from."""


def split_of(
    model: PortsOf,
    arrays: Mapping[str, object],
    where: WhereOf | None = None,
    *,
    finite: bool = True,
) -> Split:
    """Check arrays against the model's inputs and targets and return them as one split.

    Raises UserError for missing names, wrong types, ranks, sizes or values, and for what is no
    number or infinite where all must be ``finite``.
    """
    if not isinstance(arrays, Mapping):
        raise UserError(
            "E0603",
            f"data is a {type(arrays).__name__}, not arrays by name",
            (f"the model has: {', '.join(port.name for port in model.ports)}",),
            "give a dict of arrays, or name a file in the train block: data = npz(...)",
        )
    ports = {port.name: port for port in model.ports}
    used = {name: value for name, value in arrays.items() if name in ports}
    check_names(used, ports, ports)
    good = {
        port.name: admit(
            port,
            used[port.name],
            partial(where, port.name) if where is not None else None,
            finite=finite,
        )
        for port in model.ports
    }
    dims = bind(model.ports, good)
    rows = dims[model.batch] if model.batch is not None else 1
    cut = {p.name: good[p.name] for p in model.ports if is_cut(p, model.batch)}
    whole = {p.name: good[p.name] for p in model.ports if p.name not in cut}
    return Split(cut, whole, rows)
