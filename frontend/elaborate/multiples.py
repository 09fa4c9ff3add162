"""Symbolic dims that are required to be multiples of a number.

``require rows % 16 == 0`` lets a program halve ``rows`` four times and double it back, and the
two sizes must be one polynomial again. While such a program is elaborated, ``rows`` is 16 times a
dim of its own; in the finished model that dim is written ``rows // 16``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import lcm

from nnc.ir.expr import map_sizes
from nnc.ir.graph import Custom, Form, Node, Scan, postorder
from nnc.ir.index import Atom, Dim, Size, dim, floordiv, substitute
from nnc.ir.model import Mode, Model, Named, Requirement
from nnc.ir.types import TensorType

_MARK = "~"


@dataclass(slots=True)
class Multiples:
    """Which dims are multiples of what, as far as is known from the runs before this one."""

    known: dict[str, int] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)

    def grow(self, found: Mapping[str, int], requirements: Iterable[Requirement]) -> bool:
        """Add what a run has found and the requirements that say so; tell if that is new.

        In the next run these requirements hold by construction, so they are kept here.
        """
        before = dict(self.known)
        for name, by in found.items():
            plain = name.removesuffix(_MARK)
            factor = by * (before.get(plain, 1) if plain != name else 1)
            self.known[plain] = lcm(self.known.get(plain, 1), factor)
        if self.known == before:
            return False
        self.requirements.extend(requirements)
        return True

    def symbol(self, name: str) -> Size:
        """Return the size of the symbolic dim ``name``."""
        by = self.known.get(name, 1)
        return dim(name) if by == 1 else by * dim(name + _MARK)

    @property
    def _replacements(self) -> dict[Atom, Size]:
        return {Dim(n + _MARK): floordiv(dim(n), by) for n, by in self.known.items() if by > 1}

    def actual(self, size: Size) -> Size:
        """Return the size of a dim of a port, where the data brings it: just ``name``."""
        for name, by in self.known.items():
            if by > 1 and size == by * dim(name + _MARK):
                return dim(name)
        return substitute(size, self._replacements)

    def settle(self, model: Model) -> Model:
        """Return the model with those dims written out."""
        change = self._replacements
        if not change:
            return model
        nodes = _Substitution(change)
        required: dict[object, Requirement] = {}
        for r in (*self.requirements, *model.requirements):
            facts = tuple(substitute(f, change) for f in r.facts)
            settled = replace(r, value=nodes(r.value), facts=facts)
            required.setdefault((r.span, r.message, facts), settled)
        return replace(
            model,
            training=nodes.mode(model.training),
            inference=nodes.mode(model.inference),
            requirements=tuple(required.values()),
        )


@dataclass(slots=True)
class _Substitution:
    """Rebuilds nodes with dims replaced by sizes; shared parts stay shared."""

    change: Mapping[Atom, Size]
    done: dict[Node, Node] = field(default_factory=dict)

    def mode(self, mode: Mode) -> Mode:
        """Return a mode with all its results rebuilt."""
        return Mode(
            self._named(mode.losses),
            self._named(mode.metrics),
            self._named(mode.outputs),
            self._named(mode.updates),
        )

    def _named(self, items: tuple[Named, ...]) -> tuple[Named, ...]:
        return tuple(replace(item, node=self(item.node)) for item in items)

    def __call__(self, root: Node) -> Node:
        for node in postorder([root]):
            if node not in self.done:
                self.done[node] = self._rebuilt(node)
        return self.done[root]

    def _rebuilt(self, node: Node) -> Node:
        op = node.op
        match op:
            case Form():
                op = self._form(op)
            case Custom(name, gradients):
                op = Custom(name, tuple(self(g) if g is not None else None for g in gradients))
            case Scan(loop):
                op = replace(op, loop=replace(loop, extent=self._size(loop.extent)))
            case _:
                pass
        shape = tuple(self._size(d) for d in node.type.shape)
        inputs = tuple(self.done[i] for i in node.inputs)
        return Node(op, inputs, TensorType(node.type.dtype, shape), node.span, node.name)

    def _form(self, form: Form) -> Form:
        return Form(
            tuple((name, self._size(extent)) for name, extent in form.axes),
            tuple(self._size(i) for i in form.out),
            form.reduce,
            map_sizes(form.body, self._size),
            None if form.where is None else map_sizes(form.where, self._size),
            form.drops,
        )

    def _size(self, size: Size) -> Size:
        return substitute(size, self.change)
