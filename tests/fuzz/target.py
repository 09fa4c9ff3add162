"""The atheris target: bytes, guided by coverage, through the checker.

``python -m tests.fuzz.target FOLDER`` runs until something other than a diagnostic comes out;
the options are libFuzzer's (``-runs=100000``, ``-max_len=2000``).
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["nnc.frontend"]):
    from nnc.frontend.index import analyse
    from nnc.frontend.source import Source


def one_input(data: bytes) -> None:
    """Check one text; what is not UTF-8 is refused before the checker."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    analyse(Source("fuzz.nn", text))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
