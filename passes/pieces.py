"""Cuts a form into dense pieces, one for each residue, and its box to what the guards let through.

``solve`` leaves residues as small axes of the result: ``s*h + d*r``. With ``r`` constant, most
guards concern one axis and become its range, so what is left is a dense form. The pieces of the
data gradient of a strided convolution are contractions of one structure whose points add up to
the forward's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import prod

from nnc.ir.graph import Form, Node, form_reads
from nnc.ir.index import (
    Size,
    axes_of,
    axis,
    ceildiv,
    exact_div,
    floordiv,
    linear_in_axes,
)
from nnc.ir.prove import Facts, assumptions, proves_nonneg
from nnc.passes.forms import axes_in, inside, long_axis, substitute_form
from nnc.passes.guards import annihilators, relax
from nnc.passes.solve import MOST_RESIDUES


def pieces(node: Node, known: Iterable[Size] = ()) -> tuple[Form, ...]:
    """Return forms that together do what the form of ``node`` does, over the same operands.

    They store to disjoint elements; elements that none stores to hold the reduction's identity
    (``covers`` tells whether there are any). A form that has no residues to peel is one piece, cut
    to its guards. Raises ValueError where ``node`` is not a form.
    """
    form = node.op
    if not isinstance(form, Form):
        raise ValueError(f"the pieces of a {type(form).__name__}")
    known = tuple(known)
    residues = _residues(form, node.type.shape, known)
    rest = [(name, extent) for name, extent in form.axes if name not in residues]
    found: list[Form] = []
    for point in product(*(range(extent) for extent in residues.values())):
        at: dict[str, Size] = dict(zip(residues, point, strict=True))
        fixed = trim(substitute_form(form, at, rest), node.inputs, node.type.shape, known)
        if fixed is not None:
            found.append(fixed)
    return tuple(found)


def _residues(form: Form, shape: Sequence[Size], known: tuple[Size, ...]) -> dict[str, int]:
    """The residues of strides in the result that some guard mentions, with their extents."""
    facts = Facts(form.axes, known)
    extents = dict(form.axes)
    guarded = axes_in(form.where)
    for read in form_reads(form):
        if read.outside is not None:
            guarded |= frozenset(a for i in read.index for a in axes_of(i))
    found: dict[str, int] = {}
    for o, n in zip(form.out, shape, strict=True):
        linear = linear_in_axes(o)
        terms = [] if linear is None else list(linear[0].items())
        long = long_axis(terms, extents) if len(terms) > 1 else None
        if long is None:
            continue
        outside = form.drops and not inside([o], [n], facts)
        for name, _ in terms:
            extent = extents[name]
            if name != long and isinstance(extent, int) and (outside or name in guarded):
                found[name] = extent
    return found if prod(found.values()) <= MOST_RESIDUES else {}


# -------------------------------------------------------------------------------- trimming


def trim(
    form: Form, inputs: Sequence[Node], shape: Sequence[Size], known: Iterable[Size] = ()
) -> Form | None:
    """Cut the box to what the guards let through; None where that is nothing.

    Guards on one axis become its range and go. Those of factors cut only reduced axes, so that a
    result which was covered stays so.
    """
    known = tuple(known)
    low: dict[str, Size] = {name: 0 for name, _ in form.axes}
    high: dict[str, Size] = {name: extent - 1 for name, extent in form.axes}
    facts = Facts((), known)
    for need in _needs(form, inputs, shape):
        linear = linear_in_axes(need)
        if linear is None or len(linear[0]) > 1:
            continue
        if not linear[0]:
            if proves_nonneg(-1 - linear[1], facts):
                return None
            continue
        ((name, c),) = linear[0].items()
        if isinstance(c, int):
            _narrow(low, high, name, c, linear[1], facts)
    if any(proves_nonneg(low[a] - 1 - high[a], facts) for a in low):
        return None
    moved: dict[str, Size] = {a: axis(a) + low[a] for a in low if low[a] != 0}
    box = [(a, high[a] - low[a] + 1) for a in low]
    plain = relax(substitute_form(form, moved, box), inputs, known)
    if plain.drops and inside(plain.out, shape, Facts(plain.axes, known)):
        plain = replace(plain, drops=False)
    return plain


def _needs(form: Form, inputs: Sequence[Node], shape: Sequence[Size]) -> Iterator[Size]:
    """Sizes that are at least 0 wherever a point contributes."""
    if form.where is not None:
        yield from assumptions(form.where)
    if form.drops:
        for o, n in zip(form.out, shape, strict=True):
            yield from (o, n - 1 - o)
    if form.reduce not in ("sum", "none"):
        return
    kept = frozenset(a for o in form.out for a in axes_of(o))
    for read in annihilators(form.body):
        if read.outside == 0:
            for i, n in zip(read.index, inputs[read.operand].type.shape, strict=True):
                if not axes_of(i) & kept:
                    yield from (i, n - 1 - i)


def _narrow(
    low: dict[str, Size], high: dict[str, Size], name: str, c: int, rest: Size, facts: Facts
) -> None:
    """Use ``c * axis + rest >= 0``, unless that may leave a range of negative length."""
    if c > 0:
        bound = ceildiv(-rest, c)
        tighter = proves_nonneg(bound - low[name], facts)
        if tighter and _is_range(bound, high[name], facts):
            low[name] = bound
    else:
        bound = floordiv(rest, -c)
        tighter = proves_nonneg(high[name] - bound, facts)
        if tighter and _is_range(low[name], bound, facts):
            high[name] = bound


def _is_range(low: Size, high: Size, facts: Facts) -> bool:
    """Whether the length is never negative, or always nothing."""
    length = high - low + 1
    return proves_nonneg(length, facts) or proves_nonneg(-length, facts)


# -------------------------------------------------------------------------------- coverage


def covers(forms: Sequence[Form], shape: Sequence[Size], known: Iterable[Size] = ()) -> bool:
    """Whether disjoint ``forms`` are shown to store to every element of ``shape``.

    True for the pieces of one form where each dim of the result is a stride over its whole
    length, by axes of its own, and all residues of the strides occur.
    """
    facts = Facts((), tuple(known))
    classes: set[tuple[tuple[int, int], ...]] = set()
    for form in forms:
        if form.where is not None or form.drops:
            return False
        mentioned = Counter(a for o in form.out for a in axes_of(o))
        if any(count > 1 for count in mentioned.values()):  # a diagonal
            return False
        runs = [_run(o, n, form, facts) for o, n in zip(form.out, shape, strict=True)]
        if any(run is None for run in runs):
            return False
        classes.add(tuple(run for run in runs if run is not None))
    strides = {tuple(s for s, _ in found) for found in classes}
    return len(strides) == 1 and len(classes) == prod(*strides)


def _run(subscript: Size, size: Size, form: Form, facts: Facts) -> tuple[int, int] | None:
    """The stride and the first element of a dim's subscript that runs over its whole length."""
    linear = linear_in_axes(subscript)
    if linear is None:
        return None
    extents = dict(form.axes)
    weights = {name: (c, extents[name]) for name, c in linear[0].items()}
    joined = _joined(list(weights.values()))
    first = linear[1]
    if joined is None or not isinstance(first, int):
        return None
    stride, count = joined
    if not isinstance(stride, int) or not 0 <= first < stride:
        return None
    last = first + (count - 1) * stride
    return (stride, first) if proves_nonneg(last + stride - size, facts) else None


def _joined(terms: list[tuple[Size, Size]]) -> tuple[Size, Size] | None:
    """One (weight, extent) that runs over the same values as the sum of all, in mixed radix."""
    if not terms:
        return 1, 1
    while len(terms) > 1:
        pair = next(
            (
                (light, heavy)
                for light in terms
                for heavy in terms
                if light is not heavy and exact_div(heavy[0], light[0]) == light[1]
            ),
            None,
        )
        if pair is None:
            return None
        light, heavy = pair
        terms = [t for t in terms if t is not light and t is not heavy]
        terms.append((light[0], light[1] * heavy[1]))
    return terms[0]
