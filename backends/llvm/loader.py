"""Object bytes become callable code. Everything that knows how LLVM loads code is here."""

from __future__ import annotations

from typing import Any


class Loaded:
    """Code in memory, for as long as this object lives."""

    def __init__(self, code: bytes) -> None:
        from llvmlite import binding

        from nnc.backends.llvm.objects import LLVMError, machine, ready
        from nnc.backends.llvm.target import host

        ready()
        try:
            empty = binding.parse_assembly("")
            # The engine takes the machine over, so each has its own.
            self._engine: Any = binding.create_mcjit_compiler(empty, machine(host()))
            self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
            self._engine.finalize_object()
        except RuntimeError as error:
            raise LLVMError(f"LLVM cannot load the code: {error}") from error

    def address(self, symbol: str) -> int:
        """Return where a symbol is. Raises KeyError for one that the code does not have."""
        address = int(self._engine.get_function_address(symbol))
        if not address:
            raise KeyError(symbol)
        return address

    def keep_forever(self) -> None:
        """Never unload: threads may stand in this code until the process ends."""
        self._engine.detach()
