"""LLVM text becomes object bytes: parse, verify, generate code. No optimizer pass runs."""

from __future__ import annotations

import functools
import threading
from typing import Any

from nnc.backends.llvm.target import Target
from nnc.ir import store

KIND = "object"
OPTIONS: dict[str, Any] = {"opt": 2, "reloc": "pic", "codemodel": "small"}
"""How LLVM makes code; the JIT's default model of code would be the large one."""

_compiled = 0
_lock = threading.Lock()


class LLVMError(Exception):
    """LLVM rejected what it was given."""


@functools.cache
def ready() -> None:
    """Initialise LLVM's code generators, once."""
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.initialize_native_asmparser()


def machine(target: Target) -> Any:
    """Return a code generator for ``target``. Raises LLVMError for an unknown one."""
    from llvmlite import binding

    ready()
    try:
        return binding.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, **OPTIONS
        )
    except RuntimeError as error:
        raise LLVMError(f"no code can be made for {target.triple}: {error}") from error


def _verified(text: str) -> Any:
    from llvmlite import binding

    ready()
    try:
        module = binding.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise LLVMError(f"LLVM rejects the code: {error}") from error
    return module


def compile_text(text: str, target: Target) -> bytes:
    """Return the object file of a module, from the cache where it has it.

    Raises LLVMError where LLVM rejects it.
    """
    import llvmlite

    from nnc import __version__

    versions = (__version__, llvmlite.__version__, repr(OPTIONS))
    name = store.key(text, target.triple, target.cpu, target.features, *versions)
    return store.fetch(KIND, name, lambda: _compile(text, target))


def _compile(text: str, target: Target) -> bytes:
    global _compiled  # noqa: PLW0603 - a counter of the process
    made = bytes(machine(target).emit_object(_verified(text)))
    with _lock:
        _compiled += 1
    return made


def compilations() -> int:
    """Return how often this process has compiled, rather than found, something."""
    return _compiled


def assembly(text: str, target: Target) -> str:
    """Return the assembly of a module, for people to read."""
    return str(machine(target).emit_assembly(_verified(text)))
