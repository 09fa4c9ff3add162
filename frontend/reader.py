"""From text to Lark's tree, with every syntax error of the file.

After an error the parser gives up the statement or declaration that it stands in, goes on at the
next one, and so finds the others too (panic mode; Aho, Sethi, Ullman, 1986, section 4.1).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.brackets import Repaired
from nnc.frontend.diagnostics import Diagnostic, Diagnostics
from nnc.frontend.newlines import CLOSING, OPENING, Newlines
from nnc.frontend.source import Source
from nnc.frontend.syntax_errors import Stuck, bad_character, explain
from nnc.frontend.tables import load_lark
from nnc.ir.span import Span

if TYPE_CHECKING:
    from lark import Token, Tree
    from lark.exceptions import UnexpectedInput

MAX_DEPTH = 200
_MAX_ERRORS = 50
_NEXT_LINE = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)+([ \t]*)(\S)")
_SKIP = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*|[()\[\]{}\n]')


class Reader:
    """One parse: feeds tokens to Lark's automaton and mends its stack after an error."""

    def __init__(self, source: Source, repaired: Repaired, diagnostics: Diagnostics) -> None:
        self._source = source
        self._repaired = repaired
        self._text = repaired.text
        self._diagnostics = diagnostics
        self._session = load_lark().parse_interactive(repaired.text)
        self._state = self._session.parser_state
        self._lexer = self._session.lexer_thread
        self._newlines = Newlines()
        self._line: list[Token] = []  # tokens of the statement so far

    def read(self) -> Tree[Token] | None:
        """Return the tree, with ``broken`` where something was given up, or None."""
        from lark import Token, Tree
        from lark.exceptions import UnexpectedInput

        reached = -1
        for _ in range(_MAX_ERRORS):
            try:
                self._feed_all()
                end = len(self._text)
                tree = self._state.feed_token(Token("$END", "", end, end_pos=end), True)
                assert isinstance(tree, Tree)
                return tree
            except UnexpectedInput as error:
                self._report(error)
                at = self._recover(error.pos_in_stream or 0)
                if at is None or at <= reached:
                    return None
                reached = at
        return None

    def _feed_all(self) -> None:
        for token in self._lexer.lex(self._state):  # type: ignore[no-untyped-call]
            if self._newlines.drops(token):
                continue
            self._state.feed_token(token)
            self._newlines.shift(token)
            if token.type in ("_NL", "LBRACE", "RBRACE"):
                self._line = []
            else:
                self._line.append(token)

    # reporting --------------------------------------------------------------------------------

    def _report(self, error: UnexpectedInput) -> None:
        diagnostic = self._diagnose(error)
        assert diagnostic.span is not None
        if self._repaired.trusted(diagnostic.span.start) or not self._diagnostics.has_errors:
            self._diagnostics.add(diagnostic)

    def _diagnose(self, error: UnexpectedInput) -> Diagnostic:
        from lark.exceptions import UnexpectedToken

        at = error.pos_in_stream or 0
        if not isinstance(error, UnexpectedToken):
            return bad_character(self._text, at, self._span(at, at + 1))
        token = error.token
        end = token.end_pos if token.end_pos is not None else at + len(token)
        if token.type == "_NL":
            end = min(self._text.index("\n", at) + 1, end)
        line = [(t.type, str(t), self._token_span(t)) for t in self._line]
        return explain(
            Stuck(
                token.type,
                str(token),
                self._span(at, end),
                self._accepts(),
                line,
                self._at_item(),
                self._text[end : end + 1],
            )
        )

    def _at_item(self) -> bool:
        """Whether the parser stands outside all braces."""
        return not any(getattr(v, "type", "") == "LBRACE" for v in self._state.value_stack)

    def _accepts(self) -> frozenset[str]:
        return frozenset(self._session.accepts())  # type: ignore[no-untyped-call]

    def _token_span(self, token: Token) -> Span:
        return self._span(token.start_pos or 0, token.end_pos or 0)

    def _span(self, start: int, end: int) -> Span:
        original = self._repaired.original
        first = original(start)
        return self._source.span(first, max(original(end), first))

    # recovery ---------------------------------------------------------------------------------

    def _recover(self, at: int) -> int | None:
        """Give up the statement that ``at`` lies in; return where to go on, or None."""
        from lark import Token

        opened = self._drop_to_statement()
        if opened is None:
            return None
        self._newlines.reset(
            v.type for v in self._state.value_stack if isinstance(v, Token) and v.type in OPENING
        )
        self._line = []
        end = self._end_of_statement(at, opened)
        assert self._lexer.state is not None
        self._lexer.state.line_ctr.char_pos = end
        return end

    def _drop_to_statement(self) -> int | None:
        """Pop the stack to where a statement may begin and feed BROKEN in its place.

        Returns how many of the brackets given up are still open.
        """
        from lark import Token
        from lark.exceptions import UnexpectedToken

        state, opened = self._state, 0
        while state.value_stack:
            if "BROKEN" in state.parse_conf.states[state.position]:
                try:
                    state.feed_token(Token("BROKEN", ""))
                except UnexpectedToken:
                    pass
                else:
                    return opened
            state.state_stack.pop()
            value = state.value_stack.pop()
            if isinstance(value, Token):
                opened += (value.type in OPENING) - (value.type in CLOSING)
        try:
            state.feed_token(Token("BROKEN", ""))
        except UnexpectedToken:
            return None
        return opened

    def _end_of_statement(self, at: int, depth: int) -> int:
        """Return the place of the newline or bracket that ends the statement around ``at``."""
        for match in _SKIP.finditer(self._text, at):
            sign = match.group()
            if sign == "\n":
                if depth <= 0 and not self._goes_on(match.start()):
                    return match.start()
            elif sign in "([{":
                depth += 1
            elif sign in ")]}":
                if depth <= 0:
                    return match.start()
                depth -= 1
        return len(self._text)

    def _goes_on(self, newline: int) -> bool:
        """Whether what follows a newline belongs to the statement before, mistaken or not."""
        if _continuation().match(self._text, newline):
            return True
        following = _NEXT_LINE.match(self._text, newline)
        if following is None:
            return False
        return following[2] == "{" or (self._at_item() and bool(following[1]))


@lru_cache(maxsize=1)
def _continuation() -> re.Pattern[str]:
    """Newlines that the grammar ignores, because the next line goes on with the statement."""
    return re.compile(load_lark().get_terminal("_CONT").pattern.to_regexp())


def check_depth(file: ast.File, diagnostics: Diagnostics) -> None:
    """Report what is nested so deeply that later stages, which recurse, would fail."""
    work: list[tuple[ast.Node, int]] = [(file, 0)]
    while work:
        node, depth = work.pop()
        if depth > MAX_DEPTH:
            diagnostics.add(
                Diagnostic(
                    "E0107",
                    "this is nested too deeply",
                    node.span,
                    f"level {depth}; at most {MAX_DEPTH} are allowed",
                    hint="give a part of it a name of its own",
                )
            )
            return
        work.extend((child, depth + 1) for child in ast.children(node))
