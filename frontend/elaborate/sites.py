"""What each call in a body is called, from the text alone.

Parameters are named by these, so the names must not depend on config, on sizes or on ``training``:
every call of one name counts in source order, in branches that are not taken too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nnc.frontend import ast

Resolve = Callable[[ast.Expr], bool]
"""Tells whether an expression that is called names a layer."""


def site_names(root: ast.Node, is_layer: Resolve) -> dict[ast.Node, str]:
    """Return the name of each call in a body: ``linear``, ``linear_2``, ... in source order.

    ``fc = linear(10)`` makes an instance that is called ``fc`` and does not count. Nor does what
    is made as the config of another layer, which lies there: ``stack(linear(10))``.
    """
    names = dict(_bound(root, is_layer))
    config = set(_config(root, is_layer))
    found = [
        (callee.span.start, node, base)
        for node, callee in _calls(root)
        if node not in names and node not in config and (base := called_name(callee)) is not None
    ]
    counts: dict[str, int] = {}
    for _, node, base in sorted(found, key=lambda item: item[0]):
        counts[base] = counts.get(base, 0) + 1
        names[node] = base if counts[base] == 1 else f"{base}_{counts[base]}"
    return names


def called_name(callee: ast.Node) -> str | None:
    """Return the last name of what is called: ``linear`` of ``linear``, ``net.linear``."""
    match callee:
        case ast.Name(id):
            return id
        case ast.Field(_, name):
            return name.text
        case ast.Subscript(base):
            return called_name(base)
        case _:
            return None


def _bound(root: ast.Node, is_layer: Resolve) -> Iterator[tuple[ast.Node, str]]:
    for node in ast.walk(root):
        if not isinstance(node, ast.Bind):
            continue
        several = len(node.targets) > 1 and isinstance(node.value, ast.Tuple)
        values = node.value.items if isinstance(node.value, ast.Tuple) else (node.value,)
        if len(values) == len(node.targets) and (several or len(node.targets) == 1):
            for target, value in zip(node.targets, values, strict=True):
                if isinstance(value, ast.Call) and (is_layer(value.func) or _copies(value)):
                    yield value, target.name.text


def _copies(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "copy"


def _config(root: ast.Node, is_layer: Resolve) -> Iterator[ast.Call]:
    for node in ast.walk(root):
        if isinstance(node, ast.Call) and is_layer(node.func):
            for given in (*node.args, *(k.value for k in node.kwargs)):
                yield from (made for made in made_in(given) if is_layer(made.func))


def made_in(expr: ast.Expr) -> Iterator[ast.Call]:
    """Yield the calls whose result may be the value of an expression."""
    match expr:
        case ast.Call():
            yield expr
        case ast.IfExpr(_, yes, no):
            yield from made_in(yes)
            yield from made_in(no)
        case _:
            pass


def _calls(root: ast.Node) -> Iterator[tuple[ast.Node, ast.Node]]:
    """Yield each call and each stage of a pipe with what is called there."""
    for node in ast.walk(root):
        if isinstance(node, ast.Call):
            yield node, node.func
        elif isinstance(node, ast.Pipe):
            yield from ((s, s) for s in node.stages if isinstance(s, ast.Name | ast.Field))
