"""``copy(net)``: an instance whose parameters are buffers, and updates over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import Cascade, fault
from nnc.frontend.elaborate.given import moved
from nnc.frontend.elaborate.scope import Binding, Scope
from nnc.frontend.elaborate.values import Instance, Tensor, Value, is_poisoned
from nnc.ir.graph import Node
from nnc.ir.model import Named

if TYPE_CHECKING:
    from nnc.frontend.elaborate.builtins import Use
    from nnc.frontend.elaborate.elaborator import Elaborator


def copy(use: Use, given: Mapping[str, Operand]) -> Value:
    """Return an instance like another, at a path of its own."""
    operand = given["net"]
    net = operand.value
    if not isinstance(net, Instance):
        raise wrong_value("an instance of a layer", net, operand.span, "bind one: net = mlp(64)")
    local = use.scope.body.sites.get(use.site) or "copy"
    path = use.scope.body.path_of(local)
    if path is None or net.root is None:
        raise fault("E0217", f"{use.scope.body.owner} holds nothing, so no copy either", use.span,
                    hint="make the function around it a layer")  # fmt: skip
    use.elab.claim(path, use.site, use.span)
    use.elab.copies[path] = net.root
    made = moved(net, net.root, path)
    assert isinstance(made, Instance)
    return replace(made, site=use.scope.body.place(local), span=use.span)


def hold(elab: Elaborator, instance: Instance) -> None:
    """Make the buffers of a copy that are not there yet, from what the original holds."""
    origin = elab.copies.get(instance.root or "")
    if origin is None:
        return
    for path, known in list(elab.parameters.items()):
        if path.startswith(f"{origin}."):
            own = f"{instance.root}{path[len(origin) :]}"
            elab.parameters.setdefault(own, replace(known, path=own, trainable=False))
            value_of(elab, own)


def value_of(elab: Elaborator, path: str) -> Node:
    """Return the present value of a parameter or buffer."""
    known = elab.parameters[path]
    if path not in elab.current:
        elab.current[path] = elab.leaf("state", path, known.type, known.span)
    return elab.current[path]


def update_copy(elab: Elaborator, scope: Scope, statement: ast.Update, instance: Instance) -> None:
    """Run ``update teacher = ...`` over all that a copy holds.

    For each buffer the names of instances stand for what these hold under the same name. Whole
    numbers are taken from the original. Raises Fault where one of them holds no such thing.
    """
    origin = elab.copies.get(instance.root or "")
    if origin is None:
        raise fault("E0217", f"{statement.name} is no copy", statement.name.span,
                    "what an instance holds is updated where its layer says so",
                    related=[(instance.span, "made here")],
                    hint="make a copy, and update that: teacher = copy(...)")  # fmt: skip
    hold(elab, instance)
    named: dict[str, Instance] = {}
    for name in ast.walk(statement.value):
        found = scope.find(name.id) if isinstance(name, ast.Name) else None
        if isinstance(name, ast.Name) and found and isinstance(found.value, Instance):
            named[name.id] = found.value
            hold(elab, found.value)
    prefix = f"{instance.root}."
    paths = [p for p in elab.parameters if p.startswith(prefix)]
    if not paths and elab.diagnostics.has_errors:
        raise Cascade
    if not paths:
        raise fault("E0225", f"{instance.site} holds nothing yet", statement.name.span,
                    hint=f"apply {origin} before: its sizes follow from that")  # fmt: skip
    new: dict[str, Node] = {}
    for path in paths:
        type = elab.parameters[path].type
        if not type.dtype.is_float:
            new[path] = value_of(elab, f"{origin}.{path[len(prefix) :]}")
            continue
        names = {n: _part(elab, i, path[len(prefix) :], statement) for n, i in named.items()}
        inner = Scope(scope.body, scope, {n: Binding(v, None) for n, v in names.items()})
        value = elab.evaluate(statement.value, inner, type.shape)
        if is_poisoned(value):
            raise Cascade
        new[path] = to_node(elab, Operand(value, statement.value.span), type.dtype, type.shape)
    for path, node in new.items():
        elab.current[path] = node
        elab.updates[path] = Named(path, node, statement.span)


def _part(elab: Elaborator, instance: Instance, name: str, statement: ast.Update) -> Tensor:
    path = f"{instance.root}.{name}"
    if path not in elab.parameters:
        raise fault("E0225", f"{instance.site} holds no {name}", statement.value.span,
                    f"{statement.name} does", related=[(instance.span, "made here")])  # fmt: skip
    return Tensor(value_of(elab, path))
