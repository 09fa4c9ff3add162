"""Targets: each turns a program of loops into code that the runtime can call."""

# Found by its folder it would be a second module, whose classes are not those of the first.
if __name__ != "nnc.backends":
    raise ImportError("import nnc.backends, not backends")
