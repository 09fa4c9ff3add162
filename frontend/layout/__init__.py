"""The formatter of model files: the same program, laid out in one style."""

from nnc.frontend.layout.format import format_source, lay_out

__all__ = ["format_source", "lay_out"]
