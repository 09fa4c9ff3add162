"""Keys of a train block that are one number or text."""

from __future__ import annotations

from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.values import Float, Int, Text
from nnc.frontend.recipe.keys import Given, Key

PRECISIONS = ("f32", "f64")


def count(given: Given) -> int:
    """Return a whole number of at least 1."""
    value = given.value()
    if isinstance(value, Int) and isinstance(value.size, int) and value.size >= 1:
        return value.size
    raise given.wrong(value)


def seed(given: Given) -> int:
    """Return what randomness is keyed by."""
    value = given.value()
    if isinstance(value, Int) and isinstance(value.size, int) and 0 <= value.size < 2**63:
        return value.size
    raise given.wrong(value)


def positive(given: Given) -> float:
    """Return a number above 0."""
    value = given.value()
    number = value.value if isinstance(value, Float) else None
    if isinstance(value, Int) and isinstance(value.size, int):
        number = float(value.size)
    if number is None or not number > 0:
        raise given.wrong(value)
    return number


def share(given: Given) -> float:
    """Return a number between 0 and 1."""
    value = given.value()
    if isinstance(value, Float) and 0 < value.value < 1:
        return value.value
    raise given.wrong(value)


def precision(given: Given) -> str:
    """Return the name of the type to compute in."""
    value = given.value()
    if isinstance(value, Text) and value.value in PRECISIONS:
        return value.value
    if isinstance(value, Text) and value.value in ("f16", "bf16"):
        raise fault("E0404", f"the precision {value.value} cannot be used yet", given.expr.span,
                    f"there are {' and '.join(PRECISIONS)}")  # fmt: skip
    raise given.wrong(value)


COUNT = "a whole number, at least 1"
ROWS = (
    Key("batch", COUNT, count),
    Key("epochs", COUNT, count),
    Key("steps", COUNT, count),
    Key("accumulate", COUNT, count),
    Key("seed", "a whole number, at least 0", seed),
    Key("clip_norm", "a number above 0", positive),
    Key("ema", "a number between 0 and 1", share),
    Key("precision", " or ".join(f'"{p}"' for p in PRECISIONS), precision),
)
