"""``nnc inspect``: a model as it stands between any two steps of its compilation."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnc.ir import loops
from nnc.ir.graph import Graph
from nnc.ir.loops_text import print_program
from nnc.ir.text import print_graph
from nnc.passes.lower import fused_text
from nnc.passes.math import expand
from nnc.passes.pipeline import PIPELINE, optimize
from nnc.runtime.assemble import Assembly, assemble
from nnc.runtime.compile import OPTIONAL, graphs_of, loops_of, repeated, sequences_of
from nnc.runtime.errors import UserError, nearest
from nnc.runtime.open import Opened, backend_for, open_file, reading
from nnc.runtime.report import table

STAGES = ("ast", "graph", "fused", "loops", "llvm", "asm")
FIRST, LOWERED, LAST = "assemble", "lower", "expand"
"""What stands before the passes over the graph and after them, by the names of their results."""
PASSES = (FIRST, *(step.name for step in PIPELINE), LOWERED, LAST)


def inspect(
    file: Path,
    *,
    stage: str,
    entry: str | None,
    print_after: str | None,
    time_passes: bool,
    config: Mapping[str, Any],
    model: str | None,
    recipe: str | None,
) -> None:
    """Print ``file`` at a stage; or after a pass, or how long each pass took.

    ``entry`` keeps one entry of the program. Raises UserError for a stage, entry or pass that
    there is not, SourceError for a fault of the file.
    """
    _known(print_after, PASSES, "E0650", "pass")
    _check_stage(stage)
    if stage == "ast" and print_after is None and not time_passes:
        sys.stdout.write(tree_text(file))
        return
    began = time.perf_counter()
    opened = open_file(file, config, model=model, recipe=recipe)
    way = Way(opened, entry)
    way.times.append(("", "check", time.perf_counter() - began, ""))
    if print_after is not None:
        sys.stdout.write(way.after(print_after))
    if time_passes:
        sys.stdout.write(way.timed())
    if print_after is None and not time_passes:
        sys.stdout.write(way.text(stage))


def tree_text(file: Path) -> str:
    """Return the text of a file's syntax tree. Nothing is checked but its syntax."""
    from nnc.frontend.elaborate.model import read_source
    from nnc.frontend.parser import parse
    from nnc.frontend.tree_text import print_tree

    with reading(file):
        return print_tree(parse(read_source(file)[0]))


