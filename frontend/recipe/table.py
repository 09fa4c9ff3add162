"""All keys of train blocks. A new key is a row in the module of its family."""

from __future__ import annotations

from nnc.frontend.recipe import data, length, parameters, plain, steps
from nnc.frontend.recipe.keys import Key

_ROWS = (*data.ROWS, *parameters.ROWS, *length.ROWS, *plain.ROWS, *steps.ROWS)
KEYS: dict[str, Key] = {row.name: row for row in _ROWS}
LATER = ("adapt", "augment", "budget", "weights")
"""Keys of the language that this version of the compiler does not have."""
