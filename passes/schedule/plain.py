"""A kernel's worth of work that no form stands for: filling and copying."""

from __future__ import annotations

from nnc.ir.index import Axis, Size
from nnc.ir.loops import Expr
from nnc.passes.schedule.nested import Nested, Phase
from nnc.passes.schedule.stage import Stage

ELEMENT = Axis("e").as_poly()


def plain(hint: str, target: str, value: Expr, size: Size) -> Nested:
    """Store ``value``, which may depend on the axis ``ELEMENT``, to all elements of ``target``."""
    axes = (("e", size),) if size != 1 else ()
    stage = Stage(
        target=target,
        dtype=value.dtype,
        size=size,
        axes=axes,
        offset=ELEMENT if axes else 0,
        inside=None,
        covers=True,
        reduce="none",
        value=value,
        where=None,
        place=0,
        owners=frozenset(a for a, _ in axes),
        shape=(size,),
        columns=(),
        whole=(),
        guards=(),
    )
    return Nested(hint, axes, (Phase((), (stage,)),), frozenset({target}))
