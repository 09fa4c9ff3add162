"""Prints syntax trees: a node's class and plain fields on a line, its parts indented below."""

from __future__ import annotations

from nnc.frontend import ast


def print_tree(root: ast.Node) -> str:
    """Return the text of a tree. Fields without a value and spans of operators are left out."""
    lines: list[str] = []
    stack: list[tuple[int, str, object]] = [(0, "", root)]
    while stack:
        depth, label, item = stack.pop()
        head = f"{label}: " if label else ""
        if not isinstance(item, ast.Node):
            lines.append(f"{'  ' * depth}{label}:")
            parts = [(depth + 1, "", part) for part in item] if isinstance(item, tuple) else []
        else:
            plain = [f" {name}={value!r}" for name, value in _fields(item) if _is_plain(value)]
            lines.append(
                f"{'  ' * depth}{head}{type(item).__name__}{''.join(_idents(item, plain))}"
            )
            inner = [(name, v) for name, v in _fields(item) if not _is_plain(v)]
            parts = [(depth + 1, name, v) for name, v in inner if not isinstance(v, ast.Ident)]
        stack.extend(reversed(parts))
    return "\n".join(lines) + "\n"


def _fields(node: ast.Node) -> list[tuple[str, object]]:
    """The fields of a node that hold something, without its span and those of operators."""
    names = [n for n in type(node).fields if not n.endswith("span")]
    found = [(name, getattr(node, name)) for name in names]
    return [(name, value) for name, value in found if value is not None and value != ()]


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(v, str) for v in value)
    return not isinstance(value, ast.Node)


def _idents(node: ast.Node, plain: list[str]) -> list[str]:
    named = [f" {n}={v.text}" for n, v in _fields(node) if isinstance(v, ast.Ident)]
    return named + plain
