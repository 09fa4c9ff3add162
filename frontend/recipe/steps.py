"""``step`` blocks, which take turns, and what a step minimises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nnc.frontend import ast
from nnc.frontend.elaborate.elaborator import Elaborator
from nnc.frontend.elaborate.faults import Fault, did_you_mean, fault
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.patterns import fits
from nnc.frontend.recipe.keys import Given, Key
from nnc.frontend.recipe.parameters import fitting, updates_of
from nnc.frontend.recipe.plain import COUNT, count, positive
from nnc.ir.graph import Leaf, Node, postorder, with_inputs
from nnc.ir.model import Model, Parameter, Step, Update


def minimize(given: Given) -> tuple[str, ...]:
    """Return the names of the losses that a step minimises the sum of."""
    names = [n.name for n in given.model.training.losses]
    expr = given.expr
    chosen: list[str] = []
    for item in expr.items if isinstance(expr, ast.Tuple | ast.List) else (expr,):
        if not isinstance(item, ast.Name):
            raise fault("E0403", f"minimize is {given.key.accepts}", item.span)
        if item.id not in names:
            hint, fix = did_you_mean(item.id, names, item.span)
            raise fault("E0414", f"the model {given.model.name} has no loss {item.id}", item.span,
                        notes=[f"it has {', '.join(names)}"] if names else (),
                        hint=hint, fix=fix)  # fmt: skip
        if item.id in chosen:
            raise fault("E0414", f"{item.id} is minimised twice", item.span, "the second")
        chosen.append(item.id)
    return tuple(chosen)


def over(given: Given) -> frozenset[str]:
    """Return the paths of the parameters and buffers that a step moves."""
    expr = given.expr
    paths: set[str] = set()
    for pattern in expr.items if isinstance(expr, ast.List | ast.Tuple) else (expr,):
        if not isinstance(pattern, ast.String):
            raise fault("E0403", f"over is {given.key.accepts}", pattern.span)
        fitting(pattern.value, pattern.span, given.model.parameters)
        paths |= {p.path for p in given.model.parameters if fits(pattern.value, p.path)}
    return frozenset(paths)


MINIMIZE = Key("minimize", "the name of a loss, or several", minimize, of_model=True)
ROWS = (MINIMIZE,)
KEYS: dict[str, Key] = {
    row.name: row
    for row in (
        MINIMIZE,
        Key("over", "a pattern of paths, or a list of them", over, of_model=True),
        Key("optimizer", "an optimizer, or optimizers by pattern", lambda g: g, of_model=True),
        Key("times", COUNT, count, of_model=True),
        Key("clip_norm", "a number above 0", positive, of_model=True),
    )
}
"""The keys of a step block."""


@dataclass(frozen=True, slots=True)
class Around:
    """What step blocks stand in: the recipe's model, and what its other keys say."""

    elab: Elaborator
    scope: Scope
    model: Model
    found: Mapping[str, Any]
    optimizer: ast.Setting | None

    @property
    def trained(self) -> list[Parameter]:
        """The parameters that are trained."""
        return [p for p in self.model.parameters if p.trainable]


def only_step(around: Around, updates: tuple[Update, ...]) -> tuple[Step, ...]:
    """Return the one step of a train block without step blocks."""
    losses = tuple(n.name for n in around.model.training.losses)
    chosen = around.found.get("minimize", losses)
    buffers = frozenset(u.name for u in around.model.training.updates)
    clip = around.found.get("clip_norm")
    return (Step("", chosen, updates, buffers, clip_norm=clip),)


def steps_of(around: Around, blocks: Sequence[ast.StepBlock]) -> tuple[Step, ...]:
    """Check step blocks; faults are reported.

    A buffer that some step is over moves in that step alone, others in every step.
    """
    named: dict[str, ast.StepBlock] = {}
    read: list[tuple[ast.StepBlock, dict[str, Any]]] = []
    for block in blocks:
        first = named.setdefault(block.name.text, block)
        if first is not block:
            around.elab.report(
                fault("E0402", f"two steps are called {block.name}", block.name.span,
                      "the second", related=[(first.name.span, "the first")])
            )  # fmt: skip
            continue
        read.append((block, _keys(around, block)))
    claimed: set[str] = set()
    for _, keys in read:
        claimed |= keys.get("over", set())
    found = [s for b, keys in read if (s := _step(around, b, keys, claimed)) is not None]
    _check_all_move(around, blocks, found)
    return tuple(found)


