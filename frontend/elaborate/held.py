"""What layers hold: parameters, buffers and their updates, named by path."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.element_types import element_type
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.scope import Binding, Scope
from nnc.frontend.elaborate.shapes import LARGEST, declared_shape, pattern
from nnc.frontend.elaborate.types import type_name
from nnc.frontend.elaborate.values import Instance, Poison, Tensor
from nnc.ir.graph import Leaf, Node
from nnc.ir.index import dims_of
from nnc.ir.model import Named, Parameter
from nnc.ir.types import TensorType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


def declare_param(elab: Elaborator, scope: Scope, statement: ast.ParamDecl) -> None:
    """Run ``param name: type = init``."""
    _declare(elab, scope, statement, trainable=True)


def declare_buffer(elab: Elaborator, scope: Scope, statement: ast.BufferDecl) -> None:
    """Run ``buffer name: type = init``."""
    _declare(elab, scope, statement, trainable=False)


def _declare(
    elab: Elaborator, scope: Scope, statement: ast.ParamDecl | ast.BufferDecl, trainable: bool
) -> None:
    name = statement.name.text
    word = "param" if trainable else "buffer"
    path = scope.body.path_of(name)
    if path is None and scope.body.kind == "layer":
        # told where the layer is applied, so once for all that it holds
        raise fault(
            "E0217",
            f"{scope.body.owner} is applied inside a function, which holds nothing",
            elab.frames[-1].span,
            related=[(statement.span, "what the layer holds needs a place in the model")],
            hint="make the function around it a layer",
        )
    if path is None:
        raise fault(
            "E0217",
            f"{word} stands only in a layer or a model",
            statement.span,
            f"{scope.body.owner} holds nothing",
            hint="make the function around it a layer",
        )
    elab.claim(path, statement, statement.name.span)
    type = held_type(elab, scope, statement, word)
    known = elab.parameters.get(path)
    origin = elab.original(path)
    trainable = trainable and origin == path
    if known is None:
        init = first_value(elab, scope, statement, origin, type)
        elab.parameters[path] = Parameter(path, type, init, trainable, statement.span)
    elif known.type != type:
        raise fault(
            "E0214",
            f"{path} is shared and would have two types",
            statement.type.span,
            f"{type_name(type)} here, {type_name(known.type)} before: "
            "its sizes follow from what the layer is applied to",
            hint="what shares parameters must be applied to equal sizes",
        )
    node = elab.current.get(path)
    if node is None:
        node = elab.current[path] = elab.leaf("state", path, type, statement.span)
    scope.bind(statement.name, Tensor(node), "value" if trainable else "buffer")


def held_type(
    elab: Elaborator, scope: Scope, statement: ast.ParamDecl | ast.BufferDecl, word: str
) -> TensorType:
    """Return the declared type, whose sizes are known at compile time."""
    declared = statement.type
    if not isinstance(declared, ast.TensorTypeExpr):
        raise fault("E0206", f"a {word} is a tensor", declared.span)
    dtype = element_type(elab, declared)
    shape = declared_shape(elab, scope, pattern(declared.dims or (), declared.span))
    type = TensorType(dtype, shape)
    symbolic = sorted({d for size in shape for d in dims_of(size)})
    if symbolic:
        raise fault(
            "E0214",
            f"the size of a {word} cannot depend on the data",
            declared.span,
            f"{type_name(type)} has the symbolic dim {symbolic[0]}",
            hint=f"give the dim a number where the input is declared, in place of {symbolic[0]}",
        )
    if isinstance(type.size, int) and type.size > LARGEST:
        raise fault(
            "E0211", f"{type_name(type)} is too large", declared.span, f"{type.size} elements"
        )
    if word == "param" and not dtype.is_float:
        raise fault(
            "E0206", f"a param is trained, so its elements are decimals, not {dtype}",
            declared.span, hint="a buffer may hold whole numbers",
        )  # fmt: skip
    return type


def first_value(
    elab: Elaborator, scope: Scope, statement: ast.ParamDecl | ast.BufferDecl, path: str,
    type: TensorType,
) -> Node:  # fmt: skip
    """Return what a parameter starts as: drawn once, keyed by its own path."""
    body = replace(scope.body, path=None, trace=f"{path}:init", loops=())
    inner = Scope(body, scope)
    before, elab.starting = elab.starting, True
    try:
        value = elab.evaluate(statement.init, inner, type.shape)
        operand = Operand(value, statement.init.span)
        if isinstance(value, Poison):
            raise wrong_value("a first value", value, statement.init.span)
        node = to_node(elab, operand, type.dtype, type.shape)
    finally:
        elab.starting = before
    _check_closed(node, statement, path)
    return node


def _check_closed(node: Node, statement: ast.ParamDecl | ast.BufferDecl, path: str) -> None:
    from nnc.ir.graph import counters_in, postorder

    for part in postorder([node]):
        turned = counters_in(part) or (isinstance(part.op, Leaf) and part.op.space == "carry")
        if turned:
            raise fault(
                "E0214", f"the first value of {path} cannot depend on the turn of a scan",
                statement.init.span, "made before there is any turn",
            )  # fmt: skip
        if isinstance(part.op, Leaf) and part.op.space != "system":
            raise fault(
                "E0214",
                f"the first value of {path} cannot depend on {part.op.name}",
                statement.init.span,
                "made before there is data or any parameter",
            )


def update(elab: Elaborator, scope: Scope, statement: ast.Update) -> None:
    """Run ``update name = value``: the buffer's next value, which holds from here on."""
    name = statement.name
    found = scope.find(name.text)
    if found is None:
        raise scope.unknown(name.text, name.span, "buffer")
    if isinstance(found.value, Poison):
        return
    if isinstance(found.value, Instance):
        _only_in_training(elab, statement)
        from nnc.frontend.elaborate.copies import update_copy

        update_copy(elab, scope, statement, found.value)
        return
    path = scope.body.path_of(name.text)
    known = elab.parameters.get(path) if path is not None else None
    if found.kind != "buffer" or known is None or path is None:
        raise fault(
            "E0217",
            f"{name} is not a buffer of {scope.body.owner}",
            name.span,
            "only buffers are updated",
            related=[(found.span, "bound here")],
            hint=f"declare it: buffer {name}: ..." if found.kind == "value" else None,
        )
    _only_in_training(elab, statement)
    value = elab.evaluate(statement.value, scope, known.type.shape)
    if isinstance(value, Poison):
        return
    operand = Operand(value, statement.value.span)
    node = to_node(elab, operand, known.type.dtype, known.type.shape)
    elab.current[path] = node
    elab.updates[path] = Named(path, node, statement.span)
    scope.home.names[name.text] = Binding(Tensor(node), found.span, "buffer")


def _only_in_training(elab: Elaborator, statement: ast.Update) -> None:
    if not elab.training:
        raise fault(
            "E0217",
            "update stands only under `if training`",
            statement.span,
            "an inference call changes nothing",
            hint="put it into if training { ... }",
        )
