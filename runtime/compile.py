"""From a model file to a program that runs: the whole way, in one readable function."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nnc.ir import loops
from nnc.ir.expr import Expr
from nnc.ir.graph import Form, Graph
from nnc.ir.index import Dim
from nnc.ir.model import Model, Recipe, Requirement
from nnc.ir.text import print_graph
from nnc.passes.lower import LowerOptions, lower
from nnc.passes.pipeline import optimize
from nnc.runtime.assemble import Assembly, assemble
from nnc.runtime.names import TURNS
from nnc.runtime.turns import Turn

if TYPE_CHECKING:
    from nnc.backends.base import Backend
    from nnc.runtime.manifest import Compiled, Manifest

SEQUENCES: Mapping[str, tuple[str, ...]] = {
    "step": ("gradient", "update", "average"),
    "micro": ("gather", "gradient", "record"),
    "turn": ("gather", "gradient", "update", "average", "record"),
}
"""Entries that run others, one after the other. ``steps`` repeats ``turn``.

Where steps with names take turns, each has its own of all these (``gradient.critic``, but one
``gather``), and ``cycle`` repeats one round of all their turns.
"""
SHARED = ("gather", "average")
"""Parts that all steps which take turns have in common."""
OPTIONAL = {"average"}
"""Parts that a program may lack."""
TURN = "turn"
CYCLE = "round"


def sequences_of(steps: Sequence[Turn]) -> dict[str, tuple[str, ...]]:
    """Return the parts of each entry that runs others, for the steps that take turns."""

    def own(part: str, step: Turn) -> str:
        return part if part in SHARED else step.entry(part)

    found = {
        step.entry(name): tuple(own(part, step) for part in parts)
        for step in steps
        for name, parts in SEQUENCES.items()
    }
    if len(steps) > 1:
        found[CYCLE] = tuple(p for s in steps for p in found[s.entry(TURN)] * s.times)
    return found


def graphs_of(assembly: Assembly, entries: Collection[str] | None = None) -> dict[str, Graph]:
    """Return each entry's graph after the graph passes; of all entries, or of those named."""
    return {
        name: optimize(graph)
        for name, graph in assembly.graphs.items()
        if entries is None or name in entries
    }


def loops_of(assembly: Assembly, graphs: Mapping[str, Graph]) -> loops.Program:
    """Lower graphs to loops, and join the entries that consist of others."""
    sequences = sequences_of(assembly.turns)
    parts = {n: [p for p in found if p in graphs] for n, found in sequences.items()}
    options = LowerOptions(sequences=parts)
    program = lower(assembly.model.name, graphs, list(assembly.layout.values()), options)
    return with_steps(program)


def repeated(entry: str) -> str:
    """Return what an entry is called that repeats ``entry``; itself where nothing repeats it."""
    kind, dot, step = entry.partition(".")
    return {TURN: "steps", CYCLE: "cycle"}.get(kind, kind) + dot + step


def with_steps(program: loops.Program) -> loops.Program:
    """Replace each entry ``turn`` by ``steps``, which repeats it, and ``round`` by ``cycle``."""
    entries = list(program.entries)
    for k, entry in enumerate(entries):
        name = repeated(entry.name)
        if name != entry.name:
            again = (*entry.steps, loops.Barrier())
            repeat = loops.Repeat("turn", Dim(TURNS).as_poly(), again)
            entries[k] = loops.Entry(name, (*entry.dims, TURNS), (repeat,))
    if entries == list(program.entries):
        return program
    return replace(program, dims=(*program.dims, TURNS), entries=tuple(entries))


def compile_model(
    model: Model, recipe: Recipe | None, backend: Backend, target: str, seed: int
) -> Compiled:
    """Compile a checked model, with its training where there is a recipe."""
    from nnc.passes.math import expand
    from nnc.runtime.manifest import Compiled

    with collector_paused():
        assembly = assemble(model, recipe)
        program = expand(loops_of(assembly, graphs_of(assembly)))
        code = backend.compile(program, {})
        return Compiled(manifest_of(assembly, program, recipe, target, seed), code)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Leave Python's cyclic garbage be for a while.

    Graphs and loops are many small objects that live as long as compilation does and refer to
    older ones only: looking through them again and again takes a tenth of a deep model's time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def manifest_of(
    assembly: Assembly, program: loops.Program, recipe: Recipe | None, target: str, seed: int
) -> Manifest:
    """Gather what running the program needs beside its code."""
    from nnc.passes.plan import live_ranges
    from nnc.runtime.manifest import Check, EntryInfo, Manifest, ParameterInfo

    model = assembly.model
    entries = {
        entry.name: EntryInfo(
            entry.name, live_ranges(program, entry.steps), used_buffers(entry.steps)
        )
        for entry in program.entries
    }
    return Manifest(
        name=model.name,
        target=target,
        precision=model.precision,
        dims=program.dims,
        batch=model.batch,
        ports=model.ports,
        outputs=tuple(
            (o.name, tuple(map(str, o.node.type.shape))) for o in model.inference.outputs
        ),
        parameters=tuple(ParameterInfo(p.path, p.type, p.trainable) for p in model.parameters),
        checks=tuple(Check(r.message, condition_of(r)) for r in model.requirements),
        buffers=tuple(b for b in program.buffers),
        entries=entries,
        sites=program.sites,
        summaries=assembly.summaries,
        turns=assembly.turns,
        seed=seed,
        settings=plain_settings(recipe.settings) if recipe is not None else {},
        made_of=made_of(assembly) if assembly.turns else {},
    )


def made_of(assembly: Assembly) -> dict[str, str]:
    """Return digests of what the bits of training depend on, by what a user would call it."""
    parts = {
        "the model": ("gradient", "evaluate", "finish"),
        "the optimizer": ("update", "reset", "average"),
    }
    found: dict[str, str] = {}
    for name, kinds in parts.items():
        graphs = [g for e, g in assembly.graphs.items() if e.partition(".")[0] in kinds]
        texts = [repr(assembly.turns), *map(print_graph, graphs)]
        found[name] = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return found


def condition_of(requirement: Requirement) -> Expr:
    """Return what a requirement asks, as an expression over sizes."""
    form = requirement.value.op
    assert isinstance(form, Form), "a requirement is one scalar form of positions"
    return form.body


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings of a recipe that are plain values."""
    return {k: v for k, v in settings.items() if isinstance(v, int | float | str | bool | dict)}


def used_buffers(steps: Sequence[loops.Step]) -> frozenset[str]:
    """Names of the buffers that some launch of ``steps`` is given."""
    found: set[str] = set()
    for step in steps:
        match step:
            case loops.Launch():
                found.update(step.views)
            case loops.Repeat():
                found |= used_buffers(step.steps)
            case loops.When():
                found |= used_buffers(step.steps) | used_buffers(step.otherwise)
            case loops.Barrier():
                pass
    return frozenset(found)