def _keys(around: Around, block: ast.StepBlock) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in block.settings:
        name, span = entry.key.text, entry.key.span
        try:
            if name not in KEYS:
                hint, fix = did_you_mean(name, list(KEYS), span)
                known = [f"the keys are {', '.join(KEYS)}"]
                raise fault("E0401", f"a step block has no key {name}", span, "unknown",
                            notes=known, hint=hint, fix=fix)  # fmt: skip
            if name in found:
                raise fault("E0402", f"{name} is given twice", span, "the second")
            row = KEYS[name]
            given = Given(row, entry.value, around.elab, around.scope, around.model)
            found[name] = row.check(given)
        except Fault as error:
            around.elab.report(error)
    return found


def _step(
    around: Around, block: ast.StepBlock, keys: Mapping[str, Any], claimed: set[str]
) -> Step | None:
    name = block.name.text
    given = keys.get("optimizer")
    if given is None and around.optimizer is not None:
        row = KEYS["optimizer"]
        given = Given(row, around.optimizer.value, around.elab, around.scope, around.model)
    written = {entry.key.text for entry in block.settings}
    if given is None and "optimizer" not in written:
        around.elab.report(
            fault("E0405", f"the step {name} names no optimizer", block.name.span,
                  hint="add one: optimizer = adam(lr = 1e-3)")
        )  # fmt: skip
    losses = tuple(n.name for n in around.model.training.losses)
    chosen = keys.get("over", frozenset(p.path for p in around.trained))
    moved = [p for p in around.trained if p.path in chosen]
    if not moved and not ("over" in written and "over" not in keys):
        around.elab.report(
            fault("E0405", f"the step {name} moves no parameter", block.name.span,
                  "what it is over is frozen, or no parameter")
        )  # fmt: skip
    if given is None or not moved:
        return None
    try:
        updates = updates_of(given, moved)
    except Fault as error:
        around.elab.report(error)
        return None
    buffers = frozenset(
        u.name for u in around.model.training.updates if u.name in chosen or u.name not in claimed
    )
    return Step(
        name,
        keys.get("minimize", losses),
        tuple(_own(update, name) for update in updates),
        buffers,
        keys.get("times", 1),
        keys.get("clip_norm", around.found.get("clip_norm")),
    )


def _check_all_move(around: Around, blocks: Sequence[ast.StepBlock], found: Sequence[Step]) -> None:
    if len(found) < len(blocks):
        return
    moved = {u.path for step in found for u in step.updates}
    left = [p.path for p in around.trained if p.path not in moved]
    if left:
        listed = ", ".join(left[:8]) + (", ..." if len(left) > 8 else "")
        around.elab.report(
            fault("E0407", f"no step moves {listed}", blocks[-1].name.span,
                  hint="let some step be over them, or name them in freeze")
        )  # fmt: skip


def _own(update: Update, step: str) -> Update:
    """Return an update whose state and count of steps are the step's own."""
    roots = [update.new_weight, *(s.node for s in update.new_slots)]
    slots = {f"{update.path}:{s.name}": f"{update.path}:{step}.{s.name}" for s in update.slots}
    done: dict[Node, Node] = {}
    for node in postorder(roots):
        fresh = with_inputs(node, tuple(done[i] for i in node.inputs))
        if isinstance(node.op, Leaf) and node.op.space == "state" and node.op.name in slots:
            fresh = replace(node, op=Leaf("state", slots[node.op.name]))
        elif node.op == Leaf("system", "step"):
            fresh = replace(node, op=Leaf("system", f"step.{step}"))
        done[node] = fresh
    return replace(
        update,
        slots=tuple(replace(s, name=f"{step}.{s.name}") for s in update.slots),
        new_weight=done[update.new_weight],
        new_slots=tuple(
            replace(s, name=f"{step}.{s.name}", node=done[s.node]) for s in update.new_slots
        ),
    )
