"""Equal kernels are compiled once: those that differ in nothing but their names."""

from __future__ import annotations

from dataclasses import replace

from nnc.ir.loops import Kernel, Launch, Program
from nnc.passes.hazards import launches_in, renamed


def canonical(program: Program) -> Program:
    """Launch one kernel in place of all that equal it, and drop what is not launched.

    The schedules name axes and values alike wherever they write alike, so equal work is equal
    text. The first of equal kernels stays.
    """
    first: dict[Kernel, str] = {}
    names: dict[str, str] = {}
    for kernel in program.kernels:
        names[kernel.name] = first.setdefault(replace(kernel, name="", span=None), kernel.name)

    def move(launch: Launch) -> Launch:
        return replace(launch, kernel=names[launch.kernel])

    entries = tuple(
        replace(entry, steps=tuple(renamed(step, move) for step in entry.steps))
        for entry in program.entries
    )
    launched = {launch.kernel for entry in entries for launch in launches_in(entry.steps)}
    kernels = tuple(k for k in program.kernels if k.name in launched)
    return replace(program, kernels=kernels, entries=entries)
