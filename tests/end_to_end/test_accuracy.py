"""The examples learn what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

import nnc
from tests.support.nets import EXAMPLES

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""


def test_digits() -> None:
    history = nnc.compile(EXAMPLES / "digits.nn").fit()
    assert history.last.metrics["accuracy"] > 0.965
    assert history.last.loss < history.epochs[0].loss / 10


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion() -> None:
    net = nnc.compile(EXAMPLES / "fashion.nn", data_folders=[FASHION])
    net.fit()
    assert net.evaluate(split="test")["accuracy"] > 0.885
