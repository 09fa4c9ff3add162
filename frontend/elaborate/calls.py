"""Calls: functions run on their arguments, layers become instances, instances are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate import builtins
from nnc.frontend.elaborate.convert import Operand, varies_over_box
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.given import lying_in, settle_results
from nnc.frontend.elaborate.parameters import (
    Arguments,
    Within,
    bind_config,
    bind_tensors,
    configure,
    results,
)
from nnc.frontend.elaborate.results import declare_results, expected_result, fit_results
from nnc.frontend.elaborate.scope import Binding, Body, Owner, Scope
from nnc.frontend.elaborate.shapes import known_dim, known_rest
from nnc.frontend.elaborate.sites import called_name, site_names
from nnc.frontend.elaborate.values import (
    POISON,
    Bool,
    BuiltinValue,
    ConstantSchedule,
    Element,
    Float,
    FunctionValue,
    Instance,
    Int,
    LayerValue,
    ModuleValue,
    OptimizerValue,
    ScheduleValue,
    Tensor,
    Value,
    is_poisoned,
)
from nnc.ir.index import Size
from nnc.ir.span import Span

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator

REDUCTIONS = ("sum", "prod", "max", "min", "mean", "argmax", "argmin", "any", "all")
Shape = tuple[Size, ...]


def call(elab: Elaborator, scope: Scope, node: ast.Call, expected: Shape | None) -> Value:
    """Evaluate a call. Raises Fault where the callee or an argument does not fit."""
    func = node.func
    if isinstance(func, ast.Subscript):
        if isinstance(func.base, ast.Name) and func.base.id in REDUCTIONS:
            from nnc.frontend import notation

            return notation.reduce(elab, scope, func.base.id, node)
        expected = given_shape(elab, scope, func)
        func = func.base
    callee = resolve(elab, scope, func)
    params, within = parameters_of(callee), _within(scope, callee, node)
    arguments = evaluate_arguments(elab, scope, node, params, within)
    return apply(elab, scope, callee, arguments, node, expected)


def rule(elab: Elaborator, scope: Scope, expr: ast.Expr) -> Value:
    """Evaluate what stands for a schedule or an optimizer, which have names of their own."""
    match expr:
        case ast.Call(func):
            callee = _rule_named(scope, func)
            if callee is None and isinstance(func, ast.Name) and not scope.find_callable(func.id):
                raise scope.unknown(func.id, func.span, "optimizer or schedule")
            if callee is not None:
                arguments = evaluate_arguments(elab, scope, expr, parameters_of(callee))
                return apply(elab, scope, callee, arguments, expr, None)
        case ast.IfExpr(condition, yes, no):
            chosen = elab.evaluate(condition, scope)
            if isinstance(chosen, Bool):
                return rule(elab, scope, yes if chosen.value else no)
        case ast.Name():
            found = scope.find(expr.id)
            if found is not None and found.kind == "declaration":
                return _rule_named(scope, expr) or found.value
    return elab.evaluate(expr, scope)


def _rule_named(scope: Scope, name: ast.Expr) -> Value | None:
    found: Binding | None = None
    match name:
        case ast.Name(id):
            found = scope.find_rule(id)
        case ast.Field(ast.Name(id), member):
            module = scope.find(id)
            if module is not None and isinstance(module.value, ModuleValue):
                found = module.value.scope.rules.get(member.text)
    return found.value if found is not None else None


def given_shape(elab: Elaborator, scope: Scope, node: ast.Subscript) -> Shape:
    """Return the dims of ``normal[batch, latent]()``."""
    dims: list[Size] = []
    for sub in node.subs:
        if isinstance(sub, ast.Rest):
            dims.extend(known_rest(scope, sub))
        elif isinstance(sub, ast.Slice):
            raise fault("E0206", "a slice is not a dim", sub.span)
        else:
            dims.append(known_dim(elab, scope, sub))
    if node.where is not None:
        raise fault("E0206", "only a reduction takes a `where`", node.where.span)
    return tuple(dims)


def resolve(elab: Elaborator, scope: Scope, func: ast.Expr) -> Value:
    """Return what a call calls: a name is looked up among what can be called."""
    if not isinstance(func, ast.Name):
        return elab.evaluate(func, scope)
    found = scope.find_callable(func.id)
    if found is not None:
        return found.value
    other = scope.find(func.id)
    if other is not None:
        raise fault(
            "E0218",
            f"{func.id} cannot be called",
            func.span,
            "called here",
            related=[(other.span, "bound here to something that is no function or layer")],
        )
    raise scope.unknown(func.id, func.span, "function or layer")


def parameters_of(callee: Value) -> tuple[ast.Parameter, ...]:
    """Return what the next call of ``callee`` gives values to."""
    match callee:
        case FunctionValue(decl):
            return decl.params
        case LayerValue(decl) | ScheduleValue(decl, _, None) | OptimizerValue(decl, _, None):
            return decl.config
        case ScheduleValue(decl):
            return decl.params
        case Instance(layer):
            return layer.decl.params
        case _:
            return ()


def evaluate_arguments(
    elab: Elaborator,
    scope: Scope,
    node: ast.Call | ast.Train,
    params: Sequence[ast.Parameter],
    within: Within | None = None,
) -> Arguments:
    """Evaluate the arguments of a call from left to right, each for its parameter.

    ``within`` gives the scope of an argument, by the name of its parameter.
    """
    types = {p.name.text: p.type for p in params}

    def given(expr: ast.Expr, name: str) -> Operand:
        home = within(scope, expr, name) if within is not None else scope
        return elab.argument(expr, home, types.get(name))

    placed = [*types, *("" for _ in node.args)]
    positional = tuple(given(a, name) for a, name in zip(node.args, placed, strict=False))
    named = {k.name.text: (k.name, given(k.value, k.name.text)) for k in node.kwargs}
    if len(named) < len(node.kwargs):
        texts = [k.name.text for k in node.kwargs]
        twice = next(k for k in node.kwargs if texts.count(k.name.text) > 1)
        raise fault("E0209", f"{twice.name} is given twice", twice.span)
    return Arguments(positional, named)


def pipe(elab: Elaborator, scope: Scope, node: ast.Pipe, expected: Shape | None) -> Value:
    """Evaluate ``x |> f |> g(a)``: each stage is applied to what comes before it."""
    operand = elab.operand(node.first, scope)
    for k, stage in enumerate(node.stages):
        last = k == len(node.stages) - 1
        value = _stage(elab, scope, stage, operand, expected if last else None)
        span = replace(node.span, end=stage.span.end)
        operand = Operand(value, span)
    return operand.value


def _stage(
    elab: Elaborator, scope: Scope, stage: ast.Expr, operand: Operand, expected: Shape | None
) -> Value:
    if isinstance(stage, ast.Call) and not isinstance(stage.func, ast.Subscript):
        callee = resolve(elab, scope, stage.func)
        params = parameters_of(callee)
        piped = 0 if isinstance(callee, LayerValue) else 1
        within = _within(scope, callee, stage)
        arguments = evaluate_arguments(elab, scope, stage, params[piped:], within)
        if isinstance(callee, LayerValue):
            made = instantiate(elab, scope, callee, arguments, stage)
            return apply(elab, scope, made, Arguments((operand,)), stage, expected)
        arguments = replace(arguments, positional=(operand, *arguments.positional))
        return apply(elab, scope, callee, arguments, stage, expected)
    callee = resolve(elab, scope, stage)
    if isinstance(callee, LayerValue):
        name = callee.decl.name.text
        raise fault(
            "E0218",
            f"{name} is a layer, which needs its config first",
            stage.span,
            "not yet an instance",
            hint=f"write {name}()" if _all_default(callee) else f"write {name}(...)",
        )
    return apply(elab, scope, callee, Arguments((operand,)), stage, expected)


def _all_default(layer: LayerValue) -> bool:
    return all(p.default is not None for p in layer.decl.config)


def apply(
    elab: Elaborator, scope: Scope, callee: Value, arguments: Arguments, site: ast.Expr,
    expected: Shape | None,
) -> Value:  # fmt: skip
    """Apply a callable value to arguments at the call ``site``."""
    if is_poisoned(callee):
        return POISON
    match callee:
        case LayerValue():
            return instantiate(elab, scope, callee, arguments, site)
        case ScheduleValue(_, _, None) | OptimizerValue(_, _, None):
            return configure(elab, callee, arguments, site.span)
        case _ if arguments.poisoned:
            return POISON
        case FunctionValue():
            return run_function(elab, scope, callee, arguments, site, expected)
        case Instance():
            return run_instance(elab, scope, callee, arguments, site)
        case ScheduleValue():
            return run_schedule(elab, scope, callee, arguments, site)
        case ConstantSchedule(rate):
            return _constant_schedule(rate, arguments, site)
        case BuiltinValue(name):
            return builtins.apply(elab, scope, name, arguments, site, expected)
    raise wrong_value("a function or a layer", callee, site.span)


# functions --------------------------------------------------------------------------------------


def run_function(
    elab: Elaborator, scope: Scope, function: FunctionValue, arguments: Arguments,
    site: ast.Expr, expected: Shape | None,
) -> Value:  # fmt: skip
    """Run a function's body on its arguments and check the result against its declared type."""
    decl = function.decl
    name = decl.name.text
    trace = scope.body.trace_of(site_name(scope, site) or name)
    body = body_of(elab, decl, function.home, "fn", None, trace)
    inner = Scope(body, function.home, box=scope.box if _on_elements(arguments) else None)
    with elab.applying(name, site.span):
        bind_tensors(elab, name, decl.params, inner, arguments, site.span)
        settle_results(elab, inner, decl.params, site)
        declare_results(elab, inner, results(decl.result), expected)
        given = {p.name.text: inner.names[p.name.text].value for p in decl.params}
        value = run_body(elab, inner, decl.body, decl.result, site.span)
        # Within a written gradient the derived one does: it is not differentiated again.
        if decl.gradient is not None and not elab.differentiating and not is_poisoned(value):
            from nnc.frontend.elaborate.gradient import with_gradient

            value = with_gradient(elab, inner, decl, given, value)
    return value


