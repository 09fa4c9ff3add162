"""A key of a train block as a row of a table: its name, what it accepts, and its check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nnc.frontend import ast
from nnc.frontend.elaborate.elaborator import Elaborator
from nnc.frontend.elaborate.faults import Cascade, Fault, fault
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.values import Value, describe, is_poisoned
from nnc.ir.model import Model


@dataclass(frozen=True, slots=True)
class Key:
    """One key. ``accepts`` ends the sentence "KEY is ..." of errors.

    ``check`` returns what the recipe is to hold, and raises Fault. Keys ``of_model`` are checked
    when the model is known; the others before, since the model may depend on them.
    """

    name: str
    accepts: str
    check: Callable[[Given], Any]
    of_model: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """A key with the value that a train block gives it, and where that value is evaluated."""

    key: Key
    expr: ast.Expr
    elab: Elaborator
    scope: Scope
    known: Model | None = None

    @property
    def model(self) -> Model:
        """The model, for keys that are checked with it."""
        assert self.known is not None, f"the key {self.key.name} does not say that it needs a model"
        return self.known

    def value(self) -> Value:
        """Return the value of a key that takes one. Raises Fault for a record."""
        if isinstance(self.expr, ast.Record):
            message = f"a record for {self.key.name} cannot be used yet"
            raise fault("E0404", message, self.expr.span)
        return self.elab.evaluate(self.expr, self.scope)

    def wrong(self, value: Value) -> Fault:
        """Return the fault of a value that the key does not accept."""
        if is_poisoned(value):
            return Cascade()
        message = f"{self.key.name} is {self.key.accepts}"
        return fault("E0403", message, self.expr.span, f"this is {describe(value)}")
