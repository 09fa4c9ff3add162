"""The two intermediate representations: graphs of index forms, and loops."""

# Found by its folder it would be a second module, whose classes are not those of the first.
if __name__ != "nnc.ir":
    raise ImportError("import nnc.ir, not ir")
