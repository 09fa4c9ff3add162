"""Names in reach, and the body of the program that they stand in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from nnc.frontend import ast
from nnc.frontend.elaborate.faults import Cascade, Fault, did_you_mean, fault
from nnc.frontend.elaborate.values import (
    BuiltinValue,
    ConstantSchedule,
    Element,
    FunctionValue,
    Instance,
    LayerValue,
    OptimizerValue,
    Poison,
    ScheduleValue,
    Value,
)
from nnc.ir.graph import Node
from nnc.ir.index import Size
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.model import ModelBuilder

Kind = Literal["value", "dim", "config", "index", "buffer", "declaration"]
Owner = Literal["file", "model", "layer", "fn", "optimizer", "schedule", "test"]
CALLABLE = (
    BuiltinValue, FunctionValue, LayerValue, Instance, ScheduleValue, ConstantSchedule,
    OptimizerValue, Poison,
)  # fmt: skip
RULES = (ScheduleValue, ConstantSchedule, OptimizerValue)


@dataclass(frozen=True, slots=True)
class Binding:
    """What a name stands for. Only a ``value`` may be bound again."""

    value: Value
    span: Span | None
    kind: Kind = "value"


class Box(Protocol):
    """The index notation around an expression: its index variables, operands and guards."""

    def read(self, node: Node, index: tuple[Size, ...]) -> Element:
        """Return the element of ``node`` at ``index``, which is known to lie inside."""
        ...

    def assuming(self, condition: Element, holds: bool) -> Box:
        """Return this box for an expression that is used only where ``condition`` (not) holds."""
        ...


@dataclass(slots=True)
class Body:
    """The body being run.

    ``path`` begins the names of the parameters declared in it (None where there can be none) and
    ``trace`` tells the applications that led here, which random numbers are keyed by; both are
    dotted. ``sites`` names each call in it. ``loops`` are the indices of the ``repeat``s around
    the statement being run. ``yields`` collects the yields of the innermost of them. ``result``
    is the declared type of each result. ``state`` runs the declarations of an optimizer's state,
    ``model`` those of a model's ports and results; where they are None there can be none. ``types``
    are the element types that the words ``any`` and ``int`` of its header stand for.
    """

    owner: str
    kind: Owner
    path: str | None
    trace: str
    sites: Mapping[ast.Node, str] = field(default_factory=dict)
    loops: tuple[int, ...] = ()
    yields: list[Value] | None = None
    result: tuple[ast.TypeExpr, ...] = ()
    state: Callable[[ast.StateDecl, Scope], Value] | None = None
    model: ModelBuilder | None = None
    types: dict[str, DType] = field(default_factory=dict)

    def place(self, name: str) -> str:
        """Return ``name`` with the indices of the loops around it."""
        return ".".join([name, *map(str, self.loops)])

    def path_of(self, name: str) -> str | None:
        """Return the parameter path of ``name`` in this body."""
        if self.path is None:
            return None
        return f"{self.path}.{self.place(name)}" if self.path else self.place(name)

    def trace_of(self, name: str) -> str:
        """Return the trace of the application called ``name`` in this body."""
        return f"{self.trace}.{self.place(name)}" if self.trace else self.place(name)


@dataclass(slots=True, eq=False)
class Scope:
    """Names by text, and the scope around them: body, file, imports, library, primitives.

    ``rules`` are the schedules and optimizers that are declared: they have names of their own, so
    that a schedule may be called ``linear`` as a layer is. ``opened`` are the files imported whole.
    A scope is ``incomplete`` where an import failed, so that a name that is not found may not be
    the program's fault.
    """

    body: Body
    parent: Scope | None = None
    names: dict[str, Binding] = field(default_factory=dict)
    rules: dict[str, Binding] = field(default_factory=dict)
    box: Box | None = None
    opened: list[Scope] = field(default_factory=list)
    inner: bool = False
    incomplete: bool = False

    def find(self, name: str) -> Binding | None:
        """Look a name up here, in what is imported whole here, then further out."""
        for scope in self._chain():
            found = scope.names.get(name)
            if found is not None:
                return found
        return self.find_rule(name)

    def find_callable(self, name: str) -> Binding | None:
        """Look a name up that is called: what cannot be called does not hide what can."""
        for scope in self._chain():
            found = scope.names.get(name)
            if found is not None and isinstance(found.value, CALLABLE):
                return found
        return self.find_rule(name)

    def find_rule(self, name: str) -> Binding | None:
        """Look a name up where a schedule or an optimizer is declared."""
        for scope in self._chain():
            bound = scope.names.get(name)
            found = bound if bound is not None and isinstance(bound.value, RULES) else None
            found = found or scope.rules.get(name)
            if found is not None:
                return found
        return None

    def _chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            yield from scope.opened
            scope = scope.parent

    def bind(self, name: ast.Ident, value: Value, kind: Kind = "value") -> None:
        """Bind a name where the statement stands; what may not be bound again raises Fault."""
        home = self.home
        old = home.names.get(name.text)
        if old is not None and old.kind in ("dim", "config", "index") and kind != old.kind:
            what = {"dim": "a dim", "config": "config", "index": "a loop variable"}[old.kind]
            raise fault(
                "E0216",
                f"{name.text} is {what}, which cannot be bound again",
                name.span,
                "bound again here",
                related=[(old.span, "bound here")],
                hint="give the new value another name",
            )
        home.names[name.text] = Binding(value, name.span, kind)

    @property
    def home(self) -> Scope:
        """The scope that statements bind names in: this one, or what a notation stands in."""
        scope = self
        while (
            scope.box is not None and scope.parent is not None and scope.body is scope.parent.body
        ):
            scope = scope.parent
        return scope

    def inside(self, box: Box | None, names: Mapping[str, Binding] | None = None) -> Scope:
        """Return a scope around an expression of index notation, with its index variables."""
        return Scope(self.body, self, dict(names or {}), box=box, inner=True)

    def declared(self) -> list[str]:
        """The names that are bound right here."""
        return [*self.names, *self.rules]

    def known(self) -> list[str]:
        """Every name in reach."""
        return [name for scope in self._chain() for name in scope.declared()]

    def unknown(self, name: str, span: Span, what: str = "name") -> Fault:
        """Return the fault for a name that is not bound."""
        if any(scope.incomplete for scope in self._chain()):
            return Cascade()
        hint, fix = did_you_mean(name, self.known(), span)
        return fault("E0201", f"unknown {what} {name}", span, "not bound here", hint=hint, fix=fix)
