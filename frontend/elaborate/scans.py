"""``scan``: a loop in the compiled program, whose turns hand state on.

The body is run once, on carries and a counter that stand for those of any turn; what depends on
them is the loop's, whatever else is written in it is computed once, outside. Buffers that the body
updates are carried too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand, natural_type, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import Cascade, fault
from nnc.frontend.elaborate.results import expected_result, fit
from nnc.frontend.elaborate.scope import Binding, Scope
from nnc.frontend.elaborate.types import at_least, equal, type_name
from nnc.frontend.elaborate.values import (
    POISON,
    Bool,
    Element,
    Float,
    Int,
    ListValue,
    Tensor,
    TupleValue,
    Value,
    describe,
    is_poisoned,
)
from nnc.ir import build
from nnc.ir.graph import Form, Loop, Node, postorder
from nnc.ir.index import Size, counters_of
from nnc.ir.model import Named
from nnc.ir.regions import dependence
from nnc.ir.scan import Results, carry_leaf, fresh_loop
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator

LIVE = "until"


def scan(elab: Elaborator, scope: Scope, node: ast.Scan, wanted: bool) -> Value:
    """Run a scan; its stacked yields are the value, and carried names hold their last values.

    Raises Fault where it is wrong.
    """
    if scope.box is not None:
        raise fault("E0202", "a scan stands inside index notation", node.span,
                    "its value is a whole tensor", hint="bind it to a name before")  # fmt: skip
    return _Scan(elab, scope, node, wanted).run()


@dataclass(slots=True)
class _Scan:
    elab: Elaborator
    scope: Scope
    node: ast.Scan
    wanted: bool

    def run(self) -> Value:
        elab, node = self.elab, self.node
        extent = self._extent()
        inits = {c.name.text: self._init(c) for c in node.carry}
        if any(init is None for init in inits.values()):
            raise Cascade
        first = {name: init for name, init in inits.items() if init is not None}
        before, updates = dict(elab.current), dict(elab.updates)
        faults = len(elab.diagnostics)
        turn = self._turn(extent, first, {})
        updated = {p: n for p, n in elab.current.items() if p in elab.updates}
        changed = [p for p, n in updated.items() if elab.updates.get(p) is not updates.get(p) and n]
        if changed and len(elab.diagnostics) == faults:
            # The body is run again on what these buffers are as a turn begins.
            elab.current, elab.updates = before, updates
            buffers = {p: self._buffer(p) for p in changed}
            turn = self._turn(extent, first, buffers)
        return turn.finish()

    @property
    def _header(self) -> Span:
        """Where it says that this is a scan."""
        return replace(self.node.span, end=self.node.bound.span.end)

    def _extent(self) -> Size:
        value = self.elab.evaluate(self.node.bound, self.scope)
        span = self.node.bound.span
        if not isinstance(value, Int):
            raise wrong_value("a whole number known in sizes", value, span)
        if counters_of(value.size):
            raise fault("E0241", "how often a scan turns cannot depend on another's turn", span,
                        f"{value.size} differs from turn to turn")  # fmt: skip
        if not at_least(value.size, 0, self.elab.facts):
            raise fault(
                "E0211", f"a scan of {value.size} turns", span, "not known to be at least 0"
            )
        return value.size

    def _init(self, carry: ast.Parameter) -> Node | None:
        if carry.default is None:
            raise fault("E0240", f"{carry.name} is carried from nothing", carry.span,
                        hint=f"give its first value: {carry.name} = ...")  # fmt: skip
        elab, scope = self.elab, self.scope
        old = scope.home.names.get(carry.name.text)
        if old is not None and old.kind in ("dim", "config", "index"):
            raise fault("E0216", f"{carry.name} is bound already", carry.name.span,
                        related=[(old.span, "bound here")])  # fmt: skip
        expected = None
        if carry.type is not None:
            expected = expected_result(elab, scope, (carry.type,))
        value = elab.evaluate(carry.default, scope, expected)
        if is_poisoned(value):
            return None
        operand = Operand(value, carry.default.span)
        if carry.type is not None:
            operand = Operand(fit(elab, scope, carry.type, operand), carry.default.span)
        dtype = natural_type(elab, operand.value)
        if dtype is None:
            raise wrong_value("a tensor or a number", value, carry.default.span)
        return to_node(elab, operand, dtype)

    def _buffer(self, path: str) -> Node:
        known = self.elab.parameters[path]
        return self.elab.current.get(path) or self.elab.leaf("state", path, known.type)

    def _turn(self, extent: Size, inits: Mapping[str, Node], buffers: Mapping[str, Node]) -> _Turn:
        """Run the body once, for any turn."""
        node, elab, span = self.node, self.elab, self._header
        names = [*inits, *(f"buffer{k}" for k in range(len(buffers)))]
        firsts = [*inits.values(), *buffers.values()]
        until = node.until is not None
        if until:
            names.append(LIVE)
            firsts.append(build.full((), True, DType.BOOL, span))
        loop = Loop(fresh_loop(node.index.text), extent, tuple(names), node.reverse, until)
        leaves = {
            name: carry_leaf(loop.name, name, init.type, span)
            for name, init in zip(names, firsts, strict=True)
        }
        inner = self._inner(loop, leaves, inits)
        for path, name in zip(buffers, names[len(inits) :], strict=False):
            elab.current[path] = leaves[name]
            self._rebind(inner, path, leaves[name])
        with self._around(loop):
            yields, end = self._body(inner)
        nexts = [self._next(inner, c, leaves[c.name.text]) for c in node.carry]
        nexts += [elab.current[p] for p in buffers]
        if until:
            nexts.append(self._live(end, leaves[LIVE]))
            nexts = [
                self._while(leaves[LIVE], n, leaves[c]) if c != LIVE else n
                for c, n in zip(names, nexts, strict=True)
            ]
            zeros = (build.full((), y.type.dtype.zero, y.type.dtype, y.span) for y in yields)
            yields = [self._while(leaves[LIVE], y, z) for y, z in zip(yields, zeros, strict=True)]
        self._check_sizes(loop, [*nexts, *yields])
        return _Turn(self, Results(loop, firsts, nexts, span), yields, tuple(buffers))

    def _inner(self, loop: Loop, leaves: Mapping[str, Node], carried: Mapping[str, Node]) -> Scope:
        """The scope of the body: names bound in it are its own."""
        index = self.node.index
        home = self.scope.home
        taken = home.names.get(index.text)
        if taken is not None and taken.kind != "value":
            raise fault("E0216", f"{index} is bound already", index.span,
                        related=[(taken.span, "bound here")])  # fmt: skip
        inner = Scope(self.scope.body, home.parent, dict(home.names), dict(home.rules))
        inner.opened, inner.incomplete = list(home.opened), home.incomplete
        inner.names[index.text] = Binding(Int(loop.counter), index.span, "index")
        for carry in self.node.carry:
            if carry.name.text in carried:
                value = Tensor(leaves[carry.name.text])
                inner.names[carry.name.text] = Binding(value, carry.name.span)
        return inner

    def _rebind(self, scope: Scope, path: str, node: Node) -> None:
        """Let the name of a buffer stand for what it is now."""
        for name, binding in scope.names.items():
            if binding.kind == "buffer" and scope.body.path_of(name) == path:
                scope.names[name] = replace(binding, value=Tensor(node))

    @contextmanager
    def _around(self, loop: Loop) -> Iterator[None]:
        elab, body = self.elab, self.scope.body
        turn, yields = elab.turn, body.yields
        elab.turn = (turn or 0) * loop.extent + loop.counter
        body.yields = []
        try:
            yield
        finally:
            elab.turn, body.yields = turn, yields

    def _body(self, inner: Scope) -> tuple[list[Node], Operand | None]:
        from nnc.frontend.elaborate.statements import run_block

        elab, node, body = self.elab, self.node, self.scope.body
        elab.spend(node.span)
        if run_block(elab, inner, node.body) is not None:
            if len(elab.diagnostics):
                raise Cascade
            raise fault("E0217", "return cannot leave a scan", self._header)
        found = list(body.yields or [])
        if len(found) > 1 or (self.wanted and not found):
            raise fault("E0217", "each turn yields once", self._header, f"{len(found)} yields")
        values: tuple[Value, ...] = ()
        for value in found:
            values = value.items if isinstance(value, TupleValue) else (value,)
        if is_poisoned(*values):
            raise Cascade
        operands = [Operand(v, node.span) for v in values]
        nodes = [to_node(elab, o, natural_type(elab, o.value)) for o in operands]
        end = elab.operand(node.until, inner) if node.until is not None else None
        return nodes, end

    def _next(self, inner: Scope, carry: ast.Parameter, leaf: Node) -> Node:
        """What a carry is after a turn: of the type and shape that it was given."""
        elab, binding = self.elab, inner.names[carry.name.text]
        value, span = binding.value, binding.span or carry.span
        if is_poisoned(value):
            raise Cascade
        type = leaf.type
        scalar = isinstance(value, Int | Float | Bool | Element | ListValue)
        fits = scalar and not type.shape
        if isinstance(value, Tensor):
            fits = value.dtype is type.dtype and len(value.shape) == len(type.shape)
            fits = fits and all(
                equal(a, b, elab.facts) for a, b in zip(value.shape, type.shape, strict=True)
            )
        if not fits:
            raise fault(
                "E0240",
                f"{carry.name} is {type_name(type)} as a turn begins and {describe(value)} "
                "as it ends",
                span,
                f"this is {describe(value)}",
                related=[(carry.span, f"it begins as {type_name(type)}")],
                notes=["what a scan carries keeps its type and shape"],
            )
        node = to_node(elab, Operand(value, span), type.dtype)
        if node.type != type:
            node = build.form(
                axes := build.axes_for(type.shape),
                here := build.subscripts(axes),
                build.read(node, 0, *here),
                (node,),
                type.shape,
            )
        return node

    def _live(self, end: Operand | None, live: Node) -> Node:
        """Whether there is a further turn."""
        assert end is not None
        if is_poisoned(end.value):
            raise Cascade
        known = isinstance(end.value, Bool | Element | Tensor)
        if not known or natural_type(self.elab, end.value) is not DType.BOOL:
            raise wrong_value("one truth value", end.value, end.span)
        node = to_node(self.elab, end, DType.BOOL)
        if node.type.shape:
            raise wrong_value("one truth value", end.value, end.span, "write all(...) or any(...)")
        return build.elementwise("and", live, build.elementwise("not", node))

    def _while(self, live: Node, value: Node, other: Node) -> Node:
        """``value`` as long as the scan has not ended, then ``other``."""
        return build.elementwise("select", live, value, other, span=value.span, name=value.name)

    def _check_sizes(self, loop: Loop, nodes: list[Node]) -> None:
        """Refuse tensors whose size differs from turn to turn."""
        order = postorder(nodes)
        depends = dependence(order)
        for node in order:
            if loop.name not in depends[node]:
                continue
            extents = [n for _, n in node.op.axes] if isinstance(node.op, Form) else []
            for size in (*node.type.shape, *extents):
                if loop.name in counters_of(size):
                    raise fault(
                        "E0241",
                        f"a size in a scan depends on its turn: {size}",
                        node.span or self.node.span,
                        "of another size in each turn",
                        related=[(self.node.index.span, "the turn")],
                        hint=f"use a filter: sum[j where j < {self.node.index}](...)",
                    )


@dataclass(slots=True)
class _Turn:
    """A body that was run, and what is left to do."""

    of: _Scan
    results: Results
    yields: list[Node]
    buffers: tuple[str, ...]

    def finish(self) -> Value:
        """Bind the carries' last values; return the stacked yields."""
        node, elab, scope = self.of.node, self.of.elab, self.of.scope
        for carry in node.carry:
            name = carry.name
            value = Tensor(self.results.last(name.text, name.text))
            scope.home.names[name.text] = Binding(value, name.span)
        for k, path in enumerate(self.buffers):
            last = self.results.last(f"buffer{k}", path)
            elab.current[path] = last
            elab.updates[path] = Named(path, last, elab.updates[path].span)
            self.of._rebind(scope.home, path, last)
        if not self.of.wanted:
            return POISON
        values = tuple(Tensor(self.results.stack(y)) for y in self.yields)
        return values[0] if len(values) == 1 else TupleValue(values)
