"""Names that programs of a training recipe use beside the model's own."""

ROWS = "data.rows"
"""A dim: the rows of the arrays that ``steps`` draws batches from."""

TURNS = "turns"
"""A dim: how many steps one call of ``steps`` takes."""
