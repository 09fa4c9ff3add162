"""Philox4x32-10, the counter-based random generator, with NumPy.

J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnc.ir.scalar.table import Array

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def block(counter: tuple[Array, Array, Array, Array], key: tuple[Array, Array]) -> list[Array]:
    """Return the four random words (u32) of a block, from four counter words and two of key."""
    import numpy as np

    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = (np.asarray(c).astype(np.uint64) for c in counter)
    k0, k1 = (np.asarray(k).astype(np.uint64) for k in key)
    for _ in range(ROUNDS):
        first, second = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (second >> half) ^ c1 ^ k0,
            second & low,
            (first >> half) ^ c3 ^ k1,
            first & low,
        )
        k0, k1 = (k0 + np.uint64(KEY_STEPS[0])) & low, (k1 + np.uint64(KEY_STEPS[1])) & low
    return [c.astype(np.uint32) for c in (c0, c1, c2, c3)]


def philox4x32(seed: Array, step: Array, stream: Array, index: Array) -> Array:
    """Return random word number ``index`` (u32) of the stream, for arrays that broadcast.

    It is word ``index % 4`` of the block with key (low, high half of ``seed``) and counter (low
    half, high half of ``index // 4``, ``stream``, ``step``).
    """
    import numpy as np

    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    seed, step, stream, index = np.broadcast_arrays(seed, step, stream, index)
    number = index >> np.uint64(2)
    words = block((number & low, number >> half, stream, step), (seed & low, seed >> half))
    return np.asarray(np.choose((index & np.uint64(3)).astype(np.intp), words))
