"""Fixes: edits that would mend a fault, each tried on the program before anybody is shown it."""

from nnc.frontend.mend.trial import mended

__all__ = ["mended"]
