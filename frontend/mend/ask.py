"""What a rule is given: a fault, the text and the tree that it lies in, and ways to look round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from nnc.frontend import ast
from nnc.frontend.diagnostics import Diagnostic
from nnc.frontend.edits import Edit, Fix
from nnc.frontend.source import Source
from nnc.ir.span import Span

Found = TypeVar("Found", bound=ast.Node)


@dataclass(frozen=True, slots=True)
class Ask:
    """A fault at ``span`` of ``source``. ``tree`` is None where the file is not well formed."""

    diagnostic: Diagnostic
    span: Span
    source: Source
    tree: ast.File | None
    sources: Mapping[str, Source]
    trees: Mapping[str, ast.File]

    @property
    def text(self) -> str:
        """The text of the file."""
        return self.source.text

    def fact(self, name: str) -> str | None:
        """Return one of the facts that the diagnostic carries."""
        return dict(self.diagnostic.about).get(name)

    def of(self, node: ast.Node) -> str:
        """Return the text that a node was written as."""
        source = self.sources.get(node.span.file)
        return source.excerpt(node.span) if source is not None else ""

    def nodes(self, kind: type[Found]) -> Iterator[Found]:
        """Yield every node of a class, in the order of the file."""
        if self.tree is not None:
            yield from (n for n in ast.walk(self.tree) if isinstance(n, kind))

    def within(self, kind: type[Found], span: Span | None = None) -> Iterator[Found]:
        """Yield the nodes of a class that lie inside a span, by default the fault's."""
        place = span or self.span
        yield from (n for n in self.nodes(kind) if _holds(place, n.span))

    def around(self, kind: type[Found], span: Span | None = None) -> list[Found]:
        """Return the nodes of a class that hold a span, the innermost first."""
        place = span or self.span
        found = [n for n in self.nodes(kind) if _holds(n.span, place)]
        return sorted(found, key=lambda n: n.span.end - n.span.start)

    def statement(self, span: Span | None = None) -> ast.Node | None:
        """Return the innermost statement that holds a span."""
        place = span or self.span
        found = [
            s for b in self.around(ast.Block, place) for s in b.statements if _holds(s.span, place)
        ]
        return found[0] if found else None

    def declared(self, kind: type[Found]) -> Iterator[Found]:
        """Yield the declarations of a class whose names the diagnostic points at."""
        places = {span for span, _ in self.diagnostic.related}
        for tree in self.trees.values():
            for node in ast.walk(tree):
                if isinstance(node, kind):
                    name = getattr(node, "name", None)
                    if node.span in places or (isinstance(name, ast.Ident) and name.span in places):
                        yield node

    def line_before(self, node: ast.Node, line: str, title: str) -> Fix:
        """Return the conjecture that puts a line before a statement, indented as it is."""
        start = self.text.rfind("\n", 0, node.span.start) + 1
        head = self.text[start : node.span.start]
        if head.strip():  # the statement does not begin its line
            return conjecture(title, Edit(_at(node.span), f"{line}\n"))
        return conjecture(title, Edit(_at(node.span), f"{line}\n{head}"))


def _holds(outer: Span, inner: Span) -> bool:
    same = outer.file == inner.file
    return same and outer.start <= inner.start and inner.end <= outer.end


def _at(span: Span) -> Span:
    return Span(span.file, span.start, span.start)


def conjecture(title: str, *edits: Edit) -> Fix:
    """Return a fix that is to be tried before it is offered."""
    return Fix(title, edits, sure=False)


def put(node: ast.Node | Span, text: str) -> Edit:
    """Return the edit that puts ``text`` in the place of a node."""
    return Edit(node if isinstance(node, Span) else node.span, text)


def before(node: ast.Node | Span, text: str) -> Edit:
    """Return the edit that inserts ``text`` before a node."""
    return Edit(_at(node if isinstance(node, Span) else node.span), text)


def after(node: ast.Node | Span, text: str) -> Edit:
    """Return the edit that inserts ``text`` after a node."""
    span = node if isinstance(node, Span) else node.span
    return Edit(Span(span.file, span.end, span.end), text)


Rule = Callable[[Ask], Iterable[Fix]]
