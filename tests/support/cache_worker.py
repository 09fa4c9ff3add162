"""One of several processes that compile the same kernels through one cache.

``cache_worker.py NUMBER KERNELS DAMAGE``: prints how many kernels computed something wrong. After
each kernel, with the chance DAMAGE, one byte of some entry is flipped in its place, or its end cut.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from pathlib import Path

import numpy as np

from nnc.backends.llvm import LLVMBackend
from nnc.backends.llvm.calling import call
from nnc.ir import loops, store
from nnc.ir.expr import Const
from nnc.ir.types import DType


def constant_program(value: float) -> loops.Program:
    stored = loops.Store("y", (), Const(value, DType.F32))
    kernel = loops.Kernel("k", (loops.Param("y", DType.F32, (), "w"),), (), (), (stored,))
    entry = loops.Entry("go", (), (loops.Launch("k", ("y",), ()),))
    buffer = loops.Buffer("y", DType.F32, (), "output")
    return loops.Program("constant", (), (buffer,), (), (kernel,), (entry,))


def damage(folder: Path, draw: random.Random) -> None:
    files = [f for f in folder.glob("*/*/*") if f.is_file()]
    if not files:
        return
    with contextlib.suppress(OSError), draw.choice(files).open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        at = draw.randrange(max(size, 1))
        if draw.random() < 0.2:
            file.truncate(at)
            return
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1 << draw.randrange(8)]) if byte else b"")


def main(number: int, kernels: int, chance: float) -> int:
    draw = random.Random(number)
    values = list(range(kernels))
    draw.shuffle(values)
    backend, wrong = LLVMBackend(), 0
    folder = store.directory()
    assert folder is not None
    for value in values:
        program = constant_program(value + 0.5)
        y = np.zeros((), np.float32)
        call(backend.load(backend.compile(program, {}), "constant"), program, "go", {}, {"y": y})
        wrong += float(y) != value + 0.5
        if draw.random() < chance:
            damage(folder, draw)
    return wrong


if __name__ == "__main__":
    print(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
