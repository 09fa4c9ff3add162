"""Rules for E02: names, types, shapes and calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nnc.frontend import ast
from nnc.frontend.edits import Fix
from nnc.frontend.mend.ask import Ask, Rule, after, before, conjecture, put
from nnc.ir.span import Span

_REDUCTIONS = ("sum", "prod", "max", "min", "mean", "var", "std", "any", "all")
_CASTS = ("float", "i32", "i64", "bool")


def _arguments(ask: Ask) -> Iterator[ast.Call]:
    """The calls that the fault may lie in: around it, or just it."""
    yield from ask.around(ast.Call)[:2]


# types --------------------------------------------------------------------------------------------


def swapped_arguments(ask: Ask) -> Iterator[Fix]:
    """``cross_entropy(label, logits)``: two arguments in each other's place."""
    for call in _arguments(ask):
        for a, b in zip(call.args, call.args[1:], strict=False):
            yield conjecture(f"swap {ask.of(a)} and {ask.of(b)}", put(a, ask.of(b)),
                             put(b, ask.of(a)))  # fmt: skip


def one_hot_target(ask: Ask) -> Iterator[Fix]:
    """A row of zeros and a one, where the number of the class is wanted."""
    for call in _arguments(ask):
        for arg in call.args:
            if arg.span == ask.span and isinstance(arg, ast.Name) and _is_rows(ask, arg.id):
                yield conjecture("take the place of the one", before(arg, "argmax("),
                                 after(arg, ")"))  # fmt: skip


def _is_rows(ask: Ask, name: str) -> bool:
    """Whether a port of that name holds rows of decimals."""
    types = [p.type for p in ask.nodes(ast.PortDecl) if p.name.text == name]
    return any(
        isinstance(t, ast.TensorTypeExpr) and t.name.text[0] == "f" and len(t.dims or ()) > 1
        for t in types
    )


def cast(ask: Ask) -> Iterator[Fix]:
    """A missing ``float(x)``: of the value itself, or of one side of an operator."""
    sides: list[ast.Node | Span] = [ask.span]
    for node in ask.around(ast.Binary)[:1]:
        if node.span == ask.span:
            sides = [node.left, node.right]
    for compare in ask.around(ast.Compare)[:1]:
        if compare.span == ask.span:
            sides = list(compare.operands)
    hint = ask.diagnostic.hint or ""
    # a cast that drops a fraction is offered only where the message speaks of it
    named = [name for name in _CASTS if f"{name}(" in hint]
    for name in named or ["float"]:
        for side in sides:
            span = side if isinstance(side, Span) else side.span
            text = ask.source.excerpt(span)
            yield conjecture(f"convert it: {name}({text})", before(span, f"{name}("),
                             after(span, ")"))  # fmt: skip


def compared(ask: Ask) -> Iterator[Fix]:
    """Numbers where truth values are wanted."""
    if "!= 0" in (ask.diagnostic.hint or ""):
        yield conjecture("compare it with 0", after(ask.span, " != 0"))


# products -----------------------------------------------------------------------------------------


def product(ask: Ask) -> Iterator[Fix]:
    """A matrix the other way round: declared so, to be transposed, or on the wrong side."""
    for node in ask.around(ast.Binary)[:1]:
        if node.op != "@":
            return
        a, b = ask.of(node.left), ask.of(node.right)
        yield from _declared_otherwise(ask)
        yield from wrong_size(ask)
        for side, text in ((node.right, b), (node.left, a)):
            yield conjecture(f"multiply by transpose({text})", before(side, "transpose("),
                             after(side, ")"))  # fmt: skip
        yield conjecture("multiply the other way round", put(node.left, b), put(node.right, a))


def _declared_otherwise(ask: Ask) -> Iterator[Fix]:
    params, buffers = ask.declared(ast.ParamDecl), ask.declared(ast.BufferDecl)
    held: list[ast.ParamDecl | ast.BufferDecl] = [*params, *buffers]
    for each in held:
        dims = each.type.dims if isinstance(each.type, ast.TensorTypeExpr) else None
        if dims is not None and len(dims) == 2:
            first, second = ask.of(dims[0]), ask.of(dims[1])
            yield conjecture(f"declare {each.name} [{second}, {first}]", put(dims[0], second),
                             put(dims[1], first))  # fmt: skip


