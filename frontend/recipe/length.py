"""Keys of a train block about how training ends and what it keeps: early_stop, checkpoint."""

from __future__ import annotations

from typing import Any

from nnc.frontend import ast
from nnc.frontend.edits import Fix
from nnc.frontend.elaborate.faults import did_you_mean, fault
from nnc.frontend.elaborate.values import Float, Int, describe
from nnc.frontend.recipe.keys import Given, Key
from nnc.frontend.recipe.plain import COUNT, count, positive

MODES = ("min", "max")


def fields(given: Given, rows: tuple[Key, ...]) -> dict[str, Any]:
    """Return what a record holds, checked by ``rows``. Raises Fault."""
    assert isinstance(given.expr, ast.Record)
    table = {row.name: row for row in rows}
    found: dict[str, Any] = {}
    for entry in given.expr.entries:
        name = entry.key.text if isinstance(entry.key, ast.Ident) else entry.key.value
        row = table.get(name)
        if row is None:
            hint, fix = did_you_mean(name, table, entry.key.span)
            raise fault("E0401", f"{given.key.name} has no key {name}", entry.key.span, "unknown",
                        notes=[f"the keys are {', '.join(table)}"], hint=hint, fix=fix)  # fmt: skip
        if name in found:
            message = f"{name} is given twice"
            raise fault("E0402", message, entry.key.span, "the second")
        found[name] = row.check(Given(row, entry.value, given.elab, given.scope, given.known))
    return found


def word(given: Given) -> str | None:
    """Return a value that is a name or a text; None for anything else."""
    match given.expr:
        case ast.Name(id):
            return id
        case ast.String(value):
            return value
    return None


def mode(given: Given) -> str:
    """Return whether less or more is better."""
    found = word(given)
    if found in MODES:
        return found
    raise fault("E0403", f"{given.key.name} is {given.key.accepts}", given.expr.span)


def measure(given: Given) -> str:
    """Return the name of a loss or metric of the model, or ``loss``, the sum of its losses."""
    here = given.model.inference
    known = ["loss", *(n.name for n in (*here.losses, *here.metrics) if n.name != "loss")]
    found = word(given)
    if found in known:
        return found
    hint: str | None = None
    fix: Fix | None = None
    if found is not None:
        hint, fix = did_you_mean(found, known, given.expr.span)
    raise fault("E0403", f"{given.key.name} is a loss or metric of {given.model.name}",
                given.expr.span, notes=[f"there are {', '.join(known)}"],
                hint=hint, fix=fix)  # fmt: skip


def at_least_zero(given: Given) -> float:
    """Return a number of at least 0."""
    value = given.value()
    number = value.value if isinstance(value, Float) else None
    if isinstance(value, Int) and isinstance(value.size, int):
        number = float(value.size)
    if number is None or not number >= 0:
        raise given.wrong(value)
    return number


MEASURE = "a loss or metric of the model"
EARLY_STOP = (
    Key("patience", COUNT, count),
    Key("metric", MEASURE, measure),
    Key("min_delta", "a number, at least 0", at_least_zero),
    Key("mode", '"min" or "max"', mode),
)
CHECKPOINT = (
    Key("steps", COUNT, count),
    Key("epochs", COUNT, count),
    Key("minutes", "a number above 0", positive),
    Key("keep", COUNT, count),
    Key("best", MEASURE, measure),
    Key("mode", '"min" or "max"', mode),
)


def early_stop(given: Given) -> dict[str, Any]:
    """Return when to stop: ``patience`` epochs without a better ``metric``."""
    if not isinstance(given.expr, ast.Record):
        value = given.value()
        if isinstance(value, Int) and isinstance(value.size, int) and value.size >= 1:
            return _moded(given, {"patience": value.size, "metric": "loss"}, "metric")
        raise given.wrong(value)
    found = fields(given, EARLY_STOP)
    if "patience" not in found:
        raise fault("E0403", "early_stop lacks its patience", given.expr.span,
                    "how many epochs to wait for a better one",
                    hint="early_stop = { patience = 5 }")  # fmt: skip
    return _moded(given, {"metric": "loss", **found}, "metric")


def checkpoint(given: Given) -> dict[str, Any]:
    """Return how often to save, and what to keep of what was saved."""
    if not isinstance(given.expr, ast.Record):
        value = given.elab.evaluate(given.expr, given.scope)
        message = f"checkpoint is {given.key.accepts}"
        raise fault("E0403", message, given.expr.span, f"this is {describe(value)}",
                    hint="checkpoint = { epochs = 1, keep = 3 }")  # fmt: skip
    found = fields(given, CHECKPOINT)
    if not found.keys() & {"steps", "epochs", "minutes"}:
        raise fault("E0403", "checkpoint does not say how often", given.expr.span,
                    hint="checkpoint = { epochs = 1 }, or steps, or minutes")  # fmt: skip
    return _moded(given, found, "best") if "best" in found else found


def _moded(given: Given, found: dict[str, Any], name: str) -> dict[str, Any]:
    """Add whether less or more is better, where that is not said: less of a loss."""
    losses = {"loss", *(n.name for n in given.model.inference.losses)}
    return {**found, "mode": found.get("mode", "min" if found[name] in losses else "max")}


ROWS = (
    Key("early_stop", "a number of epochs, or { patience = 5, metric = accuracy }", early_stop,
        of_model=True),
    Key("checkpoint", "a record: { epochs = 1, keep = 3 }", checkpoint, of_model=True),
)  # fmt: skip
