"""All keys of train blocks. A new key is a row in the module of its family."""

from __future__ import annotations

from nnc.frontend.recipe import data, parameters, plain, steps
from nnc.frontend.recipe.keys import Key

KEYS: dict[str, Key] = {
    row.name: row for row in (*data.ROWS, *parameters.ROWS, *plain.ROWS, *steps.ROWS)
}
LATER = ("adapt", "augment", "budget", "checkpoint", "early_stop", "weights")
"""Keys of the language that this version of the compiler does not have."""
