"""The grammar of model files."""

# Found by its folder it would be a second module, whose classes are not those of the first.
if __name__ != "nnc.grammar":
    raise ImportError("import nnc.grammar, not grammar")
