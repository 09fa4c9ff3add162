"""What can be said of a name: who declares it, how it is used, what is written above it.

In: the library's files, or a program. Out: entries, for ``nnc doc`` and for the page on the
library. The comment right above a declaration is its description; the comment that begins a file
is that of its topic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nnc.frontend import ast, notes, stdlib
from nnc.frontend.elaborate.model import Program
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.values import (
    FunctionValue,
    LayerValue,
    ModuleValue,
    OptimizerValue,
    ScheduleValue,
)
from nnc.frontend.library import LIBRARY, library_files, library_sources
from nnc.frontend.source import Source

Declaration = ast.Fn | ast.Layer | ast.Optimizer | ast.Schedule | ast.Model | ast.Train
KINDS = {
    ast.Fn: "function", ast.Layer: "layer", ast.Optimizer: "optimizer",
    ast.Schedule: "schedule", ast.Model: "model", ast.Train: "train block",
}  # fmt: skip
HELD = (
    ast.PortDecl, ast.ParamDecl, ast.BufferDecl, ast.StateDecl, ast.Output, ast.Loss, ast.Metric,
    ast.Setting,
)  # fmt: skip
OF_THE_LANGUAGE: Mapping[str, Mapping[str, notes.Note]] = {
    "primitive": notes.PRIMITIVES,
    "value": notes.VALUES,
    "word": notes.WORDS,
    "key of train blocks": notes.KEYS,
    "reader of data": notes.READERS,
}
"""Kinds of names that no file declares."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One entry of a parameter list, each part as it is written; None where it is left out."""

    name: str
    type: str | None
    default: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one name.

    ``config`` are the settings known at compile time, ``holds`` the ports, parameters, buffers,
    states, keys and results declared inside, as written. ``path`` and ``line`` say where it
    stands and ``source`` is its text; names of the language itself have none.
    """

    name: str
    kind: str
    signature: str
    about: str
    topic: str
    config: tuple[Setting, ...] = ()
    holds: tuple[str, ...] = ()
    path: str | None = None
    line: int | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Topic:
    """One file: its title, what its first comment says, and what it declares."""

    title: str
    about: str
    entries: tuple[Entry, ...]


@lru_cache(maxsize=1)
def library_topics() -> tuple[Topic, ...]:
    """Return the library, file by file."""
    folder = Path(stdlib.__path__[0])
    topics = []
    for source, file in zip(library_sources(), library_files(), strict=True):
        name = source.name.removeprefix(LIBRARY)
        title = name.removesuffix(".nn").replace("_", " ")
        path = str(folder / name)
        found = [i for i in file.items if isinstance(i, Declaration)]
        entries = tuple(_entry(item, source, title, path) for item in found)
        topics.append(Topic(title, _heading(source), entries))
    return tuple(topics)


@lru_cache(maxsize=1)
def language_topics() -> tuple[Topic, ...]:
    """Return the names that no file declares, kind by kind."""
    return tuple(
        Topic(
            f"{kind.replace('key of', 'keys of').replace('reader of', 'readers of')}"
            f"{'' if ' of ' in kind else 's'}",
            "",
            tuple(Entry(name, kind, n.usage, n.about, kind) for name, n in table.items()),
        )
        for kind, table in OF_THE_LANGUAGE.items()
    )


def program_topic(program: Program, title: str) -> Topic:
    """Return what a program declares and imports; ``b.name`` is of a file imported as ``b``."""
    sources = program.sources
    items: list[tuple[str, ast.Item]] = [
        (_name(i), i) for i in program.file.items if isinstance(i, ast.Model | ast.Train)
    ]
    items += _declared(program.scope, "", {id(program.loader.library)})
    entries = [_located(name, item, sources, title) for name, item in items]
    entries.sort(key=lambda e: (e.path != program.file.name, e.path or "", e.line or 0))
    return Topic(title, _heading(sources[program.file.name]), tuple(entries))


def _declared(scope: Scope, prefix: str, seen: set[int]) -> Iterator[tuple[str, ast.Item]]:
    """Yield what a file's scope declares, and what it sees of those that it imports."""
    if id(scope) in seen:
        return
    seen = seen | {id(scope)}
    for name, binding in [*scope.names.items(), *scope.rules.items()]:
        match binding.value:
            case ModuleValue(_, inner):
                yield from _declared(inner, f"{prefix}{name}.", seen)
            case (
                FunctionValue(decl=item) | LayerValue(decl=item) | OptimizerValue(decl=item)
                | ScheduleValue(decl=item)
            ):  # fmt: skip
                yield f"{prefix}{name}", item
    for opened in scope.opened:
        yield from _declared(opened, prefix, seen)


