"""Optimizers meet parameters: each update rule is run on each parameter that it is chosen for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nnc.frontend import ast
from nnc.frontend.elaborate.calls import body_of, run_body
from nnc.frontend.elaborate.convert import Operand, to_node
from nnc.frontend.elaborate.elaborator import Elaborator
from nnc.frontend.elaborate.element_types import element_type
from nnc.frontend.elaborate.expressions import step
from nnc.frontend.elaborate.faults import Cascade, Fault, fault
from nnc.frontend.elaborate.parameters import (
    Arguments,
    bind_tensors,
    configure,
)
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.shapes import declared_shape, pattern
from nnc.frontend.elaborate.types import type_name
from nnc.frontend.elaborate.values import (
    BuiltinValue,
    FunctionValue,
    OptimizerValue,
    ScheduleValue,
    Tensor,
    TupleValue,
    Value,
    describe,
    is_poisoned,
)
from nnc.ir.expr import Const, Position, Read, walk
from nnc.ir.graph import Form, Leaf, Node, Scan, postorder, with_inputs
from nnc.ir.index import Size, axes_of, axis, dims_of
from nnc.ir.model import Named, Parameter, Slot, Update
from nnc.ir.span import Span
from nnc.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Choice:
    """An optimizer with its config, and where the recipe names it."""

    optimizer: OptimizerValue
    span: Span


def chosen(elab: Elaborator, value: Value, span: Span) -> Choice:
    """Return a value of a recipe as an optimizer with its config. Raises Fault if it is none."""
    if is_poisoned(value):
        raise Cascade
    if not isinstance(value, OptimizerValue):
        hint = "write sgd(...), adam(...) or another optimizer"
        if isinstance(value, ScheduleValue):
            hint = "a schedule is the rate of an optimizer: sgd(lr = ...)"
        raise fault("E0403", "an optimizer is needed here", span, f"this is {describe(value)}",
                    hint=hint)  # fmt: skip
    if value.config is None:
        configured = configure(elab, value, Arguments(), span)
        assert isinstance(configured, OptimizerValue)
        value = configured
    if len(value.decl.params) != 3:
        raise fault(
            "E0413",
            f"the optimizer {value.decl.name} takes {len(value.decl.params)} things, not three",
            span,
            related=[(value.decl.name.span, "declared here")],
            hint="they are the parameter, its gradient and the step: (w, g, t)",
        )
    return Choice(value, span)


@dataclass(slots=True)
class Updates:
    """Makes updates; what one optimizer does to parameters of one type is worked out once."""

    elab: Elaborator
    _made: dict[tuple[str, TensorType], Update] = field(default_factory=dict)

    def of(self, choice: Choice, parameter: Parameter) -> Update:
        """Return the update of a parameter. Raises Fault where the optimizer does not take it."""
        key = (rule(choice.optimizer), parameter.type)
        known = self._made.get(key)
        if known is not None:
            return _renamed(known, parameter.path)
        update = update_of(self.elab, choice, parameter)
        if not _draws(update):  # random numbers are keyed by the parameter's path
            self._made[key] = update
        return update


def _roots(update: Update) -> list[Node]:
    slots = [s.init for s in update.slots]
    return [update.new_weight, *(s.node for s in update.new_slots), *slots]


def _draws(update: Update) -> bool:
    return any(n.op == Leaf("system", "seed") for n in postorder(_roots(update)))


def _renamed(update: Update, path: str) -> Update:
    """Return the same update of another parameter of the same type."""
    done: dict[Node, Node] = {}
    for node in postorder(_roots(update)):
        fresh = with_inputs(node, tuple(done[i] for i in node.inputs))
        if isinstance(node.op, Leaf) and node.op.space in ("state", "gradient"):
            leaf = Leaf(node.op.space, path + node.op.name[len(update.path) :])
            fresh = replace(
                node, op=leaf, name=leaf.name if node.name == node.op.name else node.name
            )
        done[node] = fresh
    return replace(
        update,
        path=path,
        new_weight=done[update.new_weight],
        new_slots=tuple(replace(s, node=done[s.node]) for s in update.new_slots),
    )


def update_of(elab: Elaborator, choice: Choice, parameter: Parameter) -> Update:
    """Run an optimizer on one parameter. Raises Fault where the two do not fit."""
    optimizer = choice.optimizer
    decl = optimizer.decl
    name = decl.name.text
    assert optimizer.config is not None
    body = body_of(elab, decl, optimizer.home, "optimizer", None, f"{parameter.path}:update")
    scope = Scope(body, optimizer.home)
    state = _State(elab, parameter)
    body.state = state.declare
    with elab.applying(name, choice.span):
        for param in decl.config:
            scope.bind(param.name, optimizer.config[param.name.text], "config")
        _bind(elab, choice, parameter, scope)
        value = run_body(elab, scope, decl.body, None, choice.span)
        if is_poisoned(value):
            raise Cascade
        weight = Operand(value, decl.body.span, "what it returns")
        new_weight = to_node(elab, weight, parameter.type.dtype, parameter.type.shape)
        new_slots = tuple(Named(s.name, state.last(s, scope)) for s in state.slots)
    return Update(
        parameter.path,
        rule(optimizer),
        _is_elementwise(parameter.type.shape, state.slots, new_weight, new_slots),
        tuple(state.slots),
        new_weight,
        new_slots,
    )


def _bind(elab: Elaborator, choice: Choice, parameter: Parameter, scope: Scope) -> None:
    """Bind parameter, gradient and step to the names that the optimizer gives them."""
    decl = choice.optimizer.decl
    w = elab.leaf("state", parameter.path, parameter.type, parameter.span)
    g = elab.leaf("gradient", parameter.path, parameter.type, parameter.span)
    given = (Tensor(w), Tensor(g), step(elab, choice.span))
    operands = [
        Operand(value, choice.span, text)
        for value, text in zip(given, (parameter.path, "its gradient", "the step"), strict=True)
    ]
    try:
        arguments = Arguments(tuple(operands))
        bind_tensors(elab, decl.name.text, decl.params, scope, arguments, choice.span)
    except Cascade:
        raise
    except Fault as error:
        raise fault(
            "E0408",
            f"the optimizer {decl.name} does not take {parameter.path}",
            choice.span,
            f"{parameter.path} has the type {type_name(parameter.type)}",
            related=[(decl.params[0].span, "declared here"), *error.diagnostic.related],
            notes=[error.diagnostic.message],
            hint='give it another: optimizer = { "pattern" = ..., "**" = ... }',
        ) from None


@dataclass(slots=True)
class _State:
    """The state that an optimizer declares for one parameter."""

    elab: Elaborator
    parameter: Parameter
    slots: list[Slot] = field(default_factory=list)

    def declare(self, statement: ast.StateDecl, scope: Scope) -> Value:
        """Return the present value of a state; it starts as what its declaration says."""
        name = statement.name.text
        if scope.body.loops:
            raise fault("E0217", "state stands outside of loops", statement.span)
        if any(slot.name == name for slot in self.slots):
            raise fault("E0222", f"two states are called {name}", statement.name.span)
        type = self._type(statement, scope)
        before, self.elab.starting = self.elab.starting, True
        try:
            value = self.elab.evaluate(statement.init, scope, type.shape)
            operand = Operand(value, statement.init.span)
            init = to_node(self.elab, operand, type.dtype, type.shape)
        finally:
            self.elab.starting = before
        for part in postorder([init]):
            if isinstance(part.op, Leaf) and part.op.space != "system":
                raise fault(
                    "E0214",
                    f"the first value of {name} cannot depend on parameters or gradients",
                    statement.init.span,
                    "made before the first step",
                )
        self.slots.append(Slot(name, type, init))
        leaf = self.elab.leaf("state", f"{self.parameter.path}:{name}", type, statement.span)
        return Tensor(leaf)

    def _type(self, statement: ast.StateDecl, scope: Scope) -> TensorType:
        declared = statement.type
        if declared is None:
            return self.parameter.type
        if not isinstance(declared, ast.TensorTypeExpr):
            raise fault("E0206", "a state is a tensor", declared.span)
        dims = pattern(declared.dims or (), declared.span)
        shape = declared_shape(self.elab, scope, dims)
        assert not any(dims_of(size) for size in shape), "parameters have no symbolic dims"
        return TensorType(element_type(self.elab, declared), shape)

    def last(self, slot: Slot, scope: Scope) -> Node:
        """Return the last value that the state was bound to."""
        binding = scope.names[slot.name]
        if is_poisoned(binding.value):
            raise Cascade
        assert binding.span is not None, "a state is bound where it is declared"
        operand = Operand(binding.value, binding.span, slot.name)
        return to_node(self.elab, operand, slot.type.dtype, slot.type.shape)


def rule(optimizer: OptimizerValue) -> str:
    """Return text that is equal for equal optimizers with equal config."""
    assert optimizer.config is not None
    config = ", ".join(f"{name}={_spell(value)}" for name, value in optimizer.config.items())
    return f"{_declared(optimizer.decl)}({config})"


def _declared(decl: ast.Fn | ast.Optimizer | ast.Schedule) -> str:
    return f"{decl.name}@{decl.span.file}:{decl.span.start}"


def _spell(value: Value) -> str:
    match value:
        case ScheduleValue(decl, _, config):
            inner = ", ".join(f"{k}={_spell(v)}" for k, v in (config or {}).items())
            return f"{_declared(decl)}({inner})"
        case FunctionValue(decl):
            return _declared(decl)
        case BuiltinValue(name):
            return name
        case TupleValue(items):
            return f"({', '.join(map(_spell, items))})"
        case _:
            return describe(value)


# which updates may run over a flat block ----------------------------------------------------------


def _is_elementwise(
    shape: tuple[Size, ...],
    slots: Sequence[Slot],
    new_weight: Node,
    new_slots: Sequence[Named],
) -> bool:
    """Whether an update reads only elements at its own place and scalars.

    Slots must then be shaped as the parameter and start as one number everywhere, since those of
    several parameters lie together.
    """
    if any(s.type.shape != shape or not _is_fill(s.init) for s in slots):
        return False
    nodes = postorder([new_weight, *(s.node for s in new_slots)])
    return all(_keeps_place(node, shape) for node in nodes)


def _is_fill(node: Node) -> bool:
    return isinstance(node.op, Form) and isinstance(node.op.body, Const) and not node.op.where


def _keeps_place(node: Node, shape: tuple[Size, ...]) -> bool:
    match node.op:
        case Leaf("carry") | Scan():
            return False  # its place in the block is not known to the loop
        case Leaf():
            return node.type.shape in (shape, ())
        case Form() as form if node.type.shape == shape:
            return _pointwise(form, node, shape)
        case _:
            return node.type.shape == () and all(i.type.shape == () for i in node.inputs)


def _pointwise(form: Form, node: Node, shape: tuple[Size, ...]) -> bool:
    here = tuple(axis(name) for name, _ in form.axes)
    if form.reduce != "none" or form.where is not None or form.drops or form.out != here:
        return False
    if tuple(extent for _, extent in form.axes) != shape:
        return False
    for part in walk(form.body):
        match part:
            case Position(index) if axes_of(index):
                return False
            case Read(operand, index):
                source = node.inputs[operand].type.shape
                if source != () and (source != shape or index != here):
                    return False
            case _:
                pass
    return True
