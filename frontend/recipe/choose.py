"""Which train block of a file is meant, and the file opened with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnc.frontend import ast
from nnc.frontend.diagnostics import SourceError
from nnc.frontend.elaborate.faults import did_you_mean, fault
from nnc.frontend.elaborate.model import Program, elaborate_model, load, pick_model
from nnc.frontend.recipe.block import elaborate_recipe, train_name
from nnc.frontend.source import Source
from nnc.ir.model import Model, Recipe


def open_program(
    path_or_source: str | Path | Source,
    config: Mapping[str, Any] | None = None,
    model: str | None = None,
    recipe: str | None = None,
    precision: str | None = None,
    texts: Mapping[str, str] | None = None,
) -> tuple[Model, Recipe | None, Program]:
    """Check a file and return the model chosen, and its recipe if it has one.

    ``recipe`` is a train block's alias or the name of its model; without it the only train block
    of the model is taken. ``texts`` are read in the place of files (``load``). Raises SourceError
    with every diagnostic, OSError where the file cannot be read.
    """
    program = load(path_or_source, texts=texts)
    try:
        train = pick_train(program, model, recipe)
        if train is None:
            checked = elaborate_model(program, pick_model(program, model), config, precision)
            return checked, None, program
        made = elaborate_recipe(program, train, config, precision)
    except SourceError as error:
        error.sources = program.sources
        raise
    return made.model, made, program


def pick_train(program: Program, model: str | None, recipe: str | None) -> ast.Train | None:
    """Return the train block to use, None where the model has none. Raises SourceError."""
    trains = [item for item in program.file.items if isinstance(item, ast.Train)]
    names = [train_name(t) for t in trains]
    if recipe is not None:
        found = [t for t in trains if model is None or t.model.text == model]
        called = [t for t in found if train_name(t) == recipe]
        found = called or [t for t in found if t.model.text == recipe]
    else:
        found = [t for t in trains if model is None or t.model.text == model]
    if len(found) == 1:
        return found[0]
    if not found and recipe is None:
        return None
    program.diagnostics.check()
    if not found:
        hint, _ = did_you_mean(str(recipe), names, None)
        notes = [f"it has {', '.join(names)}"] if names else ["it has none"]
        error = fault(
            "E0412", f"the file has no train block {recipe}", None, hint=hint, notes=notes
        )
    else:
        listed = ", ".join(train_name(t) for t in found)
        error = fault("E0412", "several train blocks fit", None, notes=[f"choose one of {listed}"])
    raise SourceError([error.diagnostic])