@dataclass
class Way:
    """The way of one checked file through the compiler, timed."""

    opened: Opened
    entry: str | None
    times: list[tuple[str, str, float, str]] = field(default_factory=list)
    """Entry (or nothing), step, seconds, and how large the result was."""
    made: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The entries without a graph of their own, and those that they run."""

    def text(self, stage: str) -> str:
        """Return the text of one of the stages from ``graph`` on."""
        match stage:
            case "graph":
                return self._graphs_text(graphs_of(self._assembly()))
            case "fused":
                assembly = self._assembly()
                graphs = self._chosen(graphs_of(assembly))
                return fused_text(graphs, list(assembly.layout.values()))
            case "loops":
                return print_program(self._program())
            case "llvm":
                return str(backend_for("cpu").text(self._program()))
            case _:
                return str(backend_for("cpu").assembly(self._program()))

    def after(self, name: str) -> str:
        """Return the text of what the pass ``name`` made of each entry, or of the program."""
        assembly = self._assembly()
        if name == FIRST:
            return self._graphs_text(assembly.graphs)
        if name in (LOWERED, LAST):
            return print_program(self._program(assembly, until=name))
        texts: list[str] = []

        def observe(passed: str, graph: Graph, _: float) -> None:
            if passed == name:
                texts.append(print_graph(graph))

        for graph in self._chosen(assembly.graphs).values():
            optimize(graph, observe=observe)
        return "\n".join(texts)

    def timed(self) -> str:
        """Compile up to LLVM's text; return how long each step took."""
        program = self._program()
        with self._clock("", "emit") as size:
            text = backend_for("cpu").text(program)
            size.append(f"{text.count(chr(10))} lines")
        rows = [(e, name, f"{1e3 * s:.2f} ms", size) for e, name, s, size in self.times]
        total = sum(s for _, _, s, _ in self.times)
        return table([*rows, ("", "in all", f"{1e3 * total:.2f} ms", "")], frozenset({2, 3})) + "\n"

    # steps ----------------------------------------------------------------------------------

    def _assembly(self) -> Assembly:
        with self._clock("", FIRST) as size:
            assembly = assemble(self.opened.model, self.opened.recipe)
            size.append(f"{sum(len(g.nodes()) for g in assembly.graphs.values())} nodes")
        self.made = _made(assembly)
        known = [*assembly.graphs, *self.made]
        _known(self.entry, known, "E0649", "entry")
        return assembly

    def _program(self, assembly: Assembly | None = None, until: str = LAST) -> loops.Program:
        assembly = assembly or self._assembly()
        graphs = {e: optimize(g, observe=self._observer(e)) for e, g in assembly.graphs.items()}
        with self._clock("", LOWERED) as size:
            program = loops_of(assembly, graphs)
            size.append(f"{len(program.kernels)} kernels")
        if self.entry is not None:
            program = only(program, self.entry)
        if until == LOWERED:
            return program
        with self._clock("", LAST):
            return expand(program)

    def _observer(self, entry: str) -> Callable[[str, Graph, float], None]:
        def observe(name: str, graph: Graph, seconds: float) -> None:
            self.times.append((entry, name, seconds, f"{len(graph.nodes())} nodes"))

        return observe

    @contextmanager
    def _clock(self, entry: str, name: str) -> Iterator[list[str]]:
        size: list[str] = []
        began = time.perf_counter()
        yield size
        self.times.append((entry, name, time.perf_counter() - began, "".join(size)))

    # choice ---------------------------------------------------------------------------------

    def _chosen(self, graphs: Mapping[str, Graph]) -> dict[str, Graph]:
        if self.entry is None:
            return dict(graphs)
        return {name: graphs[name] for name in self.made.get(self.entry, (self.entry,))}

    def _graphs_text(self, graphs: Mapping[str, Graph]) -> str:
        return "\n".join(print_graph(graph) for graph in self._chosen(graphs).values())


def only(program: loops.Program, entry: str) -> loops.Program:
    """Return ``program`` with one entry and the kernels that it launches."""
    kept = next(e for e in program.entries if e.name == entry)
    used = set(_launched(kept.steps))
    kernels = tuple(k for k in program.kernels if k.name in used)
    return replace(program, kernels=kernels, entries=(kept,))


def _launched(steps: Sequence[loops.Step]) -> Iterator[str]:
    for step in steps:
        match step:
            case loops.Launch():
                yield step.kernel
            case loops.Repeat():
                yield from _launched(step.steps)
            case loops.When():
                yield from _launched((*step.steps, *step.otherwise))
            case loops.Barrier():
                pass


def _made(assembly: Assembly) -> dict[str, Sequence[str]]:
    """The entries that run others, of those that this program has, and what they run."""
    found: dict[str, Sequence[str]] = {}
    for name, parts in sequences_of(assembly.turns).items():
        there = tuple(dict.fromkeys(p for p in parts if p in assembly.graphs))
        if set(parts) - set(there) <= OPTIONAL:
            found[repeated(name)] = there
    return found


def _check_stage(stage: str) -> None:
    if stage == "opencl":
        note = "this version compiles for the cpu only"
        raise UserError("E0648", "the stage 'opencl' is of a target that there is not", (note,))
    _known(stage, STAGES, "E0648", "stage")


def _known(name: str | None, known: Sequence[str], code: str, kind: str) -> None:
    if name is None or name in known:
        return
    guess = nearest(name, list(known))
    raise UserError(
        code,
        f"there is no {kind} '{name}'",
        (f"it is one of: {', '.join(known)}",),
        f"did you mean '{guess}'?" if guess else None,
    )
