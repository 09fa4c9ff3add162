"""Names that more than one part of the runtime must agree on."""

BUILT_MAGIC = b"NNCFILE1"
"""What a built file begins with."""

ROWS = "data.rows"
"""A dim: the rows of the arrays that ``steps`` draws batches from."""

TURNS = "turns"
"""A dim: how many steps one call of ``steps`` takes."""

TRAINABLE = "state:*trainable"
"""A buffer: the block of all trainable parameters."""

AVERAGE = "state:*ema"
"""A buffer: the moving averages of all trainable parameters, laid out as they are."""
