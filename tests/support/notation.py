"""Runs statements of index notation on arrays, through the elaborator and the interpreter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnc.frontend import ast, notation
from nnc.frontend.diagnostics import Diagnostic
from nnc.frontend.elaborate.builtins import NAMES
from nnc.frontend.elaborate.elaborator import Elaborator
from nnc.frontend.elaborate.faults import Fault
from nnc.frontend.elaborate.scope import Binding, Body, Scope
from nnc.frontend.elaborate.values import BuiltinValue, Int, Tensor, Value
from nnc.frontend.parser import parse
from nnc.frontend.rendering import render
from nnc.frontend.source import Source
from nnc.ir import build
from nnc.ir.graph import Form, Graph, Node, Output
from nnc.ir.index import Size, dim
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.types import DType, TensorType
from nnc.ir.verify import verify

DTYPES = {d.numpy: d for d in DType if d is not DType.BF16}


@dataclass
class Ran:
    """What statements made: nodes by name, and their values."""

    nodes: dict[str, Node]
    values: dict[str, np.ndarray[Any, Any]]

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        return self.values[name]

    def form(self, name: str) -> Form:
        """The form that a name was bound to."""
        op = self.nodes[name].op
        assert isinstance(op, Form)
        return op


class Program:
    """Statements in a scope: ``tensors`` are (array, dims); a dim given as text is symbolic."""

    def __init__(
        self,
        tensors: Mapping[str, tuple[Any, Sequence[Size | str]]],
        config: Mapping[str, int] | None = None,
        facts: Iterable[Size] = (),
    ) -> None:
        self.elab = Elaborator(DType.F64)
        self.elab.facts = self.elab.facts.assume(facts)
        functions = {name: Binding(BuiltinValue(name), None, "declaration") for name in NAMES}
        self.scope = Scope(Body("fn f", "fn", None, ""), names=functions)
        self.leaves: dict[tuple[str, str], np.ndarray[Any, Any]] = {}
        for name, (data, shape) in tensors.items():
            array = np.asarray(data)
            for part in shape:
                if isinstance(part, str):
                    self.scope.names[part] = Binding(Int(dim(part)), None, "dim")
            sizes = tuple(dim(s) if isinstance(s, str) else s for s in shape)
            node = build.leaf("input", name, TensorType(DTYPES[array.dtype], sizes))
            self.leaves["input", name] = array
            self.scope.names[name] = Binding(Tensor(node), None)
        for name, value in (config or {}).items():
            self.scope.names[name] = Binding(Int(value), None, "config")

    def elaborate(self, text: str) -> dict[str, Value]:
        """Bind what the statements define. Raises Fault."""
        function = parse(in_function(text)).items[0]
        assert isinstance(function, ast.Fn)
        assert isinstance(function.body, ast.Block)
        made: dict[str, Value] = {}
        for statement in function.body.statements:
            match statement:
                case ast.Define(name):
                    made[name.text] = notation.define(self.elab, self.scope, statement)
                case ast.Bind((target,), value):
                    made[target.name.text] = self.elab.evaluate(value, self.scope)
                    self.scope.bind(target.name, made[target.name.text])
        return made

    def run(self, text: str) -> Ran:
        """Elaborate statements and compute what they bind."""
        made = self.elaborate(text)
        nodes = {name: v.node for name, v in made.items() if isinstance(v, Tensor)}
        outputs = tuple(Output("output", name, node) for name, node in nodes.items())
        verify(Graph("t", outputs, self.elab.facts.nonneg), bounds=True)
        values = evaluate_nodes(list(nodes.values()), self.leaves)
        return Ran(nodes, dict(zip(nodes, values, strict=True)))

    def fault(self, text: str) -> tuple[Diagnostic, str, Source]:
        """The fault that the statements have, how it is shown, and the source it is in."""
        source = in_function(text)
        try:
            self.elaborate(text)
        except Fault as found:
            return found.diagnostic, render(found.diagnostic, {source.name: source}), source
        raise AssertionError("no fault")


def in_function(text: str) -> Source:
    """A file that holds the statements as the body of a function."""
    lines = "\n".join("    " + line for line in text.strip().splitlines())
    return Source("t.nn", f"fn f(q: float) {{\n{lines}\n    return q\n}}\n")
