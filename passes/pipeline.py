"""The passes over the graph, in their order. Each is a pure function from graph to graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from nnc.ir.graph import Graph, Node, Rebuilder, Scan, with_inputs
from nnc.passes.autodiff import erase
from nnc.passes.cse import cse
from nnc.passes.dce import DceOptions, dce
from nnc.passes.fold import FoldOptions, fold
from nnc.passes.loops import hoist
from nnc.passes.simplify import SimplifyOptions, simplify, simplify_node
from nnc.passes.solve import solve

Observer: TypeAlias = "Callable[[str, Graph, float], None]"
"""Called after each pass with its name, its result, and the seconds it took."""


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """What the passes do.

    With ``verify`` the graph is checked at entry and after each pass (``VerifyError``).
    """

    simplify: SimplifyOptions = field(default_factory=SimplifyOptions)
    fold: FoldOptions = field(default_factory=FoldOptions)
    dce: DceOptions = field(default_factory=DceOptions)
    verify: bool = False


@dataclass(frozen=True, slots=True)
class Pass:
    """A step of the pipeline, and the reason why it stands where it stands."""

    name: str
    run: Callable[[Graph, GraphOptions], Graph]
    reason: str


def erase_gradients(graph: Graph) -> Graph:
    """Return ``graph`` without what only derivatives need."""
    return Rebuilder(erase)(graph)


def hoist_loops(graph: Graph, options: GraphOptions) -> Graph:
    """Return ``graph`` with what need not be in loops outside them."""
    if not any(isinstance(node.op, Scan) for node in graph.nodes()):
        return graph
    return simplify(hoist(graph), options.simplify)


def solve_scatters(graph: Graph) -> Graph:
    """Return ``graph`` with each scatter given one owner per element, where possible."""

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = with_inputs(node, inputs)
        solved = solve(node, graph.facts)
        # The new axes may be of extent 1, and the new guards say nothing.
        return node if solved is node else simplify_node(solved, graph.facts)

    return Rebuilder(change)(graph)


PIPELINE: tuple[Pass, ...] = (
    Pass("dce", lambda g, o: dce(g, o.dce), "what nobody asks for needs no work"),
    Pass("erase", lambda g, o: erase_gradients(g), "no more derivatives are taken"),
    Pass("fold", lambda g, o: fold(g, o.fold), "constants make conditions plain"),
    Pass("simplify", lambda g, o: simplify(g, o.simplify), "equal forms then look equal"),
    Pass("hoist", hoist_loops, "knows loops by what their plain forms read"),
    Pass("solve", lambda g, o: solve_scatters(g), "sees guards that simplify has settled"),
    Pass("cse", lambda g, o: cse(g), "last: derivatives and solved scatters repeat forms"),
)


def optimize(
    graph: Graph, options: GraphOptions | None = None, observe: Observer | None = None
) -> Graph:
    """Return an equal graph, ready for fusion.

    Derivatives must have been taken: what only they need is erased. Raises VerifyError where
    ``options.verify`` finds a malformed graph.
    """
    options = options or GraphOptions()
    _verify(graph, options)
    for step in PIPELINE:
        start = time.perf_counter()
        graph = step.run(graph, options)
        if observe is not None:
            observe(step.name, graph, time.perf_counter() - start)
        _verify(graph, options)
    return graph


def _verify(graph: Graph, options: GraphOptions) -> None:
    if options.verify:
        from nnc.ir.verify import verify

        verify(graph)


def print_after(*names: str, write: Callable[[str], object] = print) -> Observer:
    """Return an observer that writes the graph after each of the passes ``names``.

    Raises ValueError for a name that no pass has.
    """
    known = [step.name for step in PIPELINE]
    for name in names:
        if name not in known:
            raise ValueError(f"no pass {name!r}; the passes are {', '.join(known)}")

    def observer(name: str, graph: Graph, _: float) -> None:
        if name in names:
            from nnc.ir.text import print_graph

            write(f"# after {name}\n{print_graph(graph)}")

    return observer


def time_passes(write: Callable[[str], object] = print) -> Observer:
    """Return an observer that writes how long each pass took, and how many nodes it left."""

    def observer(name: str, graph: Graph, seconds: float) -> None:
        write(f"{name:<10} {1e3 * seconds:9.2f} ms  {len(graph.nodes()):6} nodes")

    return observer


def together(*observers: Observer) -> Observer:
    """Return an observer that calls each of ``observers``."""

    def observer(name: str, graph: Graph, seconds: float) -> None:
        for each in observers:
            each(name, graph, seconds)

    return observer
