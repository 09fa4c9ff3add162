"""A small language for neural networks, and the compiler that makes native programs of them.

import nnc

net = nnc.compile("digits.nn")
history = net.fit()
probs = net(image=images)["probs"]
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnc.frontend.diagnostics import SourceError
    from nnc.frontend.layout import format_source
    from nnc.runtime.errors import UserError
    from nnc.runtime.net import Net
    from nnc.runtime.open import compile, load
    from nnc.runtime.train import Epoch, History
    from nnc.runtime.verify.run import verify

__version__ = "0.1.0"
__began__ = time.time_ns()
"""When this process began to load the compiler; files changed since are not what it runs."""

__all__ = [
    "Epoch",
    "History",
    "Net",
    "SourceError",
    "UserError",
    "compile",
    "format_source",
    "load",
    "verify",
]

_HOME = {
    "compile": "nnc.runtime.open",
    "load": "nnc.runtime.open",
    "verify": "nnc.runtime.verify.run",
    "Net": "nnc.runtime.net",
    "History": "nnc.runtime.train",
    "Epoch": "nnc.runtime.train",
    "UserError": "nnc.runtime.errors",
    "SourceError": "nnc.frontend.diagnostics",
    "format_source": "nnc.frontend.layout",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import nnc`` stays quick."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'nnc' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
