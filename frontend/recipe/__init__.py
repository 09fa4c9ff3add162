"""Train blocks: which one is meant, its keys, and what they are checked against."""

from __future__ import annotations

from nnc.frontend.recipe.block import elaborate_recipe, train_name
from nnc.frontend.recipe.choose import open_program, pick_train

__all__ = ["elaborate_recipe", "open_program", "pick_train", "train_name"]
