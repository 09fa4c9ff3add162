"""Entries around a step on rows of data: ``gather`` before it, ``record`` its losses after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.ir import build
from nnc.ir.expr import Loaded, Position, Read
from nnc.ir.graph import Form, Graph, Node, Output
from nnc.ir.index import Size, axis, dim
from nnc.ir.model import Recipe, Step
from nnc.ir.types import DType, TensorType
from nnc.runtime.names import ROWS

if TYPE_CHECKING:
    from nnc.runtime.assemble import Assembly


def add_epoch(out: Assembly, recipe: Recipe) -> None:
    """Entries between the steps of ``steps``: ``gather`` the next batch, ``record`` its loss.

    Without a dim to cut data along there is nothing to gather: each step takes all of it.
    """
    model = out.model
    rows: Size = 1 if model.batch is None else dim(model.batch)
    for step in recipe.steps:
        _record(out, step, rows)
    if model.batch is None:
        return
    start = build.leaf("system", "start", TensorType(DType.I64))
    order = build.leaf("data", "*order", TensorType(DType.I64, (dim(ROWS),)))
    out.add("system", "start", start.type, "state")
    out.add("data", "*order", order.type, "input")
    results: list[Output] = []
    for port in model.ports:
        shape = port.type.shape
        if not port.trains or not shape or shape[0] != rows:
            continue
        kind = TensorType(port.type.dtype, (dim(ROWS), *shape[1:]))
        data = build.leaf("data", port.name, kind)
        out.add("data", port.name, kind, "input")
        results.append(Output("input", port.name, _gathered(data, order, start, port.type)))
    advanced = build.form((), (), position_sum(0, rows), (start,), (), dtype=DType.I64)
    results.append(Output("system", "start", advanced))
    out.graphs["gather"] = Graph("gather", tuple(results))


def position_sum(operand: int, rows: Size) -> Position:
    """Return the scalar ``operand + rows`` as a subscript's value."""
    return Position(Loaded(Read(operand, (), DType.I64)).as_poly() + rows)


def _gathered(data: Node, order: Node, start: Node, kind: TensorType) -> Node:
    axes = tuple((f"i{k}", extent) for k, extent in enumerate(kind.shape))
    place = Loaded(Read(2, (), DType.I64)).as_poly() + axis("i0")
    row = Loaded(Read(1, (place,), DType.I64)).as_poly()
    rest = tuple(axis(name) for name, _ in axes[1:])
    body = Read(0, (row, *rest), kind.dtype)
    out = tuple(axis(name) for name, _ in axes)
    return Node(Form(axes, out, "none", body), (data, order, start), kind, None, data.name)


def _record(out: Assembly, step: Step, rows: Size) -> None:
    """Add the step's losses, weighted by its rows, and the rows to running sums in f64."""
    results: list[Output] = []
    weight = build.cast(build.form((), (), Position(rows), (), (), dtype=DType.I64), DType.F64)

    def add(name: str, value: Node) -> None:
        total = build.leaf("system", name, TensorType(DType.F64))
        out.add("system", name, total.type, "state")
        results.append(Output("system", name, build.elementwise("add", total, value)))

    for loss in out.model.training.losses:
        if loss.name in step.minimize:
            value = build.cast(build.leaf("loss", loss.name, loss.node.type), DType.F64)
            add(f"sum.{loss.name}", build.elementwise("mul", value, weight))
            add(f"rows.{loss.name}", weight)
    name = step.entry("record")
    out.graphs[name] = Graph(name, tuple(results))
