"""Expands ``grad(y, x)``: each ``Derivative`` becomes the forms that compute it.

This runs before anything else differentiates, splits or lowers a graph, so that a derivative is
then a tensor like any other: it may be differentiated again, by ``grad`` around it or by training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from nnc.ir.graph import Custom, Derivative, Node, postorder, with_inputs
from nnc.ir.index import Size
from nnc.ir.model import Mode, Model, Named, Recipe, Slot, Update
from nnc.passes.autodiff import gradients

Change = Callable[[Node], Node]


def expand_derivatives(roots: Sequence[Node], facts: Iterable[Size] = ()) -> list[Node]:
    """Return ``roots`` without ``Derivative``, innermost first.

    All derivatives of one scalar are taken in one sweep. Raises ``NotDifferentiable``.
    """
    expansion = _Expansion(tuple(facts))
    expansion.gather(roots)
    return [expansion(root) for root in roots]


def expand_model(model: Model, recipe: Recipe | None) -> tuple[Model, Recipe | None]:
    """Return a model and its recipe without ``Derivative``. Raises ``NotDifferentiable``."""
    roots = list(_roots(model, recipe))
    if not any(isinstance(n.op, Derivative) for n in _everything(roots)):
        return model, recipe
    facts = tuple(f for r in model.requirements for f in r.facts)
    change = dict(zip(roots, expand_derivatives(roots, facts), strict=True)).__getitem__
    model = replace(
        model,
        parameters=tuple(replace(p, init=change(p.init)) for p in model.parameters),
        training=_mode(model.training, change),
        inference=_mode(model.inference, change),
    )
    if recipe is not None:
        settings = {k: change(v) if isinstance(v, Node) else v for k, v in recipe.settings.items()}
        steps = tuple(
            replace(s, updates=tuple(_update(u, change) for u in s.updates)) for s in recipe.steps
        )
        recipe = replace(recipe, model=model, steps=steps, settings=settings)
    return model, recipe


def _roots(model: Model, recipe: Recipe | None) -> Iterator[Node]:
    yield from (p.init for p in model.parameters)
    for mode in (model.training, model.inference):
        yield from (n.node for n in (*mode.losses, *mode.metrics, *mode.outputs, *mode.updates))
    if recipe is not None:
        yield from (v for v in recipe.settings.values() if isinstance(v, Node))
        for update in recipe.updates:
            yield update.new_weight
            yield from (s.init for s in update.slots)
            yield from (s.node for s in update.new_slots)


def _mode(mode: Mode, change: Change) -> Mode:
    def named(items: tuple[Named, ...]) -> tuple[Named, ...]:
        return tuple(replace(item, node=change(item.node)) for item in items)

    return Mode(named(mode.losses), named(mode.metrics), named(mode.outputs), named(mode.updates))


def _update(update: Update, change: Change) -> Update:
    return replace(
        update,
        slots=tuple(Slot(s.name, s.type, change(s.init)) for s in update.slots),
        new_weight=change(update.new_weight),
        new_slots=tuple(replace(s, node=change(s.node)) for s in update.new_slots),
    )


def _everything(roots: Iterable[Node]) -> list[Node]:
    """All nodes that ``roots`` reach, those of written derivatives too."""
    order: dict[Node, None] = {}
    pending = list(roots)
    while pending:
        for node in postorder(pending):
            order.setdefault(node)
        written = [n.op.gradients for n in order if isinstance(n.op, Custom)]
        pending = [g for gs in written for g in gs if g is not None and g not in order]
    return list(order)


@dataclass(slots=True)
class _Expansion:
    """Rebuilds nodes; ``wanted`` has what each scalar is differentiated by."""

    facts: tuple[Size, ...]
    wanted: dict[Node, dict[Node, None]] = field(default_factory=dict)
    done: dict[Node, Node] = field(default_factory=dict)
    found: dict[Node, dict[Node, Node]] = field(default_factory=dict)

    def gather(self, roots: Sequence[Node]) -> None:
        for node in _everything(roots):
            if isinstance(node.op, Derivative):
                y, x = node.inputs
                self.wanted.setdefault(y, {})[x] = None

    def __call__(self, root: Node) -> Node:
        for node in postorder([root]):
            if node not in self.done:
                self.done[node] = self._expanded(node)
        return self.done[root]

    def _expanded(self, node: Node) -> Node:
        match node.op:
            case Derivative():
                y, x = node.inputs
                if y not in self.found:
                    by = list(self.wanted[y])
                    taken = gradients(self(y), [self(x) for x in by], self.facts)
                    self.found[y] = dict(zip(by, taken, strict=True))
                return self.found[y][x]
            case Custom(name, written):
                op = Custom(name, tuple(None if g is None else self(g) for g in written))
                inputs = tuple(self.done[i] for i in node.inputs)
                return Node(op, inputs, node.type, node.span, node.name)
        return with_inputs(node, tuple(self.done[i] for i in node.inputs))
