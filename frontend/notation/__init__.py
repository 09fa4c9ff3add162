"""Index notation: tensors written element by element, turned into index forms."""

from nnc.frontend.notation.define import define
from nnc.frontend.notation.reduce import REDUCTIONS, reduce
from nnc.frontend.notation.subscript import subscript

__all__ = ["REDUCTIONS", "define", "reduce", "subscript"]
