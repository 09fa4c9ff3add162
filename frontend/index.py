"""What every name of a program stands for where it is written, for editors.

The index watches an ordinary elaboration: there is no second analysis that could disagree with the
first. A function that is never used is not run, so that the names in it are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from nnc.frontend import ast
from nnc.frontend.diagnostics import Diagnostic, Diagnostics, SourceError
from nnc.frontend.elaborate.faults import Fault
from nnc.frontend.elaborate.model import Program, elaborate_model, load
from nnc.frontend.elaborate.scope import Binding, Scope
from nnc.frontend.elaborate.statements import bound_names
from nnc.frontend.elaborate.types import type_name
from nnc.frontend.elaborate.values import (
    FunctionValue,
    LayerValue,
    ModuleValue,
    OptimizerValue,
    Poison,
    ScheduleValue,
    Tensor,
    Value,
    describe,
)
from nnc.frontend.recipe import elaborate_recipe
from nnc.frontend.source import Source
from nnc.ir.span import Span

MOST_VALUES = 4
"""Different values of one name that are told: a function may be used with many shapes."""


@dataclass(slots=True)
class Use:
    """A name at one place: where it is bound, and what it stood for each time it was come by."""

    name: str
    span: Span
    definition: Span | None = None
    declares: bool = False
    called: str | None = None
    values: list[str] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Index:
    """Collects uses by place; also the names that can be seen from each body, for completion."""

    uses: dict[Span, Use] = field(default_factory=dict)
    bodies: dict[str, dict[str, str]] = field(default_factory=dict)

    def evaluated(self, expr: ast.Expr, scope: Scope, value: Value) -> None:
        """Take note of an expression; of a call and a pipe, of what is called."""
        match expr:
            case ast.Name(id):
                self._add(id, expr.span, scope.find(id), value)
            case ast.Field(base, name):
                binding = None
                if isinstance(base, ast.Name) and (found := scope.find(base.id)) is not None:
                    if isinstance(found.value, ModuleValue):
                        binding = found.value.scope.names.get(name.text)
                    self._add(base.id, base.span, found, found.value)
                self._add(name.text, name.span, binding, value)
            case ast.Call(func):
                self._called(func, scope)
            case ast.Pipe(_, stages):
                for stage in stages:
                    self._called(stage.func if isinstance(stage, ast.Call) else stage, scope)
            case _:
                pass

    def ran(self, statement: ast.Stmt, scope: Scope) -> None:
        """Take note of the names that a statement binds."""
        for name in bound_names(statement):
            binding = scope.home.names.get(name.text)
            if binding is not None and binding.span == name.span:
                self._add(name.text, name.span, binding, binding.value, declares=True)
                self.bodies.setdefault(scope.body.owner, {})[name.text] = short(binding.value)

    def at(self, file: str, offset: int) -> Use | None:
        """Return the use that a place lies in, or ends."""
        near = (u for u in self.uses.values() if u.span.file == file)
        found = [u for u in near if u.span.start <= offset <= u.span.end]
        return min(found, key=lambda u: u.span.end - u.span.start, default=None)

    def _called(self, func: ast.Expr, scope: Scope) -> None:
        if isinstance(func, ast.Subscript):
            func = func.base
        if isinstance(func, ast.Call):
            self._called(func.func, scope)
        elif isinstance(func, ast.Name):
            found = scope.find_callable(func.id)
            if found is not None:
                self._add(func.id, func.span, found, found.value)
        elif isinstance(func, ast.Field) and isinstance(func.base, ast.Name):
            base = scope.find(func.base.id)
            if base is not None and isinstance(base.value, ModuleValue):
                found = base.value.scope.names.get(func.name.text)
                if found is not None:
                    self._add(func.name.text, func.name.span, found, found.value)

    def _add(
        self, name: str, span: Span, binding: Binding | None, value: Value, declares: bool = False
    ) -> None:
        use = self.uses.setdefault(span, Use(name, span, declares=declares))
        if binding is not None and binding.span is not None:
            use.definition = binding.span
        match value:
            case Poison():
                return
            case FunctionValue() | LayerValue() | ScheduleValue() | OptimizerValue():
                declared = value.decl.name
                use.definition, use.called = declared.span, declared.text
        told = describe(value)
        if told not in use.values and len(use.values) < MOST_VALUES:
            use.values.append(told)
            if isinstance(value, Tensor):
                use.tensors.append(short(value))


def short(value: Value) -> str:
    """Return a value in a word or two, as it is shown behind a name."""
    return type_name(value.type) if isinstance(value, Tensor) else describe(value)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of a file: its faults, and what its names stand for as far as it was run."""

    source: Source
    diagnostics: tuple[Diagnostic, ...]
    sources: dict[str, Source]
    index: Index
    program: Program | None


def analyse(source: Source) -> Analysis:
    """Check every model and train block of a file as far as it can be. Faults are returned."""
    index, found = Index(), Diagnostics()
    sources = {source.name: source}
    try:
        program = load(source)
    except SourceError as error:
        return Analysis(source, error.diagnostics, sources, index, None)
    program.observer = index
    found.extend(program.diagnostics)
    trained = set()
    for train in (i for i in program.file.items if isinstance(i, ast.Train)):
        trained.add(train.model.text)
        _try(found, partial(elaborate_recipe, program, train, None, None))
    for model in program.models():
        if model.name.text not in trained:
            _try(found, partial(elaborate_model, program, model))
    return Analysis(source, found.sorted(), program.sources, index, program)


def _try(found: Diagnostics, run: Callable[[], object]) -> None:
    try:
        run()
    except SourceError as error:
        found.extend(error.diagnostics)
    except Fault as error:
        found.add(error.diagnostic)


def symbols(file: ast.File) -> Iterator[tuple[ast.Ident | ast.String, str, ast.Item]]:
    """Yield what a file declares: its name, what it is, and the whole of it."""
    for item in file.items:
        match item:
            case ast.Import(path):
                yield path, "import", item
            case ast.Test(name):
                yield name, "test", item
            case ast.Train(model, _, _, alias):
                yield alias or model, "train", item
            case _:
                yield item.name, type(item).__name__.lower(), item
