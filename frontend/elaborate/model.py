"""Models: ports, losses, metrics and outputs; both modes of one model as graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from nnc.frontend import ast
from nnc.frontend.diagnostics import Diagnostic, Diagnostics, SourceError
from nnc.frontend.elaborate.calls import is_layer
from nnc.frontend.elaborate.convert import Operand, to_node
from nnc.frontend.elaborate.elaborator import (
    Elaborator,
    Observer,
    deep_python,
    wrong_value,
)
from nnc.frontend.elaborate.element_types import element_type
from nnc.frontend.elaborate.faults import Fault, did_you_mean, fault
from nnc.frontend.elaborate.files import Loader
from nnc.frontend.elaborate.multiples import Multiples
from nnc.frontend.elaborate.needs import settle_uses, targets_needed
from nnc.frontend.elaborate.parameters import Arguments, bind_config
from nnc.frontend.elaborate.scope import Body, Scope
from nnc.frontend.elaborate.settings import config_arguments, precision_type, settled_config
from nnc.frontend.elaborate.shapes import LARGEST, declared_shape, pattern
from nnc.frontend.elaborate.sites import site_names
from nnc.frontend.elaborate.statements import named, run_block
from nnc.frontend.elaborate.types import type_name, working
from nnc.frontend.elaborate.values import Int, Poison, Tensor, Value, is_poisoned
from nnc.frontend.source import Source
from nnc.ir import build
from nnc.ir.graph import Node
from nnc.ir.index import Size
from nnc.ir.model import Mode, Model, Named, Port, Requirement
from nnc.ir.span import Span
from nnc.ir.types import TensorType


@dataclass(slots=True)
class ModelBuilder:
    """Collects what the statements of a model declare, in one mode."""

    multiples: Multiples
    ports: dict[str, Port] = field(default_factory=dict)
    dims: dict[str, Span] = field(default_factory=dict)
    losses: dict[str, Named] = field(default_factory=dict)
    metrics: dict[str, Named] = field(default_factory=dict)
    outputs: dict[str, Named] = field(default_factory=dict)

    def declare(
        self,
        elab: Elaborator,
        scope: Scope,
        statement: ast.PortDecl | ast.Output | ast.Loss | ast.Metric,
    ) -> None:
        """Run one declaring statement. Raises Fault where it does not fit."""
        match statement:
            case ast.PortDecl():
                self._port(elab, scope, statement)
            case ast.Output(name, value):
                found = scope.find(name.text) if value is None else None
                if value is None and found is None:
                    raise scope.unknown(name.text, name.span)
                result = found.value if found else elab.evaluate(value, scope) if value else None
                assert result is not None
                node = self._keep(elab, self.outputs, name, result, statement, "output")
                if value is not None:
                    scope.bind(name, Tensor(node) if node is not None else Poison())
            case ast.Loss(name, value):
                ident = name or ast.Ident(self._loss_name(), span=value.span)
                self._scalar(elab, scope, self.losses, ident, value, "loss")
            case ast.Metric(name, value):
                self._scalar(elab, scope, self.metrics, name, value, "metric")

    def _loss_name(self) -> str:
        taken = self.losses
        return next(
            name
            for k in range(1, len(taken) + 2)
            if (name := "loss" if k == 1 else f"loss_{k}") not in taken
        )

    def _scalar(
        self, elab: Elaborator, scope: Scope, into: dict[str, Named], name: ast.Ident,
        expr: ast.Expr, word: str,
    ) -> None:  # fmt: skip
        value = elab.evaluate(expr, scope)
        node = self._keep(elab, into, name, value, expr, word)
        if node is None:
            return
        if node.type.shape:
            raise fault(
                "E0228",
                f"a {word} is one number",
                expr.span,
                f"this is {type_name(node.type)}",
                hint=f"average it: mean({'...' if not isinstance(expr, ast.Name) else expr.id})",
            )
        if word == "loss" and not node.type.dtype.is_float:
            found = f"this is {type_name(node.type.dtype)}"
            raise fault("E0228", "a loss is a decimal", expr.span, found,
                        hint="convert it: float(...)")  # fmt: skip

    def _keep(
        self, elab: Elaborator, into: dict[str, Named], name: ast.Ident, value: Value,
        where: ast.Node, word: str,
    ) -> Node | None:  # fmt: skip
        if is_poisoned(value):
            return None
        other = {"loss": self.metrics, "metric": self.losses}.get(word, {})
        taken = into.get(name.text) or other.get(name.text)
        if taken is not None:
            both = f"two {word}s are" if name.text in into else "a loss and a metric are both"
            raise fault("E0222", f"{both} called {name}", name.span, "the second",
                        related=[(taken.span, "the first")])  # fmt: skip
        span = where.value.span if isinstance(where, ast.Output) and where.value else where.span
        node = to_node(elab, Operand(value, span, name.text))
        bound = named(Tensor(node), name)
        assert isinstance(bound, Tensor)
        into[name.text] = Named(name.text, bound.node, name.span)
        return bound.node

    # ports ----------------------------------------------------------------------------------------

    def _port(self, elab: Elaborator, scope: Scope, statement: ast.PortDecl) -> None:
        name = statement.name
        declared = statement.type
        if scope.body.loops:
            raise fault("E0217", f"an {statement.kind} inside a repeat", statement.span)
        if name.text in self.ports:
            raise fault("E0222", f"{name} is declared twice", name.span, "the second",
                        related=[(self.ports[name.text].span, "the first")])  # fmt: skip
        if not isinstance(declared, ast.TensorTypeExpr):
            raise fault("E0206", f"an {statement.kind} is a tensor", declared.span)
        dtype = element_type(elab, declared)
        for d in declared.dims or ():
            if isinstance(d, ast.Name) and scope.find(d.id) is None:
                self._symbol(elab, scope, d)
            elif isinstance(d, ast.Rest):
                raise fault("E0206", f"an {statement.kind} has a fixed number of dims", d.span)
        shape = declared_shape(elab, scope, pattern(declared.dims or (), declared.span))
        type = TensorType(dtype, shape)
        if prod(d for d in shape if isinstance(d, int)) > LARGEST:
            raise fault(
                "E0211", f"{type_name(type)} is too large", declared.span,
                f"more than {LARGEST:,} elements at any batch",
            )  # fmt: skip
        low, high = (self._limit(elab, scope, e) for e in (statement.low, statement.high))
        if low is not None and not dtype.is_int:
            raise fault(
                "E0206", f"only whole numbers have a range, not {type_name(dtype)}", declared.span
            )
        actual = TensorType(dtype, tuple(self.multiples.actual(d) for d in shape))
        port = Port(name.text, actual, statement.kind, low, high, name.span)
        self.ports[name.text] = port
        leaf = elab.leaf("input", name.text, actual, name.span)
        scope.bind(name, Tensor(self._aligned(leaf, type, name)))

    def _aligned(self, leaf: Node, type: TensorType, name: ast.Ident) -> Node:
        """Return the port at the size that the requirements give it."""
        if leaf.type == type:
            return leaf
        axes = build.axes_for(type.shape)
        here = build.subscripts(axes)
        body = build.read(leaf, 0, *here)
        return build.form(axes, here, body, (leaf,), type.shape, span=name.span, name=name.text)

    def _symbol(self, elab: Elaborator, scope: Scope, name: ast.Name) -> None:
        """Bind a dim that only an input or target brings."""
        self.dims[name.id] = name.span
        size = self.multiples.symbol(name.id)
        scope.bind(ast.Ident(name.id, span=name.span), Int(size), "dim")

    def _limit(self, elab: Elaborator, scope: Scope, expr: ast.Expr | None) -> Size | None:
        if expr is None:
            return None
        value = elab.evaluate(expr, scope)
        if not isinstance(value, Int):
            raise wrong_value("a whole number known in sizes", value, expr.span)
        return value.size


@dataclass(slots=True)
class Program:
    """A parsed file ready to be elaborated: its scope, and all sources that were read."""

    file: ast.File
    scope: Scope
    loader: Loader
    diagnostics: Diagnostics
    observer: Observer | None = None

    @property
    def sources(self) -> dict[str, Source]:
        """All files that messages may point into, the library's too."""
        from nnc.frontend.library import library_sources

        return {s.name: s for s in library_sources()} | self.loader.sources

    def models(self) -> list[ast.Model]:
        """The models that the file declares."""
        return [item for item in self.file.items if isinstance(item, ast.Model)]


