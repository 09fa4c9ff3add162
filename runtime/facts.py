"""What ``nnc check`` tells of a model: parameters, multiply-adds, and exact memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnc.ir.expr import Apply, walk
from nnc.ir.graph import Form, Graph, Scan
from nnc.ir.index import Size, dims_of, evaluate, product
from nnc.ir.loops import Program
from nnc.ir.regions import dependence
from nnc.passes.plan import plan
from nnc.runtime.assemble import assemble
from nnc.runtime.compile import graphs_of, loops_of
from nnc.runtime.layout import divide_state, lay_out
from nnc.runtime.open import Opened, open_file, reading
from nnc.runtime.report import emit_json, table

MEASURED = ("gradient", "update")
"""The entries whose memory is told, beside inference; others are compiled when a program runs."""


def check(file: Path, *, as_json: bool, config: Mapping[str, Any], **choice: Any) -> None:
    """Check a file; print its parameters, work and memory."""
    opened = open_file(file, config, **choice)
    with reading(file):
        facts = facts_of(opened)
    if as_json:
        emit_json(facts.as_data())
    else:
        print(facts.as_text())


def check_and_mend(
    file: Path, *, as_json: bool, diff: bool, config: Mapping[str, Any], **choice: Any
) -> None:
    """Apply the fixes that the errors of a file offer, and check it again.

    With ``diff`` the changes are shown, and the file stays as it is. Raises SourceError with what
    is left, or, where nothing was written, with what is there.
    """
    from nnc.runtime.mend import mend, write

    found = mend(file, config, **choice)
    if diff:
        if as_json:
            emit_json({"fixed": found.as_data(), "diff": found.difference()})
        else:
            print(found.difference(), end="")
        if found.changed or found.error is not None:
            raise SystemExit(1)
        return
    write(found)
    if not as_json:
        for code, fix in found.done:
            print(f"{code}: {fix.title}", file=sys.stderr)
        if found.done:
            files = ", ".join(sorted(found.changed))
            print(f"{len(found.done)} mended in {files}\n", file=sys.stderr)
    if found.error is not None:
        raise found.error
    check(file, as_json=as_json, config=config, **choice)


@dataclass(frozen=True)
class Facts:
    """The figures of a checked model. Memory is for ``dims``, the recipe's batch among them."""

    name: str
    parameters: tuple[tuple[str, str, int, bool], ...]
    multiply_adds: Size
    dims: dict[str, int]
    train_state: int | None
    train_scratch: int | None
    infer_state: int
    infer_scratch: int | None
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many numbers training may change."""
        return sum(size for _, _, size, trainable in self.parameters if trainable)

    def as_data(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return {
            "model": self.name,
            "parameters": self.count,
            "tensors": [
                {"path": p, "type": t, "size": s, "trainable": k} for p, t, s, k in self.parameters
            ],
            "multiply_adds_per_sample": (
                self.multiply_adds
                if isinstance(self.multiply_adds, int)
                else str(self.multiply_adds)
            ),
            "dims": self.dims,
            "training": {"state_bytes": self.train_state, "scratch_bytes": self.train_scratch},
            "inference": {"state_bytes": self.infer_state, "scratch_bytes": self.infer_scratch},
            "notes": list(self.notes),
        }

    def as_text(self) -> str:
        """Return the figures as text for a terminal."""
        rows = [
            (path, kind, f"{size:,}", "" if trainable else "buffer")
            for path, kind, size, trainable in self.parameters
        ]
        work = self.multiply_adds
        sizes = ", ".join(f"{k} = {v}" for k, v in self.dims.items())
        memory = []
        if self.train_state is not None:
            memory.append(("training", f"{self.train_state:,}", _bytes(self.train_scratch)))
        memory.append(("inference", f"{self.infer_state:,}", _bytes(self.infer_scratch)))
        lines = [
            f"{self.name}: no errors",
            "",
            table(rows, right=frozenset({2})),
            "",
            f"  {self.count:,} parameters",
            f"  {work if not isinstance(work, int) else format(work, ',')} multiply-adds a sample",
            "",
            f"  bytes of memory{f' for {sizes}' if sizes else ''}:",
            table([("", "state", "scratch"), *memory], right=frozenset({1, 2})),
            *(f"\nnote: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def _bytes(size: int | None) -> str:
    return "-" if size is None else f"{size:,}"


def facts_of(opened: Opened) -> Facts:
    """Compile as far as the memory plan and gather the figures. Needs no backend."""
    model, recipe = opened.model, opened.recipe
    assembly = assemble(model, recipe)
    # without outputs, the losses tell how much there is to compute
    forward = "infer" if "infer" in assembly.graphs else "evaluate"
    steps = [turn.entry("step") for turn in assembly.turns]
    measured = [turn.entry(entry) for turn in assembly.turns for entry in MEASURED]
    graphs = graphs_of(assembly, (forward, *measured))
    program = loops_of(assembly, graphs)
    dims = dict.fromkeys(model.dims, 1)
    if recipe is not None and model.batch is not None:
        dims[model.batch] = int(recipe.settings.get("batch", 1))
    lasting, added = divide_state(program.buffers, [p.path for p in model.parameters])
    infer_state, train_state = lay_out(lasting, {})[1], lay_out(added, {})[1]
    return Facts(
        name=model.name,
        parameters=tuple(
            (p.path, str(p.type), _whole(p.type.size), p.trainable) for p in model.parameters
        ),
        multiply_adds=multiply_adds(graphs.get(forward), model.batch),
        dims=dims,
        train_state=infer_state + train_state if steps else None,
        train_scratch=max((_scratch(program, step, dims) or 0 for step in steps), default=None),
        infer_state=infer_state,
        infer_scratch=_scratch(program, "infer", dims),
        notes=tuple(assembly.notes),
    )


def _whole(size: Size) -> int:
    assert isinstance(size, int), "parameter sizes are never symbolic"
    return size


def _scratch(program: Program, entry: str, dims: dict[str, int]) -> int | None:
    known = {e.name for e in program.entries}
    return plan(program, entry, dims).total if entry in known else None


def multiply_adds(graph: Graph | None, batch: str | None) -> Size:
    """Return the multiply-adds of one sample: points of sums of products, at batch 1.

    A polynomial where the model has further symbolic dims.
    """
    if graph is None:
        return 0
    from nnc.ir.index import Dim, substitute

    total: Size = 0
    order = graph.nodes()
    turns = {n.op.loop.name: n.op.loop.extent for n in order if isinstance(n.op, Scan)}
    depends = dependence(order) if turns else {}
    for node in order:
        form = node.op
        if isinstance(form, Form) and form.reduce == "sum" and _multiplies(form):
            points = product(extent for _, extent in form.axes)
            points = points * product(turns[loop] for loop in depends.get(node, ()))
            total = total + (substitute(points, {Dim(batch): 1}) if batch is not None else points)
    return evaluate(total, {}) if not dims_of(total) else total


def _multiplies(form: Form) -> bool:
    return any(isinstance(e, Apply) and e.op in ("mul", "mad") for e in walk(form.body))
