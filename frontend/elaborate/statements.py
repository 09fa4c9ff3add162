"""Statements: each is run once; one that is wrong is reported, and its names become ``Poison``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.arrangement import stacked
from nnc.frontend.elaborate.convert import Operand, natural_type, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import Fault, fault
from nnc.frontend.elaborate.held import declare_buffer, declare_param, update
from nnc.frontend.elaborate.operators import truth
from nnc.frontend.elaborate.parameters import count
from nnc.frontend.elaborate.requirements import require
from nnc.frontend.elaborate.results import expected_result, fit, fit_results
from nnc.frontend.elaborate.scans import scan
from nnc.frontend.elaborate.scope import Binding
from nnc.frontend.elaborate.values import (
    POISON,
    Bool,
    Element,
    Int,
    Tensor,
    TupleValue,
    Value,
    describe,
    is_poisoned,
)
from nnc.ir.graph import Leaf, Node

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope

MOST_REPEATS = 10_000


def run_block(elab: Elaborator, scope: Scope, block: ast.Block) -> Value | None:
    """Run statements in order; return what is returned, None where the end is reached."""
    for statement in block.statements:
        try:
            value = run(elab, scope, statement)
        except Fault as error:
            elab.report(error)
            value = recover(scope, statement)
        if elab.observer is not None:
            elab.observer.ran(statement, scope)
        if value is not None:
            return value
    return None


def recover(scope: Scope, statement: ast.Stmt) -> Value | None:
    """Bind what a wrong statement would have bound; return Poison where it might have returned."""
    for name in bound_names(statement):
        scope.home.names[name.text] = Binding(POISON, name.span)
    # what follows an unmet requirement is made for another use
    returns = isinstance(statement, ast.Require) and scope.body.kind in ("fn", "layer")
    returns = returns or any(isinstance(n, ast.Return) for n in ast.walk(statement))
    if any(isinstance(n, ast.Yield) for n in ast.walk(statement)) and scope.body.yields is not None:
        scope.body.yields.append(POISON)
    return POISON if returns else None


def bound_names(statement: ast.Stmt) -> Iterator[ast.Ident]:
    """Yield the names that a statement binds, those inside its blocks too."""
    for node in ast.walk(statement):
        match node:
            case ast.Bind(targets):
                yield from (t.name for t in targets)
            case ast.Define(name) | ast.PortDecl(_, name) | ast.ParamDecl(name):
                yield name
            case ast.BufferDecl(name) | ast.StateDecl(name) | ast.Output(name):
                yield name
            case _:
                pass


def run(elab: Elaborator, scope: Scope, statement: ast.Stmt) -> Value | None:
    """Run one statement; return a value only where it returns. Raises Fault where it is wrong."""
    match statement:
        case ast.Bind():
            bind(elab, scope, statement)
        case ast.Define():
            define(elab, scope, statement)
        case ast.Return(value):
            if scope.body.kind in ("model", "test"):
                raise fault("E0217", f"a {scope.body.kind} returns nothing", statement.span)
            expected = expected_result(elab, scope, scope.body.result)
            operand = elab.operand(value, scope, expected)
            return fit_results(elab, scope, scope.body.result, Operand(operand.value, value.span))
        case ast.IfBlock():
            return branch(elab, scope, statement)
        case ast.Repeat():
            repeat(elab, scope, statement, wanted=False)
        case ast.Yield(value):
            if scope.body.yields is None:
                raise fault("E0217", "yield stands only in a repeat or a scan", statement.span)
            scope.body.yields.append(elab.evaluate(value, scope))
        case ast.Require():
            require(elab, scope, statement)
        case ast.ParamDecl():
            declare_param(elab, scope, statement)
        case ast.BufferDecl():
            declare_buffer(elab, scope, statement)
        case ast.Update():
            update(elab, scope, statement)
        case ast.StateDecl():
            if scope.body.state is None:
                raise _misplaced("state", "an optimizer", statement)
            scope.bind(statement.name, scope.body.state(statement, scope))
        case ast.PortDecl() | ast.Output() | ast.Loss() | ast.Metric():
            if scope.body.model is None:
                raise _misplaced(_word(statement), "a model", statement)
            if elab.turn is not None:
                raise fault("E0217", f"{_word(statement)} inside a scan", statement.span,
                            "declared once, not in each turn")  # fmt: skip
            scope.body.model.declare(elab, scope, statement)
        case ast.Scan():
            scan(elab, scope, statement, wanted=False)
        case ast.Assert():
            raise _misplaced("assert", "a test", statement)
        case ast.Hole():
            raise fault("E0230", "this is left to be written", statement.span)
    return None


def _word(statement: ast.PortDecl | ast.Output | ast.Loss | ast.Metric) -> str:
    return (
        statement.kind if isinstance(statement, ast.PortDecl) else type(statement).__name__.lower()
    )


def _misplaced(word: str, home: str, statement: ast.Stmt) -> Fault:
    return fault("E0217", f"{word} stands only in {home}", statement.span, "misplaced here")


# bindings ---------------------------------------------------------------------------------------


def bind(elab: Elaborator, scope: Scope, statement: ast.Bind) -> None:
    """Run ``a = value`` or ``a, b = values``."""
    targets = statement.targets
    expected = None
    if len(targets) == 1 and targets[0].type is not None:
        expected = expected_result(elab, scope, (targets[0].type,))
    value = elab.evaluate(statement.value, scope, expected)
    values: Sequence[Value] = (value,)
    if len(targets) > 1:
        values = _unpack(value, statement)
    for target, part in zip(targets, values, strict=True):
        bound = part
        if target.type is not None:
            bound = fit(elab, scope, target.type, Operand(part, statement.value.span))
        scope.bind(target.name, named(bound, target.name))


def define(elab: Elaborator, scope: Scope, statement: ast.Define) -> None:
    """Run ``name[subs] = expr``.

    In a function that works on elements, ``y[..] = ...`` defines an element: there are no dims.
    """
    if scope.box is not None and all(isinstance(s, ast.Rest) for s in statement.subs):
        scope.bind(statement.name, elab.evaluate(statement.value, scope))
        return
    from nnc.frontend import notation

    notation.define(elab, scope, statement)


def _unpack(value: Value, statement: ast.Bind) -> Sequence[Value]:
    n = len(statement.targets)
    if is_poisoned(value) and not isinstance(value, TupleValue):
        return [POISON] * n
    if not isinstance(value, TupleValue) or len(value.items) != n:
        raise fault(
            "E0226",
            f"{count(n, 'name')} for {describe(value)}",
            statement.value.span,
            f"{count(n, 'value')} needed here",
        )
    return value.items


def named(value: Value, name: ast.Ident) -> Value:
    """Give a node the name that it is bound to, unless it has one."""
    if not isinstance(value, Tensor) or value.node.name or isinstance(value.node.op, Leaf):
        return value
    node = value.node
    return Tensor(Node(node.op, node.inputs, node.type, node.span, name.text))


# compile-time control flow ----------------------------------------------------------------------


def branch(elab: Elaborator, scope: Scope, statement: ast.IfBlock) -> Value | None:
    """Run the side of a block ``if`` that config, sizes and ``training`` choose."""
    condition = elab.operand(statement.condition, scope)
    value = condition.value
    if is_poisoned(value):
        return recover(scope, statement)
    truth(condition)
    if not isinstance(value, Bool):
        span = statement.condition.span
        if isinstance(value, Element):
            raise fault(
                "E0213",
                "the sizes do not settle this condition",
                span,
                "a block `if` is decided at compile time",
                hint="`require` what every call keeps to, or use `if ... then ... else ...`",
            )
        raise fault(
            "E0213",
            "a block `if` is decided at compile time, before there is data",
            span,
            f"this is {describe(value)}",
            hint="write x = if ... then ... else ...",
        )
    chosen = statement.then if value.value else statement.otherwise
    return run_block(elab, scope, chosen) if chosen is not None else None


def repeat(elab: Elaborator, scope: Scope, node: ast.Repeat, wanted: bool) -> Value:
    """Run a block for each value of its index; its yields, stacked, are the value."""
    bound = elab.evaluate(node.bound, scope)
    times = bound.size if isinstance(bound, Int) else None
    if not isinstance(times, int):
        if isinstance(bound, Int):
            raise fault(
                "E0213", f"how often to repeat must be known at compile time, not {bound.size}",
                node.bound.span, hint="scan runs over symbolic dims",
            )  # fmt: skip
        raise wrong_value("a whole number known at compile time", bound, node.bound.span)
    if times > MOST_REPEATS:
        raise fault("E0219", f"{times} repeats", node.bound.span, f"at most {MOST_REPEATS}")
    body = scope.body
    outer, outer_yields = body.loops, body.yields
    per_turn: list[list[Value]] = []
    shadowed = scope.home.names.pop(node.index.text, None)
    if shadowed is not None and shadowed.kind != "value":
        scope.home.names[node.index.text] = shadowed
        raise fault("E0216", f"{node.index} is bound already", node.index.span,
                    related=[(shadowed.span, "bound here")])  # fmt: skip
    try:
        for i in range(times):
            scope.home.names[node.index.text] = Binding(Int(i), node.index.span, "index")
            elab.spend(node.span)
            body.loops = (*outer, i)
            body.yields = []
            if run_block(elab, scope, node.body) is not None:
                raise fault("E0217", "return cannot leave a repeat", node.span)
            per_turn.append(body.yields)
    finally:
        body.loops, body.yields = outer, outer_yields
        scope.home.names.pop(node.index.text, None)
    return _stack_yields(elab, node, per_turn) if wanted else POISON


def _stack_yields(elab: Elaborator, node: ast.Repeat, per_turn: list[list[Value]]) -> Value:
    turns: list[tuple[Value, ...]] = []
    for yields in per_turn:
        if len(yields) != 1:
            raise fault("E0217", "each turn yields once", node.span, f"{len(yields)} yields")
        (value,) = yields
        turns.append(value.items if isinstance(value, TupleValue) else (value,))
    if not turns:
        raise fault("E0211", "a repeat of no turns has no yields to stack", node.span)
    if any(is_poisoned(*turn) for turn in turns):
        return POISON
    if len({len(turn) for turn in turns}) != 1:
        raise fault("E0226", "each turn must yield as many values", node.span)
    results: list[Value] = []
    for values in zip(*turns, strict=True):
        operands = [Operand(v, node.span) for v in values]
        nodes = [to_node(elab, o, natural_type(elab, o.value)) for o in operands]
        results.append(Tensor(stacked(elab, nodes, None, operands[0], node.span)))
    return results[0] if len(results) == 1 else TupleValue(tuple(results))
