"""Bounds: what must be proved is, and nothing false ever is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc.ir.expr import Apply, Const, Expr, Loaded, Position, Read
from nnc.ir.graph import Form
from nnc.ir.index import Size, axis, dim, evaluate, floordiv, mod
from nnc.ir.prove import (
    Facts,
    assumptions,
    bounds,
    contradicts,
    facts_of,
    proves_equal,
    proves_less,
    proves_nonneg,
)
from nnc.ir.types import DType

h, w, c, n, t, m = map(dim, "hwcntm")
i, j, k, u, v, r = map(axis, "ijkuvr")
pos = Loaded(Read(0, (), DType.I32)).as_poly()


def inside(value: Size, extent: Size, facts: Facts) -> bool:
    return proves_nonneg(value, facts) and proves_less(value, extent, facts)


def even(value: Size, by: int = 2) -> tuple[Size, Size]:
    return mod(value, by), -mod(value, by)


def box(**axes: Size) -> Facts:
    return Facts(tuple(axes.items()))


MUST_PROVE = {
    "bare": (i, n, box(i=n)),
    "prefix": (i, n, box(i=n - 1)),
    "pair of pixels": (i * 2 + u, h, box(i=floordiv(h, 2), u=2)),
    "pair of pixels, even": (i * 2 + u, h, box(i=floordiv(h, 2), u=2).assume(even(h))),
    "stride and kernel": (i * 3 + u * 2, h, box(i=floordiv(h - 9, 3) + 1, u=5)),
    "half resolution": (floordiv(i, 2), h, box(i=h * 2)),
    "remainder": (mod(k, 4), 4, box(k=n)),
    "remainder of its own range": (mod(k, 3), n, box(k=n)),
    "guarded padding": (i + u - 1, h, box(i=h, u=3).assume([i + u - 1, h - i - u])),
    "reversal": (n - 1 - i, n, box(i=n)),
    "rotated half": (
        k + floordiv(n, 2),
        n,
        box(k=n).assume([floordiv(n, 2) - k - 1, *even(n)]),
    ),
    "rotated half, odd too": (k + floordiv(n, 2), n, box(k=n).assume([floordiv(n, 2) - k - 1])),
    "other half": (k - floordiv(n, 2), n, box(k=n).assume([k - floordiv(n, 2)])),
    "head": (floordiv(i, 3), 4, box(i=12)),
    "grouped heads": (floordiv(i, 4), n, box(i=n * 4)),
    "flat place": (i * w + j, h * w, box(i=h, j=w)),
    "flat place in three": ((i * h + j) * w + k, c * h * w, box(i=c, j=h, k=w)),
    "cache": (j - pos, t, box(j=n).assume([j - pos, pos + t - 1 - j])),
    "window": (i + u, t, box(i=t - 4, u=5).assume([t - 5])),
    "halved four times": (
        i * 2 + u,
        floordiv(h, 8),
        box(i=floordiv(h, 16), u=2).assume(even(h, 16)),
    ),
    "same size, required": (i, m, box(i=n).assume([n - m, m - n])),
    "required at most": (i, m, box(i=n).assume([m - n])),
    "constant in a required dim": (5, n, Facts().assume([n - 6])),
    "concatenation": (i - h, w, box(i=h + w).assume([i - h])),
    "byte": (Loaded(Read(0, (i,), DType.U8)).as_poly(), 256, box(i=n)),
    "pixel shuffle": (i * 4 + floordiv(j, 2) * 2 + mod(j, 2), h * 4, box(i=h, j=4)),
    "division of a sum": (floordiv(i * 2 + u, 2), n, box(i=n, u=2)),
    "split into blocks": (floordiv(i, 4) * 4 + mod(i, 4), n, box(i=n)),
}


@pytest.mark.parametrize("name", MUST_PROVE)
def test_must_prove(name: str) -> None:
    value, extent, facts = MUST_PROVE[name]
    assert inside(value, extent, facts)


MUST_NOT_PROVE = {
    "one too far": (i + 1, n, box(i=n)),
    "one too low": (i - 1, n, box(i=n)),
    "unguarded padding": (i + u - 1, h, box(i=h, u=3)),
    "odd size rounded up": (i * 2 + u, h, box(i=floordiv(h + 1, 2), u=2)),
    "other dim": (i, m, box(i=n)),
    "transposed flat place": (i * h + j, h * w, box(i=h, j=w)),
    "unchecked data": (pos, t, Facts()),
    "empty dims do not exist, two do not either": (1, n, Facts()),
    "no range": (i, n, Facts()),
}


@pytest.mark.parametrize("name", MUST_NOT_PROVE)
def test_must_not_prove(name: str) -> None:
    value, extent, facts = MUST_NOT_PROVE[name]
    assert not inside(value, extent, facts)


def test_equations_join_different_spellings() -> None:
    facts = Facts().assume(even(h, 16))
    assert proves_equal(floordiv(h, 2) * 2, h, facts)
    assert proves_equal(mod(floordiv(h, 2), 8), 0, facts)
    assert not proves_equal(mod(floordiv(h, 2), 16), 0, facts)
    assert proves_equal(n * w, m * w, Facts().assume([n - m, m - n]))


def test_a_contradiction_is_noticed() -> None:
    assert contradicts(box(i=n).assume([-i - 1]))
    assert contradicts(Facts().assume([h - w - 1, w - h]))
    assert not contradicts(box(i=n).assume([i - 3]))


def position(value: Size) -> Expr:
    return Position(value)


def apply(op: str, *args: Expr) -> Expr:
    return Apply(op, args, DType.BOOL)


def test_conditions_become_facts() -> None:
    low = apply("le", Const(0, DType.I64), position(i + u - 1))
    high = apply("lt", position(i + u - 1), position(h))
    guard = apply("and", low, high)
    assert assumptions(guard) == (i + u - 1, h - i - u)
    assert assumptions(guard, False) == ()
    assert assumptions(apply("not", apply("or", low, high))) == (-i - u, i + u - 1 - h)
    wrapping = apply("lt", Apply("add", (Read(0, (), DType.I32),) * 2, DType.I32), position(h))
    assert assumptions(wrapping) == ()
    form = Form((("i", h), ("u", 3)), (i,), "sum", Const(1, DType.I32), guard)
    assert inside(i + u - 1, h, facts_of(form))


def test_bounds() -> None:
    facts = box(i=h, u=3, j=n)
    assert bounds(i + u - 1, facts) == (-1, h)
    assert bounds(n - 1 - j, facts) == (0, n - 1)
    assert bounds(floordiv(i, 2) * 3, facts) == (0, floordiv(h - 1, 2) * 3)
    assert bounds(mod(i, 5) - 1, facts) == (-1, 3)
    assert bounds(mod(u, 5), facts) == (0, 2)
    assert bounds(j * w, facts) == (0, n * w - w)
    assert bounds(pos + i, facts) == (None, None)


ATOMS = (h, w, i, j)
EXTENTS = (h, w, floordiv(h, 2), h * 2, floordiv(w - 3, 2) + 1, h + w, 4)


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    total: Size = draw(st.integers(-3, 3))
    for atom in draw(st.lists(st.sampled_from(ATOMS), max_size=3)):
        term: Size = atom * draw(st.sampled_from((-2, -1, 1, 2)))
        match draw(st.integers(0, 5)):
            case 0:
                term = floordiv(term + draw(st.integers(-2, 2)), draw(st.integers(2, 3)))
            case 1:
                term = mod(term + draw(st.integers(-2, 2)), draw(st.integers(2, 3)))
            case 2:
                term = term * draw(st.sampled_from(ATOMS))
        total = total + term
    return total


def points(facts: Facts) -> list[dict[str, int]]:
    """Every point of small boxes at which the facts hold."""
    found: list[dict[str, int]] = []
    for sides in itertools.product(range(1, 6), repeat=2):
        place = dict(zip("hw", sides, strict=True))
        ranges = [range(evaluate(extent, place)) for _, extent in facts.axes]
        for values in itertools.product(*ranges):
            point = place | dict(zip("ij", values, strict=True))
            if all(evaluate(f, point) >= 0 for f in facts.nonneg):
                found.append(point)
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_nothing_false_is_proved(data: st.DataObject) -> None:
    extents = data.draw(st.lists(st.sampled_from(EXTENTS), min_size=2, max_size=2))
    known = data.draw(st.lists(sizes(), max_size=2))
    if data.draw(st.booleans()):
        known += even(
            data.draw(st.sampled_from((h, w, i + j, h + w))), data.draw(st.integers(2, 3))
        )
    facts = Facts((("i", extents[0]), ("j", extents[1])), tuple(known))
    value = data.draw(sizes())
    places = points(facts)
    low, high = bounds(value, facts)
    claimed = proves_nonneg(value, facts)
    for point in places:
        got = evaluate(value, point)
        assert got >= 0 or not claimed, point
        assert low is None or evaluate(low, point) <= got, point
        assert high is None or evaluate(high, point) >= got, point
    assert not (places and contradicts(facts))