# sizes --------------------------------------------------------------------------------------------


def wrong_size(ask: Ask) -> Iterator[Fix]:
    """A literal that is one of two sizes in conflict becomes the other one."""
    one, two = ask.fact("one"), ask.fact("two")
    if one is None or two is None:
        return
    places = [ask.span, *(span for span, _ in ask.diagnostic.related)]
    places += [s.span for p in places if (s := ask.statement(p)) is not None]
    # what data is like is not for the model to say
    seen = {n.span for port in ask.nodes(ast.PortDecl) for n in ask.within(ast.Int, port.span)}
    numbers = [n for p in (*places, None) for n in (ask.within(ast.Int, p) if p else _rest(ask))]
    for number in numbers:
        if number.span not in seen:
            seen.add(number.span)
            for wrong, right in ((one, two), (two, one)):
                if str(number.value) == wrong and right.isdigit():
                    yield conjecture(f"make it {right}", put(number, right))


def _rest(ask: Ask) -> Iterator[ast.Int]:
    """Numbers in what comes before, the nearest first: the size may come from there."""
    found = [n for n in ask.nodes(ast.Int) if n.span.end <= ask.span.start]
    yield from reversed(found)


def keep_axis(ask: Ask) -> Iterator[Fix]:
    """``x - mean(x, axis = 1)``: the dim that was reduced must stay as one of 1."""
    place = ask.statement()
    spans = [ask.span, *([place.span] if place is not None else [])]
    for call in (c for span in spans for c in ask.within(ast.Call, span)):
        names = {k.name.text for k in call.kwargs}
        reduces = isinstance(call.func, ast.Name) and call.func.id in _REDUCTIONS
        if reduces and "axis" in names and "keep" not in names:
            last = call.kwargs[-1]
            yield conjecture("keep the dim that is reduced", after(last, ", keep = true"))


def required(ask: Ask) -> Iterator[Fix]:
    """What the sizes must be is not known: a ``require`` says it."""
    condition = ask.fact("require")
    place = ask.statement()
    if condition is not None and place is not None:
        line = f"require {condition}"
        yield ask.line_before(place, line, f"say so: {line}")


def rest_of_reshape(ask: Ask) -> Iterator[Fix]:
    """``reshape(x, (batch, 512))`` of another number of elements: let one dim take what is left."""
    for call in ask.around(ast.Call)[:1]:
        if not (isinstance(call.func, ast.Name) and call.func.id == "reshape"):
            return
        for shape in [a for a in call.args if isinstance(a, ast.Tuple)]:
            for dim in reversed(shape.items):
                yield conjecture("let this dim take what is left", put(dim, "-1"))


def flattened(ask: Ask) -> Iterator[Fix]:
    """Images go into a layer of vectors: they must be flattened before."""
    for stage in _linear_stages(ask):
        yield conjecture("flatten it before", before(stage, "flatten |> "))
        yield conjecture("flatten it before", before(stage, "flatten() |> "))
    for call in ask.within(ast.Call, Span(ask.source.name, 0, len(ask.text))):
        if isinstance(call.func, ast.Call) and _is_linear(call.func) and len(call.args) == 1:
            arg = call.args[0]
            yield conjecture("flatten it before", before(arg, "flatten("), after(arg, ")"))


def _linear_stages(ask: Ask) -> Iterator[ast.Expr]:
    for pipe in ask.nodes(ast.Pipe):
        stage = next((s for s in pipe.stages if _is_linear(s)), None)
        if stage is not None:
            yield stage


def _is_linear(node: ast.Node) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and (
        node.func.id == "linear"
    )  # fmt: skip


