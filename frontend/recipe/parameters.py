"""Keys of a train block that choose parameters by pattern: freeze, optimizer, regularize."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from nnc.frontend import ast
from nnc.frontend.edits import replacing
from nnc.frontend.elaborate.calls import apply, evaluate_arguments, parameters_of, resolve
from nnc.frontend.elaborate.convert import Operand, to_node
from nnc.frontend.elaborate.faults import Cascade, Fault, fault
from nnc.frontend.elaborate.parameters import Arguments
from nnc.frontend.elaborate.values import Tensor, describe, is_poisoned
from nnc.frontend.names import nearest
from nnc.frontend.optimizers import Choice, Updates, chosen
from nnc.frontend.patterns import fits
from nnc.frontend.recipe.keys import Given, Key
from nnc.ir import build
from nnc.ir.graph import Node
from nnc.ir.model import Parameter, Update
from nnc.ir.span import Span


def trainable(given: Given) -> list[Parameter]:
    """Return the parameters that the model trains."""
    return [p for p in given.model.parameters if p.trainable]


def fitting(pattern: str, span: Span, among: Sequence[Parameter]) -> list[Parameter]:
    """Return the parameters that a pattern fits. Raises Fault where there are none."""
    found = [p for p in among if fits(pattern, p.path)]
    if not found:
        paths = [p.path for p in among]
        if not paths:
            raise Cascade()
        meant = f"{pattern}.**"
        hint = f'write "{meant}" for all that it holds'
        if not any(path.startswith(f"{pattern}.") for path in paths):
            meant = nearest(pattern, [*paths, *_holders(paths)]) or ""
            hint = f'did you mean "{meant}"?'
        fix = replacing(span, f'"{meant}"') if meant else None
        listed = ", ".join(paths[:8]) + (", ..." if len(paths) > 8 else "")
        raise fault("E0406", f'the pattern "{pattern}" fits no parameter', span,
                    notes=[f"there are {listed}"], hint=hint if fix else None, fix=fix)  # fmt: skip
    return found


def _holders(paths: Iterable[str]) -> list[str]:
    """Return the patterns that fit all that an instance holds, for every instance."""
    parts = [path.split(".") for path in paths]
    found = [".".join(p[:k]) for p in parts for k in range(1, len(p))]
    return [f"{holder}.{end}" for holder in found for end in ("*", "**")]


def by_pattern(expr: ast.Expr) -> list[tuple[str, Span, ast.Expr]]:
    """Return (pattern, place, value) of a record; a plain value stands for all paths."""
    if not isinstance(expr, ast.Record):
        return [("**", expr.span, expr)]
    rows = []
    for entry in expr.entries:
        key = entry.key
        text = key.text if isinstance(key, ast.Ident) else key.value
        rows.append((text, key.span, entry.value))
    return rows


def freeze(given: Given) -> set[str]:
    """Return the paths of what is frozen."""
    expr = given.expr
    patterns = expr.items if isinstance(expr, ast.List | ast.Tuple) else (expr,)
    paths: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, ast.String):
            raise fault("E0403", f"freeze is {given.key.accepts}",
                        pattern.span, hint='freeze = "encoder.**"')  # fmt: skip
        among = given.model.parameters
        paths |= {p.path for p in fitting(pattern.value, pattern.span, among)}
    return paths


# optimizers ---------------------------------------------------------------------------------------


def optimizer(given: Given) -> tuple[Update, ...]:
    """Return the update of every parameter that is trained."""
    return updates_of(given, trainable(given))


def updates_of(given: Given, moved: Sequence[Parameter]) -> tuple[Update, ...]:
    """Return the update of each of the parameters ``moved``."""
    rows: list[tuple[str, Choice | None]] = []
    among = list(moved) or list(given.model.parameters)
    for pattern, place, value in by_pattern(given.expr):
        choice: Choice | None = None
        try:
            choice = chosen(given.elab, given.elab.rule(value, given.scope), value.span)
            fitting(pattern, place, among)
        except Fault as error:
            given.elab.report(error)
        rows.append((pattern, choice))
    updates: list[Update] = []
    left: list[str] = []
    maker = Updates(given.elab)
    for parameter in moved:
        row = next((r for r in rows if fits(r[0], parameter.path)), None)
        if row is None:
            left.append(parameter.path)
        elif row[1] is not None:
            updates += _update(given, maker, row[1], parameter)
    if left:
        raise fault("E0407", f"no pattern fits {', '.join(left[:8])}", given.expr.span,
                    "these would have no optimizer",
                    hint='let the last pattern be "**", or name them in freeze')  # fmt: skip
    return tuple(updates)


def _update(given: Given, maker: Updates, choice: Choice, parameter: Parameter) -> list[Update]:
    try:
        return [maker.of(choice, parameter)]
    except Fault as error:
        given.elab.report(error)
        return []


# regularisation -----------------------------------------------------------------------------------


def regularize(given: Given) -> Node | None:
    """Return the sum of what ``regularize`` adds to the loss."""
    total: Node | None = None
    for pattern, place, value in by_pattern(given.expr):
        for parameter in fitting(pattern, place, trainable(given)):
            node = _penalty(given, value, parameter)
            total = node if total is None else build.elementwise("add", total, node)
    return total


def _penalty(given: Given, expr: ast.Expr, parameter: Parameter) -> Node:
    elab, scope = given.elab, given.scope
    w = elab.leaf("state", parameter.path, parameter.type, parameter.span)
    operand = Operand(Tensor(w), expr.span, parameter.path)
    func = expr.func if isinstance(expr, ast.Call) else expr
    arguments = Arguments()
    callee = resolve(elab, scope, func)
    if isinstance(expr, ast.Call):
        params = parameters_of(callee)[1:]
        arguments = evaluate_arguments(elab, scope, expr, params)
    arguments = replace(arguments, positional=(operand, *arguments.positional))
    value = apply(elab, scope, callee, arguments, expr, None)
    if is_poisoned(value):
        raise Cascade
    if isinstance(value, Tensor) and value.shape:
        raise fault("E0403", "what regularize adds to the loss is one number", expr.span,
                    f"for {parameter.path} this is {describe(value)}",
                    hint="sum it: fn ridge(w: float[..s]) -> float = sum(w^2)")  # fmt: skip
    return to_node(elab, Operand(value, expr.span), given.model.precision, ())


ROWS = (
    Key("optimizer", "an optimizer, or optimizers by pattern", optimizer, of_model=True),
    Key("regularize", "a penalty, or penalties by pattern", regularize, of_model=True),
    Key("freeze", "a pattern of paths, or a list of them", freeze, of_model=True),
)