def load(
    path_or_source: str | Path | Source,
    root: Path | None = None,
    texts: Mapping[str, str] | None = None,
) -> Program:
    """Read and parse a program and what it imports.

    ``root`` is the folder that imports stay below, by default the file's own. ``texts`` are read in
    the place of files, by the names that messages have for them. Raises SourceError with the syntax
    errors, OSError where the file cannot be read.
    """
    from nnc.frontend.parser import parse

    source, folder = read_source(path_or_source)
    source = source.instead(texts or {})
    diagnostics = Diagnostics()
    try:
        file = parse(source)
    except SourceError as error:
        error.sources = {source.name: source}
        raise
    loader = Loader(root or folder, diagnostics, texts=texts or {})
    loader.sources[source.name] = source
    if source.path is not None:
        loader.loading.append(source.path.resolve())
    scope = loader.scope(file, folder)
    return Program(file, scope, loader, diagnostics)


def read_source(path_or_source: str | Path | Source) -> tuple[Source, Path | None]:
    """Return a source and its folder; a text of several lines is the program itself."""
    if isinstance(path_or_source, Source):
        path = path_or_source.path
        return path_or_source, path.resolve().parent if path is not None else None
    if isinstance(path_or_source, str) and ("\n" in path_or_source or "{" in path_or_source):
        return Source("<text>", path_or_source), None
    path = Path(path_or_source)
    return Source.read(path), path.resolve().parent


