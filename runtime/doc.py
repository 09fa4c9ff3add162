"""``nnc doc``: what a name means, where it is written, and what names there are."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnc.runtime.errors import UserError, nearest
from nnc.runtime.report import emit_json, table

if TYPE_CHECKING:
    from nnc.frontend.reference import Entry, Setting, Topic

WIDTH = 96
CODE = re.compile(r"E\d{4}", re.IGNORECASE)
LIBRARY_INTRODUCTION = """\
# The library

All of this is written in the language, in `frontend/stdlib/*.nn`, to be read, copied and changed:
`nnc doc NAME --source` prints a declaration as it stands, and `nnc doc --markdown` this page.
Schedules and optimizers have names of their own, so that a layer and a schedule may share one.
"""
PRIMITIVES_INTRODUCTION = """\
## Primitives

What the library itself is written in, beside [index notation](language.md#index-notation).
"""


def doc(
    name: str | None, *, file: Path | None, source: bool, as_json: bool, as_markdown: bool
) -> None:
    """Print what is known of a name, or all names by kind.

    Raises UserError E0002 for a name that nothing has, SourceError for a ``file`` with faults.
    """
    if name is not None and CODE.fullmatch(name):
        from nnc.runtime.commands import explain

        explain(name)
        return
    topics = _topics(file)
    if as_markdown:
        print(markdown(topics if file is None else topics[:1], whole=file is None), end="")
    elif name is None:
        _print_all(topics, as_json)
    else:
        _print_found(_found(name, topics), source, as_json)


def _topics(file: Path | None) -> list[Topic]:
    """Return the file's own names, where one is given, then the library's, then the language's."""
    from nnc.frontend.reference import language_topics, library_topics

    own = [] if file is None else [_topic_of(file)]
    return [*own, *library_topics(), *language_topics()]


def _topic_of(file: Path) -> Topic:
    from nnc.frontend.elaborate.model import load
    from nnc.frontend.reference import program_topic
    from nnc.runtime.open import reading

    with reading(file):
        program = load(file)
        program.diagnostics.check()
        return program_topic(program, file.name)


def _found(name: str, topics: Sequence[Topic]) -> list[Entry]:
    from nnc.frontend.reference import find

    found = find(name, topics)
    if found:
        return found
    known = [e.name for topic in topics for e in topic.entries]
    same = next((k for k in known if k.lower() == name.lower()), None)
    guess = same or nearest(name, known)
    raise UserError(
        "E0002",
        f"nothing is called '{name}'",
        ("it is no name of the library, of the language or of a file given with --file",),
        f"did you mean '{guess}'?" if guess else "nnc doc lists every name",
    )


# for a terminal -----------------------------------------------------------------------------------


def _print_found(found: Sequence[Entry], source: bool, as_json: bool) -> None:
    if as_json:
        emit_json({"entries": [asdict(entry) for entry in found]})
        return
    print("\n\n".join(_source(entry) if source else _shown(entry) for entry in found))


def _source(entry: Entry) -> str:
    """Return a declaration as it is written, under its comment; of other names, the usual text."""
    if entry.source is None:
        return _shown(entry)
    comment = textwrap.fill(
        entry.about, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False
    )
    return f"# {entry.path}:{entry.line}\n{comment}{chr(10) if comment else ''}{entry.source}"


def _shown(entry: Entry) -> str:
    head = entry.signature if entry.source is not None else f"{entry.kind} {entry.name}"
    parts = [_wrapped(head, "", "    ")]
    if entry.source is None:
        parts.append(f"  {entry.signature}")
    if entry.about:
        parts.append("\n\n".join(_wrapped(p, "  ", "  ") for p in entry.about.split("\n\n")))
    if entry.config:
        parts.append("  config\n" + _indented(table([_row(s) for s in entry.config])))
    if entry.holds:
        parts.append("  holds\n" + "\n".join(f"    {line}" for line in entry.holds))
    if entry.path is not None:
        parts.append(f"  {entry.path}:{entry.line}")
    return "\n\n".join(parts)


def _row(setting: Setting) -> tuple[str, str, str]:
    default = f"= {setting.default}" if setting.default is not None else "needed"
    return setting.name, setting.type or "", default


def _wrapped(text: str, first: str, then: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=then,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _indented(text: str) -> str:
    return textwrap.indent(text, "  ")


def _print_all(topics: Iterable[Topic], as_json: bool) -> None:
    if as_json:
        emit_json({t.title: [_brief(e) for e in t.entries] for t in topics})
        return
    lines = [
        f"{topic.title}\n{_wrapped(' '.join(_once(e.name for e in topic.entries)), '  ', '  ')}"
        for topic in topics
        if topic.entries
    ]
    print("\n\n".join([*lines, "nnc doc NAME tells about one; nnc explain CODE about an error."]))


def _brief(entry: Entry) -> dict[str, Any]:
    return {"name": entry.name, "kind": entry.kind, "signature": entry.signature}


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


# as a page ----------------------------------------------------------------------------------------


def markdown(topics: Iterable[Topic], *, whole: bool) -> str:
    """Return topics as a page; ``whole`` for the library's, with the primitives at its end."""
    if not whole:
        return "\n".join(_section(topic, "#") for topic in topics)
    topics = list(topics)
    declared = [t for t in topics if any(e.source is not None for e in t.entries)]
    primitives = next(t for t in topics if t.title == "primitives")
    rows = [f"| `{_cell(e.signature)}` | {_cell(e.about)} |" for e in primitives.entries]
    listed = "\n".join(["| function | meaning |", "|---|---|", *rows])
    parts = [_section(topic, "##") for topic in declared]
    return "\n".join([LIBRARY_INTRODUCTION, *parts, PRIMITIVES_INTRODUCTION, listed, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _section(topic: Topic, mark: str) -> str:
    parts = [f"{mark} {topic.title[0].upper()}{topic.title[1:]}", _prose(topic.about)]
    for entry in topic.entries:
        parts.append(f"{mark}# `{entry.name}`")
        parts.append(f"```{{code-block}} nn\n{_wrapped(entry.signature, '', '    ')}\n```")
        parts.append(_prose(entry.about))
        if entry.holds:
            parts.append("\n".join(f"- `{line}`" for line in entry.holds))
    return "\n\n".join(p for p in parts if p) + "\n"


def _prose(text: str) -> str:
    """Return a comment as Markdown: what stands between backquotes is code, the rest is text."""
    parts = text.split("`")
    plain = [re.sub(r"([*<\[\\])", r"\\\1", part) for part in parts[::2]]
    parts[::2] = plain
    return "`".join(parts)
