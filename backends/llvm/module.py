"""A program of loops as the text of one LLVM module."""

from __future__ import annotations

from nnc.backends.llvm.entries import emit_entries
from nnc.backends.llvm.kernels import Sharing, emit_function, emit_kernel, sharing, symbol
from nnc.backends.llvm.support import support
from nnc.backends.llvm.target import Target
from nnc.backends.llvm.work import DEFAULT_GRAIN, task_work
from nnc.ir.loops import Kernel, Program


def emit(program: Program, target: Target, grain: int = DEFAULT_GRAIN) -> str:
    """Return the LLVM IR of ``program`` for ``target``.

    A launch with less work than ``grain`` (instructions, see ``work``) runs on one thread.

    Raises EmitError where the program breaks a rule of loop IR.
    """
    declarations: dict[str, str] = {}
    functions = {f.name: symbol("function", i, f.name) for i, f in enumerate(program.functions)}
    texts = [
        emit_function(f, functions[f.name], target, declarations, functions)
        for f in program.functions
    ]
    shared = sharing(program)
    by_name = {f.name: f for f in program.functions}
    kernels: dict[str, tuple[Kernel, str]] = {}
    written: dict[str, str] = {}
    for i, kernel in enumerate(program.kernels):
        overlap = shared.get(kernel.name, Sharing(frozenset()))
        work = task_work(kernel, by_name)
        text = emit_kernel(kernel, target, declarations, functions, overlap, work)
        # Kernels of the same text are one function.
        name = written.setdefault(text, symbol("kernel", i, kernel.name))
        kernels[kernel.name] = kernel, name
    texts += [f"define internal void @{name}{text}" for text, name in written.items()]
    texts += emit_entries(program, kernels, target, declarations)
    head = support(target, grain)
    extra = [line for name, line in sorted(declarations.items()) if f"@{name}(" not in head]
    return "\n".join([f'target triple = "{target.triple}"', head, *extra, "", *texts])