def elaborate(
    path_or_source: str | Path | Source,
    model_name: str | None = None,
    config: Mapping[str, Any] | None = None,
    precision: str | None = None,
) -> Model:
    """Check a model completely and return it as graphs.

    ``config`` overrides the model's config by name; ``precision`` is the type that ``float``
    stands for (f32). Raises SourceError with every diagnostic found.
    """
    program = load(path_or_source)
    decl = pick_model(program, model_name)
    return elaborate_model(program, decl, config, precision)


def pick_model(program: Program, name: str | None) -> ast.Model:
    """Return the model called ``name``, or the only one. Raises SourceError."""
    models = program.models()
    found = [m for m in models if name is None or m.name.text == name]
    if len(found) == 1:
        return found[0]
    program.diagnostics.check()
    names = [m.name.text for m in models]
    if name is not None and not found:
        hint, _ = did_you_mean(name, names, None)
        error = fault("E0201", f"the file has no model {name}", None, hint=hint,
                      notes=[f"it has {', '.join(names)}"] if names else ())  # fmt: skip
    elif not models:
        hint = "declare one: model Name { input x: float[batch, 3] ... }"
        error = fault("E0201", "the file has no model", None, hint=hint)
    else:
        error = fault("E0222", "the file has several models", None,
                      notes=[f"choose one of {', '.join(names)}"])  # fmt: skip
    raise SourceError([error.diagnostic])


def elaborate_model(
    program: Program,
    decl: ast.Model,
    config: Mapping[str, Any] | None = None,
    precision: str | None = None,
    given: Arguments | None = None,
    frozen: frozenset[str] = frozenset(),
) -> Model:
    """Elaborate one model of a program; ``given`` are config values written in a train block.

    The instances at the paths ``frozen`` run as at inference when the rest trains.

    Raises SourceError with every diagnostic found.
    """
    diagnostics = program.diagnostics
    multiples = Multiples()
    with deep_python(), working(precision_type(precision)):
        while True:
            attempt = Diagnostics()
            attempt.extend(diagnostics)
            passes = _Passes(
                program, decl, attempt, multiples, config or {}, precision, given, frozen
            )
            model = passes.run()
            if not multiples.grow(*passes.multiples_found()):
                break
    attempt.check()
    return settle_uses(multiples.settle(model))


