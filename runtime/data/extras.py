"""Packages that only some data needs: found when it is read, or told what to install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from nnc.runtime.errors import UserError


def need(module: str, package: str, extra: str, what: str) -> Any:
    """Return a module. Raises UserError where its package is not installed."""
    try:
        return import_module(module)
    except ImportError:
        raise UserError(
            "E0627",
            f"{what} needs the package {package}, which is not installed",
            (),
            f"install it: pip install 'nnc[{extra}]'",
        ) from None