def _on_elements(arguments: Arguments) -> bool:
    """Whether an argument has a value only at one point of the notation around the call."""
    values = [o.value for o in arguments.positional]
    values += [o.value for _, o in arguments.named.values()]
    return any(
        (isinstance(v, Int) and v.is_index) or (isinstance(v, Element) and varies_over_box(v.expr))
        for v in values
    )


def body_of(
    elab: Elaborator, decl: ast.Fn | ast.Layer | ast.Optimizer | ast.Schedule, home: Scope,
    kind: Owner, path: str | None, trace: str,
) -> Body:  # fmt: skip
    """Return the body of a declaration, about to be run."""
    sites = elab.site_tables.get(decl)
    if sites is None:
        makers = _makers(decl)

        def layers(callee: ast.Expr) -> bool:
            own = isinstance(callee, ast.Name) and callee.id in makers
            return own or is_layer(home, callee)

        sites = elab.site_tables[decl] = site_names(decl.body, layers)
    return Body(f"{kind} {decl.name}", kind, path, trace, sites)


def _makers(decl: ast.Fn | ast.Layer | ast.Optimizer | ast.Schedule) -> set[str]:
    """Return the names of config that is a layer still without its own config."""
    lists = (*decl.params, *(() if isinstance(decl, ast.Fn) else decl.config))
    return {
        p.name.text
        for p in lists
        if isinstance(p.type, ast.TensorTypeExpr) and p.type.name.text == "layer"
    }


