"""Running compiled programs: training, data, files, the command."""

# Found by its folder it would be a second module, whose classes are not those of the first.
if __name__ != "nnc.runtime":
    raise ImportError("import nnc.runtime, not runtime")
