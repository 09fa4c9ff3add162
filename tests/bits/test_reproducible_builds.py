"""Compiling the same text twice gives the same file, whatever order a process hashes in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TEXT = """
model M {
    input  ids: i32[n, t] in 0..11
    target y: i32[n] in 0..4
    x = ids |> embedding(11, 6)
    s[b, i, j] = sum[d](x[b, i, d] * x[b, j, d])
    a = softmax(s)
    z[b, d] = mean[i, j](a[b, i, j] * x[b, j, d])
    h = z |> linear(9) |> batch_norm() |> gelu |> dropout(0.1)
    logits = h |> linear(4)
    output probs = softmax(logits)
    loss cross_entropy(logits, y)
    loss size = mean(abs(h))
    metric accuracy = mean(argmax(logits) == y)
}
train M {
    optimizer = { "**.bias" = sgd(lr = 0.1, momentum = 0.9), "**" = adamw(lr = 1e-3) }
    regularize = { "**.weight" = l2(1e-4) }
    clip_norm = 1.0
}
"""


def test_files_are_equal_byte_for_byte(tmp_path: Path) -> None:
    source = tmp_path / "m.nn"
    source.write_text(TEXT)
    running = []
    for seed in ("0", "1"):
        built = tmp_path / f"{seed}.nnx"
        environment = {"PYTHONHASHSEED": seed, "NNC_CACHE_DIR": str(tmp_path / f"cache{seed}")}
        command = [sys.executable, "-m", "nnc", "build", str(source), "-o", str(built)]
        running.append((built, subprocess.Popen(command, env={**os.environ, **environment})))
    assert [process.wait() for _, process in running] == [0, 0]
    one, two = (built.read_bytes() for built, _ in running)
    assert one == two