def is_layer(home: Scope, callee: ast.Expr) -> bool:
    """Whether what is called names a layer that is declared in the file or imported."""
    match callee:
        case ast.Name(id):
            found = home.find_callable(id)
            return found is not None and isinstance(found.value, LayerValue)
        case ast.Field(ast.Name(id), name):
            found = home.find(id)
            if found is None or not isinstance(found.value, ModuleValue):
                return False
            member = found.value.scope.names.get(name.text)
            return member is not None and isinstance(member.value, LayerValue)
        case _:
            return False


def site_name(scope: Scope, site: ast.Expr) -> str | None:
    """Return what the call at ``site`` is called in its body, None where it has no name."""
    found = scope.body.sites.get(site)
    if found is None and isinstance(site, ast.Call):
        return site_name(scope, site.func)
    return found if found is not None else called_name(site)


def run_body(
    elab: Elaborator, scope: Scope, body: ast.Block | ast.Expr, result: ast.TypeExpr | None,
    span: Span,
) -> Value:  # fmt: skip
    """Run a body and return its value, checked against the declared result."""
    from nnc.frontend.elaborate.statements import run_block

    declared = results(result)
    scope.body.result = declared
    if isinstance(body, ast.Block):
        value = run_block(elab, scope, body)
        if value is None:
            raise fault(
                "E0227", f"{scope.body.owner} returns nothing", span, "its value is needed here",
                related=[(body.span, "no return is reached here")],
            )  # fmt: skip
        return value
    operand = elab.operand(body, scope, expected_result(elab, scope, declared))
    return fit_results(elab, scope, declared, Operand(operand.value, body.span))


