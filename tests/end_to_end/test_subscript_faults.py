"""Subscripts from data that lie outside: the call ends, and nothing has changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import nnc
from tests.support.nets import net, training

TEXT = training(
    "input ids: i32[b]\ntarget y: float[b]\nparam table: float[5, 40] = ones()\n"
    "z[i, d] = table[ids[i], d]\noutput z\nloss mean((z - 2)^2) + mean(y)\nmetric most = max(z)"
)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ids", [[0, 1, 5], [0, -1, 2], [2**31 - 1, 0, 0], [0, 0, -(2**31)]])
def test_a_bad_subscript_ends_the_call_and_changes_nothing(threads: int, ids: list[int]) -> None:
    program = net(TEXT, threads=threads)
    before = program.params["table"].copy()
    data = {"ids": ids, "y": [0, 0, 0]}
    calls: list[Callable[[], object]] = [
        lambda: program.step(**data),
        lambda: program(ids=ids),
        lambda: program.evaluate(data),
        lambda: program.fit(data, epochs=1, batch=3),
    ]
    bad = next(i for i in ids if not 0 <= i < 5)
    for call in calls:
        with pytest.raises(nnc.UserError) as fault:
            call()
        assert fault.value.code == "E0610"
        for word in (str(bad), "table", "0..5"):
            assert word in str(fault.value)
    np.testing.assert_array_equal(program.params["table"], before)
    assert program.executor.step_count() == 0
    np.testing.assert_array_equal(program(ids=[4, 0])["z"], before[:2])
    assert program.step(ids=[0, 4, 0], y=[0, 0, 0]) == 1


def test_a_declared_range_is_checked_before_the_call() -> None:
    program = net(TEXT.replace("i32[b]\n", "i32[b] in 0..5\n", 1))
    with pytest.raises(nnc.UserError) as fault:
        program.step(ids=[0, 1, 5], y=[0, 0, 0])
    assert fault.value.code == "E0606"
