"""Scratch memory: buffers that are alive together lie apart, others share."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nnc.ir.index import dim
from nnc.ir.loops import Barrier, Buffer, Entry, Launch, Program, Repeat, Step, When
from nnc.ir.types import DType
from nnc.passes.plan import ALIGN_BYTES, Live, assign, live_ranges, plan

N = dim("n")


def program_of(steps: tuple[Step, ...], sizes: dict[str, object]) -> Program:
    buffers = tuple(
        Buffer(name, DType.F32, (size,), "scratch")  # type: ignore[arg-type]
        for name, size in sizes.items()
    )
    return Program("p", ("n",), buffers, (), (), (Entry("main", ("n",), steps),))


def uses(*views: str) -> Launch:
    return Launch("k", views, (1,))


def test_buffers_that_follow_each_other_share() -> None:
    steps = (uses("a", "b"), Barrier(), uses("b", "c"), Barrier(), uses("c", "d"))
    made = plan(program_of(steps, dict.fromkeys("abcd", 16)), "main", {"n": 1})
    assert made.total == 2 * 64
    assert made.offsets["a"] == made.offsets["c"] != made.offsets["b"] == made.offsets["d"]


def test_without_a_barrier_they_do_not() -> None:
    steps = (uses("a"), uses("b"))
    assert plan(program_of(steps, {"a": 16, "b": 16}), "main", {"n": 1}).total == 128


def test_sizes_come_from_the_dims() -> None:
    steps = (uses("a", "b"),)
    program = program_of(steps, {"a": N * 3, "b": 1})
    assert plan(program, "main", {"n": 1}).total == 128
    assert plan(program, "main", {"n": 100}).total == 1216 + 64


def test_repeats_and_choices_are_looked_into() -> None:
    turn = (uses("a"), Barrier(), uses("b"))
    steps = (Repeat("i", N, turn), Barrier(), When((N,), (uses("c"),), (uses("d"),)))
    found = {
        b.name: (b.first, b.last)
        for b in live_ranges(program_of(steps, dict.fromkeys("abcd", 4)), steps)
    }
    assert found["a"] == (0, 0)
    assert found["b"] == (1, 1)
    assert found["c"] == found["d"] == (2, 2)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 8), st.integers(0, 8)),
        min_size=1,
        max_size=12,
    )
)
def test_what_is_alive_together_lies_apart(drawn: list[tuple[int, int, int]]) -> None:
    lives = [Live(f"b{k}", size, min(a, b), max(a, b)) for k, (size, a, b) in enumerate(drawn)]
    made = assign(lives, {})
    for a in lives:
        start = made.offsets[a.name]
        assert start % ALIGN_BYTES == 0
        assert start + int(str(a.size)) <= made.total
        for b in lives:
            together = a.first <= b.last and b.first <= a.last
            if a is not b and together:
                other = made.offsets[b.name]
                apart = start + a.size <= other or other + b.size <= start
                assert apart
    assert assign(list(reversed(lives)), {}) == made
