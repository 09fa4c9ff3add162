"""Writes what backends lack (exp, sin, Philox, ...) with what they have."""

from nnc.passes.math.expand import expand

__all__ = ["expand"]
