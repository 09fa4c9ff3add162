"""From source text to checked models in graph IR."""

# Found by its folder it would be a second module, whose classes are not those of the first.
if __name__ != "nnc.frontend":
    raise ImportError("import nnc.frontend, not frontend")
