"""Every parameter's gradient, by native code in f64, against central differences of the loss.

Of each parameter some elements are moved one by one, and all together along a random direction. A
difference that does not agree is taken again with smaller steps, since a kink (of ``max``, of
``abs``) may lie between its two ends. Two steps one after the other must agree: one may by chance.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnc.ir.expr import Apply, walk
from nnc.ir.graph import Custom, Form, Node, postorder
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.model import Recipe
from nnc.runtime.arrays import Array
from nnc.runtime.verify.report import LEFT_OUT, Check, Difference
from nnc.runtime.verify.stages import Native, Stages

STEPS = (1e-4, 1e-5, 1e-6, 1e-7)
AGREE = 1e-4
"""How far a difference may be from a gradient, as a part of the larger of the two."""
SAMPLES = 8
NOISE = 100 * 2.0**-53
"""How exactly a loss is known, as a part of its size."""
STAGE = "gradient against differences"


@dataclass
class Differences:
    """The losses of one program in f64 as a function of its parameters."""

    stages: Stages
    native: Native
    recipe: Recipe

    def loss(self, moved: Mapping[str, Array]) -> tuple[float, Mapping[str, Array]]:
        """Return what training lowers, and all arrays after, with other values of parameters."""
        world = self.stages.world
        arrays = world.copy()
        for path, value in moved.items():
            world.look(f"state:{path}", arrays)[...] = value
        penalty = self.recipe.settings.get("regularize_node")
        added = 0.0
        if penalty is not None:
            added = float(evaluate_nodes([penalty], world.leaves(arrays), world.dims)[0])
        problem = self.native.run("gradient", 1, arrays)
        if problem is not None:
            raise ArithmeticError(problem)
        names = [n.name for n in world.assembly.model.training.losses]
        return sum(float(arrays[f"loss:{n}"]) for n in names) + added, arrays

    def disagreement(self, path: str, value: Array, along: Array, slope: float) -> float | None:
        """Return the difference of the loss along a direction if it is not ``slope``."""
        found, agreed = 0.0, 0
        for step in STEPS:
            above, _ = self.loss({path: value + step * along})
            below, _ = self.loss({path: value - step * along})
            found = (above - below) / (2 * step)
            allowed = AGREE * max(abs(found), abs(slope)) + NOISE * (1 + abs(above)) / step
            agreed = agreed + 1 if abs(found - slope) <= allowed else 0
            if agreed == 2:
                return None
        return found


def check_gradients(stages: Stages, recipe: Recipe, seed: int) -> None:
    """Check the gradients of a program in f64, and keep what was found."""
    differences = Differences(stages, stages.native(), recipe)
    _, arrays = differences.loss({})
    draw = np.random.default_rng(seed)
    why = _meant_to_differ(stages, recipe)
    for item in stages.assembly.placed:
        path = item.parameter.path
        if stages.clock.left() <= 0:
            stages.leave_out(STAGE, path, "no time was left; --seconds gives more")
            continue
        began = time.perf_counter()
        gradient = stages.world.look(f"gradient:{path}", dict(arrays)).copy()
        problem = _problem(differences, path, gradient, draw)
        if problem is not None and why is not None:
            seconds = time.perf_counter() - began
            stages.checks.append(Check(STAGE, path, LEFT_OUT, f"{why}; {problem}", None, seconds))
        else:
            stages.add(STAGE, path, began, problem)


def _problem(
    differences: Differences, path: str, gradient: Array, draw: np.random.Generator
) -> Difference | str | None:
    world = differences.stages.world
    value = world.look(f"state:{path}", world.arrays).copy()
    count = min(SAMPLES, value.size)
    for flat in sorted(draw.choice(value.size, count, replace=False)) if count else ():
        place = tuple(int(i) for i in np.unravel_index(flat, value.shape))
        along = np.zeros_like(value)
        along[place] = 1.0
        found = differences.disagreement(path, value, along, float(gradient[place]))
        if found is not None:
            return Difference(path, place, found, float(gradient[place]), 1, count)
    along = draw.standard_normal(value.shape) / max(1.0, value.size**0.5)
    slope = float(np.sum(gradient * along))
    found = differences.disagreement(path, value, along, slope)
    return None if found is None else f"along a direction of {path}: {slope!r}, not {found!r}"


def _meant_to_differ(stages: Stages, recipe: Recipe) -> str | None:
    """Return why the user's gradient may not be the loss's derivative, by what the file says."""
    for node in postorder(n.node for n in stages.assembly.model.training.losses):
        span = node.span
        if span is None or span.file.startswith("<library>/"):
            continue
        if isinstance(node.op, Custom):
            return f"{span.file} writes a derivative of its own"
        if _stops(node):
            return f"{span.file} stops a gradient"
    return None


def _stops(node: Node) -> bool:
    form = node.op
    return isinstance(form, Form) and any(
        isinstance(e, Apply) and e.op == "stop_gradient" for e in walk(form.body)
    )
