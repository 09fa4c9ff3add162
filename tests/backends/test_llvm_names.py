"""Backends see loops only: nothing in them names an operation of a network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nnc.backends

ROOT = Path(nnc.backends.__file__).parent
NETWORK = re.compile(
    r"(?<![a-z])(contract(?:ion|ions)?|conv(?:[1-3]d)?|convolutions?|convolve|soft_?max|attention"
    r"|mat_?mul|gemm|linear_layer|pool(?:ing)?|batch_?norm|layer_?norm|dropout|embedding)(?![a-z])",
    re.IGNORECASE,
)
FILES = sorted(p for p in ROOT.rglob("*") if p.suffix in (".py", ".md"))


def test_there_are_files_to_search() -> None:
    assert len(FILES) > 10
    assert NETWORK.search("def emit_conv2d(")
    assert NETWORK.search("a softmax")
    assert not NETWORK.search("convert the conversion of a linear form")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_network_operation_is_named(path: Path) -> None:
    found = [m.group() for m in NETWORK.finditer(path.read_text())]
    assert not found
