"""``nnc verify``: a user's own model, held against the interpreter stage by stage.

``world`` makes sizes and arrays; ``stages`` compares passes, loops and native code with the
interpreter, and bits with bits; ``gradients`` compares derivatives with differences; ``report`` is
what is told. ``run`` is the whole way.
"""