def _too_deep(decl: ast.Model) -> Diagnostic:
    return fault(
        "E0219", f"the model {decl.name} is nested too deeply", decl.name.span,
        hint="expressions and applications inside one another must have an end",
    ).diagnostic  # fmt: skip


@dataclass(slots=True)
class _Passes:
    """The two runs over a model's body, with ``training`` true and false."""

    program: Program
    decl: ast.Model
    diagnostics: Diagnostics
    multiples: Multiples
    config: Mapping[str, Any]
    precision: str | None
    given: Arguments | None
    frozen: frozenset[str] = frozenset()
    runs: list[Elaborator] = field(default_factory=list)

    def run(self) -> Model:
        observer = self.program.observer
        elab = Elaborator(precision_type(self.precision), self.diagnostics, observer=observer)
        training, builder, config = self._mode(elab, training=True)
        second = Elaborator(
            elab.precision, self.diagnostics, parameters=elab.parameters, leaves=elab.leaves,
            site_tables=elab.site_tables, steps=elab.steps if elab.exhausted else 0,
            observer=observer,
        )  # fmt: skip
        inference, _, _ = self._mode(second, training=False)
        return Model(
            self.decl.name.text,
            config,
            elab.precision,
            tuple(builder.dims),
            elab.batch,
            _merged(elab.requirements, second.requirements),
            tuple(elab.parameters.values()),
            tuple(builder.ports.values()),
            training,
            inference,
        )

    def multiples_found(self) -> tuple[dict[str, int], list[Requirement]]:
        found: dict[str, int] = {}
        dividing: list[Requirement] = []
        for elab in self.runs:
            found |= elab.multiples
            dividing += elab.dividing
        return found, dividing

    def _mode(
        self, elab: Elaborator, training: bool
    ) -> tuple[Mode, ModelBuilder, Mapping[str, Any]]:
        self.runs.append(elab)
        elab.training = training
        elab.frozen = self.frozen
        elab.batch = batch_dim(self.decl)
        home = self.program.scope
        sites = elab.site_tables.get(self.decl)
        if sites is None:
            sites = site_names(self.decl.body, lambda callee: is_layer(home, callee))
            elab.site_tables[self.decl] = sites
        builder = ModelBuilder(self.multiples)
        name = self.decl.name.text
        body = Body(f"model {name}", "model", "", "", sites, model=builder)
        scope = Scope(body, home)
        config: Mapping[str, Any] = {}
        try:
            arguments = config_arguments(self.decl, self.config, self.given, home)
            bound = bind_config(elab, name, self.decl.config, scope, arguments, self.decl.name.span)
            config = settled_config(bound)
        except Fault as error:
            elab.report(error)
            for param in self.decl.config:
                if param.name.text not in scope.names:
                    scope.bind(param.name, Poison(), "config")
        run_block(elab, scope, self.decl.body)
        outputs, ports = builder.outputs.values(), builder.ports.values()
        for needed in targets_needed(outputs, ports, self.multiples.actual):
            elab.report(needed)
        mode = Mode(
            tuple(builder.losses.values()),
            tuple(builder.metrics.values()),
            tuple(builder.outputs.values()),
            tuple(elab.updates.values()),
        )
        return mode, builder, config


def _merged(a: list[Requirement], b: list[Requirement]) -> tuple[Requirement, ...]:
    found: dict[tuple[Span | None, str, tuple[Size, ...]], Requirement] = {}
    for requirement in (*a, *b):
        key = (requirement.span, requirement.message, requirement.facts)
        found.setdefault(key, requirement)
    return tuple(found.values())


def batch_dim(decl: ast.Model) -> str | None:
    """Return the dim along which data is cut: ``batch``, or the first port's first dim."""
    config = {p.name.text for p in decl.config}
    first = [
        s.type.dims[0].id
        for s in decl.body.statements
        if isinstance(s, ast.PortDecl)
        and isinstance(s.type, ast.TensorTypeExpr)
        and s.type.dims
        and isinstance(s.type.dims[0], ast.Name)
        and s.type.dims[0].id not in config
    ]
    if "batch" in first:
        return "batch"
    return first[0] if first else None
