"""The state of one elaboration, and the way into it for the other parts of the frontend."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from nnc.frontend import ast
from nnc.frontend.diagnostics import Diagnostics
from nnc.frontend.elaborate.convert import Operand, to_node
from nnc.frontend.elaborate.faults import Cascade, Fault, fault
from nnc.frontend.elaborate.scope import Body, Scope
from nnc.frontend.elaborate.values import Value, describe, is_poisoned
from nnc.frontend.library import LIBRARY
from nnc.ir import build
from nnc.ir.graph import Node
from nnc.ir.index import Size
from nnc.ir.model import Named, Parameter, Requirement
from nnc.ir.prove import Facts
from nnc.ir.span import Span
from nnc.ir.types import DType, TensorType

DEEPEST = 100
"""Applications inside one another before the elaborator takes them to be endless."""
MOST_STEPS = 10_000
"""Applications and turns of repeats in all: more is a program that would never be done."""
MOST_ERRORS = 100
"""What has more errors is not read to its end."""
_PYTHON_FRAMES = 20_000


class Observer(Protocol):
    """Sees what names and expressions stand for, and changes nothing."""

    def evaluated(self, expr: ast.Expr, scope: Scope, value: Value) -> None:
        """Take note that ``expr`` stood for ``value``."""
        ...

    def ran(self, statement: ast.Stmt, scope: Scope) -> None:
        """Take note of a statement whose names are bound now."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """An application being elaborated: of what, and where it is written."""

    name: str
    span: Span


@dataclass(slots=True)
class Elaborator:
    """One run over a program: what is known, what has been declared, what went wrong.

    ``facts`` grow with each ``require``. ``parameters`` are by path; ``current`` has the value of
    a parameter and of a buffer after the updates so far, and ``updates`` what it is to become.
    ``starting`` tells that a first value is being made, which is drawn once, not at each step;
    ``differentiating`` that a written gradient is. ``multiples`` are symbolic dims required to be
    a multiple of a number, and ``dividing`` the requirements that say so. ``frozen`` are the paths
    of instances whose parameters are all frozen: they run as at inference. ``probed`` has what
    layers and functions give that were applied only to see whether they fit, and ``copies`` the
    path of the original by that of each copy. ``turn`` numbers the turn of the scans around, None
    where there is none. ``observer`` is told what every expression stands for, for editors.
    """

    precision: DType
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    training: bool = False
    starting: bool = False
    differentiating: bool = False
    batch: str | None = None
    facts: Facts = field(default_factory=Facts)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    current: dict[str, Node] = field(default_factory=dict)
    updates: dict[str, Named] = field(default_factory=dict)
    places: dict[str, ast.Node] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    outside: Scope = field(default_factory=lambda: Scope(Body("", "file", None, "")))
    leaves: dict[tuple[str, str], Node] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)
    multiples: dict[str, int] = field(default_factory=dict)
    dividing: list[Requirement] = field(default_factory=list)
    turn: Size | None = None
    steps: int = 0
    taken: set[str] = field(default_factory=set)
    frozen: frozenset[str] = frozenset()
    site_tables: dict[ast.Node, dict[ast.Node, str]] = field(default_factory=dict)
    probed: dict[object, Value] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    observer: Observer | None = None

    # for the other parts of the frontend ----------------------------------------------------------

    def evaluate(
        self, expr: ast.Expr, scope: Scope, expected: Sequence[Size] | None = None
    ) -> Value:
        """Return what an expression stands for; ``expected`` is the shape it must fit, if known.

        Raises Fault where the expression is wrong.
        """
        from nnc.frontend.elaborate.expressions import evaluate

        shape = tuple(expected) if expected is not None else None
        value = evaluate(self, scope, expr, shape)
        if self.observer is not None:
            self.observer.evaluated(expr, scope, value)
        return value

    def operand(
        self, expr: ast.Expr, scope: Scope, expected: Sequence[Size] | None = None
    ) -> Operand:
        """Evaluate an expression that is part of another, keeping where its value comes from."""
        value = self.evaluate(expr, scope, expected)
        if isinstance(expr, ast.Name):
            binding = scope.find(expr.id)
            origin = binding.span if binding is not None else None
            return Operand(value, expr.span, expr.id, origin)
        return Operand(value, expr.span)

    def argument(self, expr: ast.Expr, scope: Scope, declared: ast.TypeExpr | None) -> Operand:
        """Evaluate what is given for a parameter of the type ``declared``."""
        if isinstance(declared, ast.TensorTypeExpr) and declared.name.text == "schedule":
            return Operand(self.rule(expr, scope), expr.span)
        return self.operand(expr, scope)

    def rule(self, expr: ast.Expr, scope: Scope) -> Value:
        """Evaluate what stands for a schedule or an optimizer: their names come first there."""
        from nnc.frontend.elaborate.calls import rule

        return rule(self, scope, expr)

    def node(
        self,
        value: Value,
        span: Span,
        dtype: DType | None = None,
        shape: Sequence[Size] | None = None,
    ) -> Node:
        """Return a value as a tensor; raise Fault where it is none, or not of type and shape."""
        return to_node(self, Operand(value, span), dtype, shape)

    def leaf(self, space: str, name: str, type: TensorType, span: Span | None = None) -> Node:
        """Return the one leaf node of that space and name."""
        found = self.leaves.get((space, name))
        if found is None or found.type != type:
            found = build.leaf(space, name, type, span)
            self.leaves[(space, name)] = found
        return found

    def unique(self, name: str) -> str:
        """Return ``name``, with a number where it has been returned before."""
        found, k = name, 2
        while found in self.taken:
            found, k = f"{name}_{k}", k + 1
        self.taken.add(found)
        return found

    def report(self, error: Fault) -> None:
        """Record what a Fault says, with the calls that led to it."""
        if isinstance(error, Cascade):
            return
        self._trace(error)
        self.diagnostics.add(error.diagnostic)
        if len(self.diagnostics) >= MOST_ERRORS:
            self.diagnostics.check()

    def _trace(self, error: Fault) -> None:
        """Add to a fault where what it stands in is applied, once, where it comes up."""
        span = error.diagnostic.span
        if error.traced or span is None:
            return
        error.traced = True
        calls = [f for f in self.frames if not covers(f.span, span)]
        nearby = [f for f in calls[-1:] if f.span.file == span.file]
        outer = [f for f in calls if f.span.file != span.file][-1:]
        own = [f for f in calls if not f.span.file.startswith(LIBRARY)][-1:]
        uses = [(f.span, f"in this use of {f.name}") for f in (*nearby, *outer, *own)]
        d = error.diagnostic
        if span.file.startswith(LIBRARY) and own:  # the user's line comes first
            place, use = (own[0].span, f"in this use of {own[0].name}")
            others = dict.fromkeys(u for u in uses if u[0] != place)
            inside = ((span, d.label), *d.related)
            error.diagnostic = replace(d, span=place, label=use, related=(*inside, *others))
            return
        error.diagnostic = replace(d, related=(*d.related, *dict.fromkeys(uses)))

    @contextmanager
    def applying(self, name: str, span: Span) -> Iterator[None]:
        """Stand inside an application; raise Fault where they are nested too deeply."""
        if len(self.frames) >= DEEPEST:
            chain = [f.name for f in self.frames[-6:]]
            raise fault(
                "E0219",
                f"{name} is applied inside itself without an end",
                span,
                f"{DEEPEST} applications deep here",
                notes=["the innermost are " + " in ".join(reversed(chain))],
                hint="let config end the recursion: if depth == 0 { return x }",
            )
        self.spend(span)
        self.frames.append(Frame(name, span))
        try:
            yield
        except Fault as error:
            self._trace(error)
            raise
        finally:
            self.frames.pop()

    @contextmanager
    def running(self, path: str | None) -> Iterator[None]:
        """Stand inside the body of the instance at ``path``."""
        before = self.training
        copied = path is not None and self.original(path) != path
        self.training = before and path not in self.frozen and not copied
        try:
            yield
        finally:
            self.training = before

    def original(self, path: str) -> str:
        """Return the path that is copied to ``path``, itself where that lies in no copy."""
        for copy, origin in self.copies.items():
            if path == copy or path.startswith(f"{copy}."):
                return self.original(origin + path[len(copy) :])
        return path

    @property
    def exhausted(self) -> bool:
        """Whether the program was given up, as one that would never be done."""
        return self.steps > MOST_STEPS

    def spend(self, span: Span) -> None:
        """Count an application or a turn of a repeat; raise Fault where there are too many."""
        self.steps += 1
        if self.exhausted and self.steps > MOST_STEPS + 1:
            raise Cascade()
        if self.exhausted:
            raise fault(
                "E0219",
                f"the program is not done after {MOST_STEPS} applications and repeats",
                span,
                "given up here",
                hint="applications that double at each level grow without bound",
            )

    def claim(self, path: str, site: ast.Node, span: Span) -> None:
        """Take a path for what ``site`` declares; raise Fault where something else has it."""
        other = self.places.setdefault(path, site)
        if other is not site:
            raise fault(
                "E0215",
                f"two things would both be called {path}",
                span,
                "the second",
                related=[(other.span, "the first")],
                hint="bind one of them to another name",
            )


@contextmanager
def deep_python() -> Iterator[None]:
    """Allow the recursion that deeply nested programs need."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _PYTHON_FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def covers(outer: Span, inner: Span) -> bool:
    """Whether a span holds another one."""
    same = outer.file == inner.file
    return same and outer.start <= inner.start and inner.end <= outer.end


def later(what: str, span: Span) -> Fault:
    """Return the fault for a construct of the language that this compiler does not have yet."""
    return fault(
        "E0220",
        f"{what} cannot be compiled yet",
        span,
        "part of the language, but not of this version of the compiler",
    )


def wrong_value(what: str, value: Value, span: Span, hint: str | None = None) -> Fault:
    """Return the fault for a value of the wrong kind: ``what`` is needed."""
    if is_poisoned(value):
        return Cascade()
    return fault("E0202", f"{what} is needed here", span, f"this is {describe(value)}", hint=hint)