def _located(name: str, item: ast.Item, sources: Mapping[str, Source], topic: str) -> Entry:
    source = sources[item.span.file]
    assert isinstance(item, Declaration)
    return _entry(item, source, topic, source.name, name)


def find(name: str, topics: Iterable[Topic]) -> list[Entry]:
    """Return every entry called ``name``; ``linear`` is a layer and a schedule."""
    return [e for topic in topics for e in topic.entries if e.name == name]


# one declaration ----------------------------------------------------------------------------------


def _name(item: Declaration) -> str:
    if isinstance(item, ast.Train):
        return (item.alias or item.model).text
    return item.name.text


def _entry(
    item: Declaration, source: Source, topic: str, path: str, name: str | None = None
) -> Entry:
    return Entry(
        name or _name(item),
        KINDS[type(item)],
        _signature(item, source),
        comment_above(source, item.span.start),
        topic,
        tuple(_setting(p, source) for p in _config(item)),
        tuple(_one_line(source.excerpt(n.span)) for n in ast.walk(item) if isinstance(n, HELD)),
        path,
        source.position(item.span.start)[0],
        source.excerpt(item.span),
    )


def _config(item: Declaration) -> Sequence[ast.Parameter]:
    """Return the parameters that are known at compile time: of a function, those without dims."""
    match item:
        case ast.Train():
            return ()
        case ast.Fn(params=params):
            return [p for p in params if p.default is not None or not _is_tensor(p)]
        case _:
            return item.config


def _is_tensor(parameter: ast.Parameter) -> bool:
    type = parameter.type
    return type is None or (isinstance(type, ast.TensorTypeExpr) and type.dims is not None)


def _setting(parameter: ast.Parameter, source: Source) -> Setting:
    type, default = parameter.type, parameter.default
    return Setting(
        parameter.name.text,
        source.excerpt(type.span) if type is not None else None,
        source.excerpt(default.span) if default is not None else None,
    )


def _signature(item: Declaration, source: Source) -> str:
    """Return a declaration up to its body, on one line."""
    if isinstance(item, ast.Train):
        end = next((e.span.start for e in item.entries), item.span.end)
    else:
        end = item.body.span.start
    text = source.text[item.span.start : end]
    return _one_line(text).rstrip("={ ")


def _one_line(text: str) -> str:
    joined = " ".join(re.sub(r"#.*", "", text).split())
    return re.sub(r"(?<=\)) (?=\()", "", joined)


# comments -----------------------------------------------------------------------------------------


def comment_above(source: Source, offset: int) -> str:
    """Return the comment that ends on the line above the one ``offset`` is in."""
    number = source.position(offset)[0] - 1
    lines: list[str] = []
    while number >= 1 and source.line(number).lstrip().startswith("#"):
        lines.append(source.line(number))
        number -= 1
    return _joined(reversed(lines))


def _heading(source: Source) -> str:
    """Return the comment that a file begins with, where a blank line parts it from the rest."""
    lines: list[str] = []
    for line in source.text.splitlines():
        if not line.startswith("#"):
            return "" if line.strip() else _joined(lines)
        lines.append(line)
    return _joined(lines)


def _joined(lines: Iterable[str]) -> str:
    """Return the text of comment lines; an empty one parts paragraphs."""
    text = "\n".join(line.strip().removeprefix("#").strip() for line in lines)
    return "\n\n".join(" ".join(p.split()) for p in re.split(r"\n{2,}", text) if p.strip())