# layers -----------------------------------------------------------------------------------------


def instantiate(
    elab: Elaborator, scope: Scope, layer: LayerValue, arguments: Arguments, site: ast.Expr
) -> Instance:
    """Give a layer its config and its place: ``linear(10)``."""
    name = layer.decl.name.text
    inner = Scope(layer.home.body, layer.home)
    _config_is_first(layer, arguments, site.span)
    within = _within(scope, layer, site)
    config = bind_config(elab, name, layer.decl.config, inner, arguments, site.span, within)
    local = scope.body.sites.get(site) or name
    path = scope.body.path_of(local)
    if path is not None:
        elab.claim(path, site, site.span)
    return Instance(replace(layer, config=config), path, scope.body.place(local), site.span)


def _within(scope: Scope, callee: Value, site: ast.Expr) -> Within | None:
    """Return where layers lie that are made as the config of a layer called at ``site``."""
    if not isinstance(callee, LayerValue):
        return None
    holder = scope.body.path_of(scope.body.sites.get(site) or callee.decl.name.text)
    return lambda home, expr, name: lying_in(home, expr, name, holder, is_layer)


def _config_is_first(layer: LayerValue, arguments: Arguments, span: Span) -> None:
    name = layer.decl.name.text
    if any(isinstance(o.value, Tensor) for o in arguments.positional):
        raise fault(
            "E0218",
            f"{name} is a layer, which needs its config before it is applied",
            span,
            "a tensor among the config",
            hint=f"write {name}({'...' if layer.decl.config else ''})(x)",
        )


def run_instance(
    elab: Elaborator, scope: Scope, instance: Instance, arguments: Arguments, site: ast.Expr
) -> Value:
    """Apply an instance: run its layer's body with its config and parameters."""
    layer = instance.layer
    decl = layer.decl
    local = scope.body.sites.get(site)
    trace = scope.body.trace_of(local) if local is not None else _joined_trace(scope, instance)
    body = body_of(elab, decl, layer.home, "layer", instance.path, trace)
    inner = Scope(body, layer.home, box=scope.box)
    if scope.box is not None:
        raise fault(
            "E0202",
            f"the layer {decl.name} is applied inside index notation",
            site.span,
            "a layer takes whole tensors",
            hint="apply it before, and subscript what it gives",
        )
    with elab.applying(decl.name.text, site.span), elab.running(instance.path):
        for param in decl.config:
            assert layer.config is not None
            inner.bind(param.name, layer.config[param.name.text], "config")
        bind_tensors(elab, decl.name.text, decl.params, inner, arguments, site.span)
        settle_results(elab, inner, (*decl.config, *decl.params), site)
        return run_body(elab, inner, decl.body, decl.result, site.span)


def _joined_trace(scope: Scope, instance: Instance) -> str:
    return f"{scope.body.trace}.{instance.site}" if scope.body.trace else instance.site


# schedules --------------------------------------------------------------------------------------


def run_schedule(
    elab: Elaborator, scope: Scope, schedule: ScheduleValue, arguments: Arguments, site: ast.Expr
) -> Value:
    """Apply a schedule with its config to a time, which is a decimal even where it is whole."""
    decl = schedule.decl
    arguments = replace(arguments, positional=tuple(map(_decimal, arguments.positional)))
    name = decl.name.text
    assert schedule.config is not None
    body = body_of(elab, decl, schedule.home, "schedule", None, scope.body.trace_of(name))
    inner = Scope(body, schedule.home, box=scope.box)
    with elab.applying(name, site.span):
        for param in decl.config:
            inner.bind(param.name, schedule.config[param.name.text], "config")
        bind_tensors(elab, name, decl.params, inner, arguments, site.span)
        return run_body(elab, inner, decl.body, None, site.span)


def _decimal(operand: Operand) -> Operand:
    value = operand.value
    if isinstance(value, Int) and isinstance(value.size, int):
        return replace(operand, value=Float(float(value.size)))
    return operand


def _constant_schedule(rate: float, arguments: Arguments, site: ast.Expr) -> Value:
    if len(arguments.positional) != 1 or arguments.named:
        raise fault("E0209", "a schedule takes the time and nothing else", site.span)
    return Float(rate)
