"""``python -m nnc`` is the command ``nnc``."""

from __future__ import annotations

from nnc.cli import main

if __name__ == "__main__":
    main(prog_name="nnc")
