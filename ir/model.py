"""What the frontend hands to the passes: a model as graphs, and a training recipe as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnc.ir.graph import Node
from nnc.ir.index import Size
from nnc.ir.span import Span
from nnc.ir.types import DType, TensorType


@dataclass(frozen=True, slots=True)
class Parameter:
    """A ``param`` or ``buffer``: dotted path, type of constant shape, and how it starts.

    ``init`` computes the first value; it reads only ``Leaf("system", "seed")``.
    """

    path: str
    type: TensorType
    init: Node
    trainable: bool
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """An ``input`` or ``target``: dims of ``type`` may be symbolic.

    ``low`` and ``high`` (exclusive) bound whole-number data, from ``in low..high``. ``trains`` and
    ``infers`` tell whether losses and metrics, and whether outputs, are made from it or from a size
    that it alone brings: where not, none need be given.
    """

    name: str
    type: TensorType
    kind: str
    low: Size | None = None
    high: Size | None = None
    span: Span | None = None
    trains: bool = True
    infers: bool = True


@dataclass(frozen=True, slots=True)
class Named:
    """A named scalar or tensor: a loss, a metric, an output, or the new value of a buffer."""

    name: str
    node: Node
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Mode:
    """The model's graph with ``training`` true or false; leaves are shared by (space, name)."""

    losses: tuple[Named, ...]
    metrics: tuple[Named, ...]
    outputs: tuple[Named, ...]
    updates: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """A condition on symbolic dims that each call checks first: ``value`` (0/1) must be 1.

    ``value`` is a scalar bool node of positions only; ``facts`` are sizes that it proves >= 0.
    """

    value: Node
    message: str
    facts: tuple[Size, ...] = ()
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A checked model.

    ``dims``: the symbolic dims in order of first use; ``batch`` is the dim along which data is cut
    (None where no port has a symbolic first dim).
    """

    name: str
    config: Mapping[str, Any]
    precision: DType
    dims: tuple[str, ...]
    batch: str | None
    requirements: tuple[Requirement, ...]
    parameters: tuple[Parameter, ...]
    ports: tuple[Port, ...]
    training: Mode
    inference: Mode


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of optimizer state for one parameter: its name, type and first value."""

    name: str
    type: TensorType
    init: Node


@dataclass(frozen=True, slots=True)
class Update:
    """The optimizer for one parameter: new weight and new slots, as graphs.

    They read ``Leaf("state", path)``, ``Leaf("gradient", path)``, ``Leaf("system", "step")`` and
    the slots, ``Leaf("state", f"{path}:{slot}")``. ``rule`` is equal for parameters that share one
    optimizer with one configuration; ``elementwise`` tells that nothing but elements at the same
    place and scalars are read, so that parameters of one rule may be updated as one flat block.
    """

    path: str
    rule: str
    elementwise: bool
    slots: tuple[Slot, ...]
    new_weight: Node
    new_slots: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where data comes from: ``kind`` (npz, idx, arrays, ...), its arguments, its place."""

    kind: str
    arguments: Mapping[str, Any]
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One of the steps that take turns in training, ``times`` times in a row, a batch each.

    It minimises the sum of the losses ``minimize`` by ``updates``, and runs those ``buffers``'
    updates. Optimizers count its own steps, ``Leaf("system", f"step.{name}")`` where it has a
    name; the one step of a plain recipe has none.
    """

    name: str
    minimize: tuple[str, ...]
    updates: tuple[Update, ...]
    buffers: frozenset[str]
    times: int = 1
    clip_norm: float | None = None

    def entry(self, name: str) -> str:
        """Return what this step's own entry of the kind ``name`` is called."""
        return f"{name}.{self.name}" if self.name else name


@dataclass(frozen=True, slots=True)
class Recipe:
    """A ``train`` block, checked. ``settings`` holds the plain keys (epochs, batch, seed, ...).

    ``steps`` take turns, in their order; there is at least one.
    """

    name: str
    model: Model
    data: DataSource | None
    steps: tuple[Step, ...]
    settings: Mapping[str, Any]
    span: Span | None = None

    @property
    def updates(self) -> tuple[Update, ...]:
        """The updates of all steps."""
        return tuple(u for step in self.steps for u in step.updates)
