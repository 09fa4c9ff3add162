"""Files and what they declare: the program's own, those it imports, and the library's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnc.frontend import ast
from nnc.frontend.diagnostics import Diagnostics, SourceError
from nnc.frontend.elaborate import builtins
from nnc.frontend.elaborate.faults import Fault, did_you_mean, fault
from nnc.frontend.elaborate.scope import Binding, Body, Scope
from nnc.frontend.elaborate.values import (
    POISON,
    BuiltinValue,
    FunctionValue,
    LayerValue,
    ModuleValue,
    OptimizerValue,
    ScheduleValue,
    Value,
)
from nnc.frontend.source import Source


def library_scope() -> Scope:
    """Return the scope of the standard library; behind it are the primitives."""
    from nnc.frontend.library import library_files

    return scope_of(library_files())


def scope_of(files: Iterable[ast.File]) -> Scope:
    """Return one scope with the declarations of several files, over the primitives."""
    primitives = Scope(Body("the primitives", "file", None, ""))
    for name in builtins.NAMES:
        primitives.names[name] = Binding(BuiltinValue(name), None, "declaration")
    scope = Scope(Body("the library", "file", None, ""), primitives)
    for file in files:
        for item in file.items:
            declare(scope, item)
    return scope


@dataclass(slots=True)
class Loader:
    """Loads files and makes their scopes. Imports stay below ``root``; ``None`` allows none.

    ``sources`` are all that was read, by name, for messages; ``loading`` is the chain of imports
    that is being followed; ``texts`` are read in the place of files.
    """

    root: Path | None
    diagnostics: Diagnostics
    library: Scope = field(default_factory=library_scope)
    sources: dict[str, Source] = field(default_factory=dict)
    loaded: dict[Path, Scope] = field(default_factory=dict)
    loading: list[Path] = field(default_factory=list)
    texts: Mapping[str, str] = field(default_factory=dict)

    def scope(self, file: ast.File, folder: Path | None) -> Scope:
        """Return the scope of a file: its declarations, and what it imports whole."""
        scope = Scope(Body(file.name, "file", None, ""), self.library)
        blocks: dict[str, Binding] = {}
        for item in file.items:
            try:
                if isinstance(item, ast.Import):
                    self._import(scope, item, folder)
                elif isinstance(item, ast.Model | ast.Train):
                    _choosable(blocks, item)
                else:
                    declare(scope, item)
            except Fault as error:
                self.diagnostics.add(error.diagnostic)
                if isinstance(item, ast.Import):
                    _missing(scope, item)
        return scope

    def _import(self, scope: Scope, item: ast.Import, folder: Path | None) -> None:
        path = self._resolve(item, folder)
        imported = self.loaded.get(path)
        if imported is None:
            imported = self._load(path, item)
        if item.alias is None:
            scope.opened.append(imported)
            return
        name = item.alias.text
        _unused(scope.names, item.alias)
        module = ModuleValue(name, imported)
        scope.names[name] = Binding(module, item.alias.span, "declaration")

    def _resolve(self, item: ast.Import, folder: Path | None) -> Path:
        text = item.path.value
        if self.root is None or folder is None:
            raise fault(
                "E0221",
                f'cannot import "{text}"',
                item.path.span,
                "a program given as text has no folder to import from",
            )
        try:
            path = (folder / text).resolve()
        except (OSError, ValueError) as error:
            raise _unreadable(folder / "?", item, error) from None
        if not path.is_relative_to(self.root.resolve()):
            raise fault(
                "E0221",
                f'"{text}" lies outside the folder of the program',
                item.path.span,
                "imports stay below it",
                hint="move the file there",
            )
        if path in self.loading:
            chain = [p.name for p in self.loading[self.loading.index(path) :]]
            raise fault(
                "E0221",
                "these files import each other in a circle",
                item.path.span,
                " -> ".join([*chain, path.name]),
                hint="move what both need into a third file",
            )
        return path

    def _load(self, path: Path, item: ast.Import) -> Scope:
        from nnc.frontend.parser import parse

        assert self.root is not None
        try:
            source = Source.read(path, str(path.relative_to(self.root.resolve())))
        except (OSError, ValueError) as error:
            raise _unreadable(path, item, error) from None
        source = source.instead(self.texts)
        self.sources[source.name] = source
        self.loading.append(path)
        try:
            scope = self.scope(parse(source), path.parent)
        except SourceError as error:
            self.diagnostics.extend(error.diagnostics)
            scope = Scope(Body(source.name, "file", None, ""), self.library, incomplete=True)
        finally:
            self.loading.pop()
        self.loaded[path] = scope
        return scope


def _missing(scope: Scope, item: ast.Import) -> None:
    """Remember that an import failed, so that names it would have brought are not blamed."""
    if item.alias is None:
        scope.incomplete = True
    else:
        poison = Binding(POISON, item.alias.span, "declaration")
        scope.names.setdefault(item.alias.text, poison)


def _unreadable(path: Path, item: ast.Import, error: Exception) -> Fault:
    reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "no such file"
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror.lower()
    near = sorted(p.name for p in path.parent.glob("*.nn")) if path.parent.is_dir() else []
    hint, _ = did_you_mean(path.name, near, None)
    return fault(
        "E0221",
        f'cannot read "{item.path.value}"',
        item.path.span,
        reason,
        notes=[f"the folder has {', '.join(near)}"] if near else (),
        hint=hint,
    )


def declare(scope: Scope, item: ast.Item) -> None:
    """Bind what a file declares. Raises Fault where a name is taken.

    Functions and layers share one table of names, schedules and optimizers another.
    """
    value: Value
    table = scope.names
    match item:
        case ast.Fn():
            value = FunctionValue(item, scope)
        case ast.Layer():
            value = LayerValue(item, scope)
        case ast.Optimizer():
            value, table = OptimizerValue(item, scope), scope.rules
        case ast.Schedule():
            value, table = ScheduleValue(item, scope), scope.rules
        case _:
            return
    _unused(table, item.name)
    table[item.name.text] = Binding(value, item.name.span, "declaration")


def _choosable(blocks: dict[str, Binding], item: ast.Model | ast.Train) -> None:
    """Remember a model or a train block. Raises Fault where two could not be told apart."""
    if isinstance(item, ast.Model):
        _unused(blocks, item.name)
        blocks[item.name.text] = Binding(POISON, item.name.span, "declaration")
        return
    name = item.alias or item.model
    taken = blocks.setdefault(f"train {name}", Binding(POISON, name.span, "declaration"))
    if taken.span != name.span:
        raise fault(
            "E0222",
            f"two train blocks are called {name}",
            name.span,
            "the second",
            related=[(taken.span, "the first")],
            hint=f"name one: train {item.model} as another_name {{ ... }}",
        )


def _unused(table: Mapping[str, Binding], name: ast.Ident) -> None:
    taken = table.get(name.text)
    if taken is not None:
        raise fault(
            "E0222",
            f"{name} is declared twice",
            name.span,
            "the second",
            related=[(taken.span, "the first")],
        )
