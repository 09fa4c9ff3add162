"""Layers and functions as config: where those lie that are made for it, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand
from nnc.frontend.elaborate.element_types import element_type, generic_name, typed
from nnc.frontend.elaborate.faults import Cascade, Fault, fault
from nnc.frontend.elaborate.parameters import Arguments, results, shape_of
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.shapes import Matcher, declared_shape, pattern
from nnc.frontend.elaborate.sites import made_in
from nnc.frontend.elaborate.values import (
    Instance,
    LayerValue,
    Tensor,
    TupleValue,
    Value,
    describe,
    is_poisoned,
)
from nnc.ir import build
from nnc.ir.types import TensorType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


def lying_in(
    scope: Scope, expr: ast.Expr, name: str, holder: str | None, is_layer: Callable[..., bool]
) -> Scope:
    """Return the scope to evaluate ``expr`` in, which is given for the config ``name``.

    A layer that is made there lies in the instance that it is made for, at the path ``holder``,
    and is called as the config is.
    """
    made: dict[ast.Node, str] = {node: name for node in made_in(expr) if is_layer(scope, node.func)}
    if not made:
        return scope
    body = replace(scope.body, path=holder, loops=(), sites={**scope.body.sites, **made})
    return Scope(body, scope, box=scope.box)


def settle_results(
    elab: Elaborator, scope: Scope, params: Sequence[ast.Parameter], site: ast.Expr
) -> None:
    """Check what is given for ``layer(...) -> ...`` and ``fn(...) -> ...`` against that type.

    Each is applied once to tensors of the declared types, as far as their dims are known; dims that
    only the declared result names are bound by what comes out. Raises Fault where it does not fit.
    """
    for param in params:
        if not isinstance(param.type, ast.CallableType):
            continue
        value = scope.names[param.name.text].value
        operands = list(_operands(elab, scope, param.type, site))
        if is_poisoned(value) or len(operands) < len(param.type.params):
            continue
        found = _applied(elab, scope, value, operands, site)
        if is_poisoned(found):
            raise Cascade
        _match(elab, scope, param, value, found, site)


def _operands(
    elab: Elaborator, scope: Scope, declared: ast.CallableType, site: ast.Expr
) -> Iterator[Operand]:
    for k, wanted in enumerate(declared.params):
        if not isinstance(wanted, ast.TensorTypeExpr) or generic_name(wanted) is not None:
            return
        names = [n for d in wanted.dims or () for n in ast.walk(d)]
        free = [n.id for n in names if isinstance(n, ast.Name)]
        free += [n.name for n in names if isinstance(n, ast.Rest) and n.name is not None]
        if any(scope.find(name) is None for name in free):
            return
        shape = declared_shape(elab, scope, pattern(wanted.dims or (), wanted.span))
        type = TensorType(element_type(elab, wanted), shape)
        yield Operand(Tensor(build.leaf("probe", str(k), type, wanted.span)), site.span)


def _applied(
    elab: Elaborator, scope: Scope, value: Value, operands: Sequence[Operand], site: ast.Expr
) -> Value:
    """Return what ``value`` gives; the application counts for nothing else."""
    from nnc.frontend.elaborate.calls import apply

    types = tuple(o.value.type for o in operands if isinstance(o.value, Tensor))
    key = (value, types, elab.training)
    if key not in elab.probed:
        before = dict(elab.current), dict(elab.updates)
        outside = Scope(replace(scope.body, sites={}), scope)
        try:
            elab.probed[key] = apply(elab, outside, value, Arguments(tuple(operands)), site, None)
        finally:
            elab.current, elab.updates = before
    return elab.probed[key]


def _match(
    elab: Elaborator, scope: Scope, param: ast.Parameter, value: Value, found: Value,
    site: ast.Expr,
) -> None:  # fmt: skip
    assert isinstance(param.type, ast.CallableType)
    declared = results(param.type.result)
    values = found.items if isinstance(found, TupleValue) else (found,)
    try:
        if len(values) != len(declared):
            raise fault("E0226", f"{len(declared)} results are declared", param.type.span,
                        f"it gives {describe(found)}")  # fmt: skip
        matcher = Matcher(elab, scope)
        for wanted, result in zip(declared, values, strict=True):
            if isinstance(wanted, ast.TensorTypeExpr):
                operand = Operand(result, site.span, "its result")
                operand = typed(elab, scope, wanted, operand)
                dims = pattern(wanted.dims or (), wanted.span)
                matcher.match(dims, shape_of(operand.value), operand)
        matcher.finish()
    except Cascade:
        raise
    except Fault as error:
        raise fault(
            "E0233",
            f"{describe(value)} does not fit {param.name}",
            site.span,
            f"it gives {describe(found)} here",
            related=[(param.type.span, f"what {param.name} must be")],
            notes=[error.diagnostic.message],
        ) from None


def not_made(value: LayerValue, operand: Operand) -> Fault:
    """Return the fault for a layer that is given without its config."""
    name = value.decl.name.text
    bare = all(p.default is not None for p in value.decl.config)
    return fault(
        "E0218",
        f"{name} is a layer, which needs its config first",
        operand.span,
        "not yet an instance",
        hint=f"write {name}()" if bare else f"write {name}(...)",
    )


def moved(value: Value, old: str, new: str) -> Value:
    """Return an instance that lies below the path ``old`` as one below ``new``, others as is."""
    if not isinstance(value, Instance) or value.path is None:
        return value
    if value.path != old and not value.path.startswith(f"{old}."):
        return value
    config = {k: moved(v, old, new) for k, v in (value.layer.config or {}).items()}
    layer = replace(value.layer, config=config)
    return replace(value, layer=layer, path=new + value.path[len(old) :])
