"""Inferred ranges and one-to-one stores, against counting."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.notation import Program

from nnc.frontend.notation.injective import injective
from nnc.ir.index import Size, axis, dim, evaluate, floordiv, mod
from nnc.ir.prove import Facts

n = dim("n")


@settings(max_examples=60, deadline=None)
@given(slope=st.integers(1, 4), start=st.integers(0, 5), more=st.integers(0, 9))
def test_the_inferred_range_is_the_largest_inside(slope: int, start: int, more: int) -> None:
    x = np.arange(start + 1.0 + more)
    program = Program({"x": (x, "n")}, {"s": slope, "b": start}, [n - start - 1])
    ran = program.run("y[i] = x[s*i + b]\nz[i] = x[n - 1 - b - s*i]")
    np.testing.assert_array_equal(ran["y"], x[start::slope])
    np.testing.assert_array_equal(ran["z"], x[::-1][start::slope])


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 3),
    more=st.integers(0, 7),
)  # fmt: skip
def test_a_window_moves_as_far_as_it_fits(size: int, stride: int, dilation: int, more: int) -> None:
    reach = dilation * (size - 1)
    x, k = np.arange(reach + 1.0 + more) ** 2, np.arange(1.0, size + 1)
    program = Program(
        {"x": (x, "n"), "k": (k, k.shape)}, {"s": stride, "d": dilation}, [n - reach - 1]
    )
    ran = program.run("y[i] = sum[u](x[s*i + d*u] * k[u])")
    windows = range(0, len(x) - reach, stride)
    expected = [x[p : p + reach + 1 : dilation] @ k for p in windows]
    np.testing.assert_allclose(ran["y"], expected)


AXES = ("i", "j", "k")


@st.composite
def places(draw: st.DrawFn) -> Size:
    total: Size = draw(st.integers(-2, 2))
    for name in draw(st.lists(st.sampled_from(AXES), min_size=1, max_size=3, unique=True)):
        term: Size = axis(name) * draw(st.sampled_from((-3, -2, 1, 2, 3, 4, 6)))
        match draw(st.integers(0, 5)):
            case 0:
                term = floordiv(axis(name), draw(st.integers(2, 3)))
            case 1:
                term = mod(axis(name), draw(st.integers(2, 3)))
        total = total + term
    return total


@settings(max_examples=300, deadline=None)
@given(
    st.lists(places(), min_size=1, max_size=3),
    st.lists(st.integers(1, 4), min_size=3, max_size=3),
)
def test_what_is_called_one_to_one_is(out: list[Size], extents: list[int]) -> None:
    facts = Facts(tuple(zip(AXES, extents, strict=True)))
    if not injective(out, facts):
        return
    used = [a for a in AXES if any(f"${a}" in str(o) for o in out)]
    ranges = [range(dict(facts.axes)[a]) for a in used]
    seen = set()
    for point in itertools.product(*ranges):
        place = tuple(evaluate(o, dict(zip(used, point, strict=True))) for o in out)
        assert place not in seen
        seen.add(place)


def test_one_to_one_is_seen() -> None:
    i, j, k, w = axis("i"), axis("j"), axis("k"), dim("w")
    facts = Facts((("i", dim("h")), ("j", w), ("k", 4)))
    for out in (
        (i, j),
        (j, i),
        (i + 3,),
        (i * 4 + k,),
        (i * w + j,),
        (i * w * 4 + j * 4 + k,),
        (i + j, j),
        (floordiv(i, 3), mod(i, 3)),
        (dim("h") - 1 - i,),
        (i * -1 + 5, j + i),
    ):
        assert injective(out, facts), out
    for out in ((i + j,), (i * 3 + k,), (i * w + k,), (floordiv(i, 2),), (mod(i, 4), j)):
        assert not injective(out, facts), out
