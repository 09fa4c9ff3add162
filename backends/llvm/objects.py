"""LLVM text becomes object bytes: parse, verify, generate code. No optimizer pass runs."""

from __future__ import annotations

import functools
from typing import Any

from nnc.backends.llvm import cache
from nnc.backends.llvm.target import Target


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
            cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
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

    versions = (__version__, llvmlite.__version__)
    name = cache.key(text, target.triple, target.cpu, target.features, *versions)
    return cache.fetch(name, lambda: bytes(machine(target).emit_object(_verified(text))))


def assembly(text: str, target: Target) -> str:
    """Return the assembly of a module, for people to read."""
    return str(machine(target).emit_assembly(_verified(text)))
