"""Derivatives of a model, with errors for what has none."""

from __future__ import annotations

from collections.abc import Sequence

from nnc.frontend.diagnostics import Diagnostic, SourceError
from nnc.ir.graph import Node
from nnc.ir.index import Size
from nnc.ir.model import Model, Recipe
from nnc.passes.autodiff import NotDifferentiable, gradients
from nnc.passes.derivatives import expand_model


def expanded(model: Model, recipe: Recipe | None) -> tuple[Model, Recipe | None]:
    """Return a model and its recipe with each ``grad`` computed. Raises SourceError."""
    try:
        return expand_model(model, recipe)
    except NotDifferentiable as fault:
        raise _error(fault, "this gradient") from None


def gradients_of(goal: Node, wrt: Sequence[Node], facts: tuple[Size, ...]) -> list[Node]:
    """Differentiate what training minimises. Raises SourceError for what has no derivative."""
    try:
        return gradients(goal, wrt, facts)
    except NotDifferentiable as fault:
        raise _error(fault, "the loss") from None


def _error(fault: NotDifferentiable, what: str) -> SourceError:
    error = Diagnostic(
        code="E0502",
        message=f"{what} cannot be differentiated through this",
        span=fault.node.span,
        label=str(fault),
        hint="stop_gradient(...) keeps the derivative from passing here",
    )
    return SourceError([error])
