"""Pooling and resizing of the library against PyTorch's over random configurations, in f64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.library import agree

torch = pytest.importorskip("torch")
F = torch.nn.functional


@st.composite
def pools(draw: st.DrawFn) -> dict[str, Any]:
    """Draw windows that do not lie in the padding, and places enough for one."""
    rank = draw(st.sampled_from((1, 2, 2, 3)))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, dilation = each(1, 3), each(1, 2)
    # PyTorch reads outside where padding and dilation leave a window nothing of the data
    pad = tuple(
        draw(st.integers(0, k // 2)) if d == 1 else 0 for k, d in zip(kernel, dilation, strict=True)
    )
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, pad, strict=True)]
    lead = [draw(st.integers(1, 2)), draw(st.integers(1, 2))]
    return {
        "rank": rank,
        "kernel": kernel,
        "stride": each(1, 3),
        "pad": pad,
        "dilation": dilation,
        "count_pad": draw(st.booleans()),
        # whole numbers now and then, so that elements of one window are equal
        "ties": draw(st.booleans()),
        "shape": [*lead, *(n + draw(st.integers(0, 4)) for n in least)],
    }


def data(case: dict[str, Any]) -> Any:
    rng = np.random.default_rng(5)
    if case["ties"]:
        return rng.integers(0, 3, case["shape"]).astype(np.float64)
    return rng.normal(0, 1, case["shape"])


def max_pool_agrees(case: dict[str, Any]) -> None:
    rank = case["rank"]
    config = ", ".join(
        str(case[k]) if rank > 1 else str(case[k][0])
        for k in ("kernel", "stride", "pad", "dilation")
    )
    theirs = getattr(F, f"max_pool{rank}d")
    agree(
        f"y = max_pool{rank}d(x, {config})",
        {"x": data(case)},
        lambda t: theirs(t["x"], case["kernel"], case["stride"], case["pad"], case["dilation"]),
    )


def average_pool_agrees(case: dict[str, Any]) -> None:
    rank = case["rank"]
    shape = [max(n, k) for n, k in zip(case["shape"][2:], case["kernel"], strict=True)]
    case = case | {"shape": [*case["shape"][:2], *shape]}
    config = ", ".join(
        str(case[k]) if rank > 1 else str(case[k][0]) for k in ("kernel", "stride", "pad")
    )
    theirs = getattr(F, f"avg_pool{rank}d")
    agree(
        f"y = average_pool{rank}d(x, {config}, count_pad = {str(case['count_pad']).lower()})",
        {"x": data(case)},
        lambda t: theirs(
            t["x"], case["kernel"], case["stride"], case["pad"],
            count_include_pad=case["count_pad"],
        ),
    )  # fmt: skip


@given(pools())
@settings(max_examples=6)
def test_pools_are_those_of_pytorch(case: dict[str, Any]) -> None:
    max_pool_agrees(case)
    average_pool_agrees(case)


@pytest.mark.slow
@given(pools())
@settings(max_examples=100)
def test_many_pools_are_those_of_pytorch(case: dict[str, Any]) -> None:
    max_pool_agrees(case)
    average_pool_agrees(case)


@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 6)] * 2))
@settings(max_examples=4)
def test_adaptive_pools_are_those_of_pytorch(size: tuple[int, int], out: tuple[int, int]) -> None:
    x = np.random.default_rng(6).normal(0, 1, (2, 2, *size))
    for ours, theirs in [("average", "avg"), ("max", "max")]:
        for rank in (1, 2):
            given_ = x if rank == 2 else x[:, 0]
            pool = getattr(F, f"adaptive_{theirs}_pool{rank}d")
            config = out if rank == 2 else out[1]
            agree(
                f"y = adaptive_{ours}_pool{rank}d(x, {config})",
                {"x": given_},
                lambda t, pool=pool, config=config: pool(t["x"], config),
            )


def test_global_pools_are_over_all_places() -> None:
    x = np.random.default_rng(7).normal(0, 1, (2, 3, 4, 5))
    agree("y = global_average_pool(x)", {"x": x}, lambda t: t["x"].mean((2, 3)))
    agree("y = global_max_pool(x)", {"x": x}, lambda t: t["x"].amax((2, 3)))


@given(st.tuples(*[st.integers(1, 5)] * 2), st.tuples(*[st.integers(1, 4)] * 2))
@settings(max_examples=4)
def test_resizing_is_that_of_pytorch(size: tuple[int, int], scale: tuple[int, int]) -> None:
    x = np.random.default_rng(8).normal(0, 1, (2, 2, *size))
    whole = [n * s for n, s in zip(size, scale, strict=True)]
    agree(
        f"y = upsample_nearest2d(x, {scale})",
        {"x": x},
        lambda t: F.interpolate(t["x"], size=whole, mode="nearest"),
    )
    agree(
        f"y = upsample_nearest1d(x, {scale[1]})",
        {"x": x[0]},
        lambda t: F.interpolate(t["x"], size=whole[1:], mode="nearest"),
    )
    for corners in (False, True):
        flag = str(corners).lower()
        agree(
            f"y = upsample_bilinear(x, {scale}, align_corners = {flag})",
            {"x": x},
            lambda t, corners=corners: F.interpolate(
                t["x"], size=whole, mode="bilinear", align_corners=corners
            ),
        )
        agree(
            f"y = upsample_linear(x, {scale[1]}, align_corners = {flag})",
            {"x": x[0]},
            lambda t, corners=corners: F.interpolate(
                t["x"], size=whole[1:], mode="linear", align_corners=corners
            ),
        )


def test_nearest_in_three_dims() -> None:
    x = np.random.default_rng(9).normal(0, 1, (1, 2, 2, 3, 2))
    agree(
        "y = upsample_nearest3d(x, (2, 1, 3))",
        {"x": x},
        lambda t: F.interpolate(t["x"], size=(4, 3, 6), mode="nearest"),
    )