def channel(ask: Ask) -> Iterator[Fix]:
    """Images without channels go into a convolution: there is one."""
    shape, found, wanted = ask.fact("shape"), ask.fact("rank"), ask.fact("wanted")
    if shape is None or found is None or wanted is None or int(wanted) != int(found) + 1:
        return
    dims = [d.strip() for d in shape[1:-1].split(",")]
    if len(dims) < 2:
        return
    new = ", ".join([dims[0], "1", *dims[1:]])
    text = ask.source.excerpt(ask.span)
    yield conjecture("give it a dim of one channel", put(ask.span, f"reshape({text}, ({new}))"))


def another_axis(ask: Ask) -> Iterator[Fix]:
    """An axis that is not there: the last, or counted from 1 where it is from 0."""
    place = ask.statement()
    calls = [*ask.around(ast.Call)[:1], *(ask.within(ast.Call, place.span) if place else ())]
    for call in calls:
        for value in (k.value for k in call.kwargs if k.name.text == "axis"):
            if isinstance(value, ast.Int):
                if value.value > 0:
                    less = value.value - 1
                    yield conjecture(f"axes count from 0: {less}", put(value, str(less)))
                yield conjecture("take the last axis", put(value, "-1"))


# calls --------------------------------------------------------------------------------------------


def called(ask: Ask) -> Iterator[Fix]:
    """A layer without its config: ``batch_norm`` for ``batch_norm()``."""
    for call in ask.around(ast.Call)[:1]:
        if call.span == ask.span:
            yield conjecture(f"write {ask.of(call.func)}()", after(call.func, "()"))
    text = f"{ask.source.excerpt(ask.span)}()"
    if ask.diagnostic.hint == f"write {text}":  # all of its config has defaults
        yield Fix(f"write {text}", (after(ask.span, "()"),))


def round_brackets(ask: Ask) -> Iterator[Fix]:
    """``relu[x]`` for ``relu(x)``."""
    for node in ask.around(ast.Subscript)[:1]:
        head = node.base.span.end - node.span.start
        text = ask.of(node)
        inside = text[head:].strip()
        if inside.startswith("["):
            yield conjecture("call it", put(node, f"{text[:head]}({inside[1:-1]})"))


def parts(ask: Ask) -> Iterator[Fix]:
    """``x.shape`` and ``x.T``."""
    for field in ask.around(ast.Field)[:1]:
        new = {"shape": "shape", "size": "size", "T": "transpose", "ndim": "rank"}.get(
            field.name.text
        )
        if new is not None:
            text = f"{new}({ask.of(field.base)})"
            yield conjecture(f"write {text}", put(field, text))


def averaged(ask: Ask) -> Iterator[Fix]:
    """A loss of many numbers, or one that is no decimal."""
    for name in ("mean", "float"):
        yield conjecture(f"write {name}(...)", before(ask.span, f"{name}("), after(ask.span, ")"))


def training_only(ask: Ask) -> Iterator[Fix]:
    """An ``update`` outside of ``if training``."""
    for update in ask.around(ast.Update)[:1]:
        text = ask.of(update)
        yield conjecture("do it in training alone", put(update, f"if training {{ {text} }}"))


def buffer(ask: Ask) -> Iterator[Fix]:
    """An ``update`` of a param: what is updated by hand is a buffer."""
    for param in ask.declared(ast.ParamDecl):
        text = ask.of(param)
        yield conjecture("declare it a buffer", put(param, "buffer" + text[len("param") :]))


RULES: Mapping[str, tuple[Rule, ...]] = {
    "E0203": (product, cast),
    "E0204": (keep_axis, rest_of_reshape, wrong_size, required, flattened, swapped_arguments),
    "E0205": (swapped_arguments, one_hot_target, cast),
    "E0206": (swapped_arguments, wrong_size, required, flattened, channel, keep_axis),
    "E0208": (wrong_size, keep_axis, cast),
    "E0210": (required,),
    "E0217": (training_only, buffer),
    "E0218": (called,),
    "E0223": (round_brackets,),
    "E0225": (parts,),
    "E0228": (averaged,),
    "E0229": (another_axis,),
}
