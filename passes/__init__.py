"""Rewrites of graph IR, and the way from graphs to loops."""

# Found by its folder it would be a second module, whose classes are not those of the first.
if __name__ != "nnc.passes":
    raise ImportError("import nnc.passes, not passes")
