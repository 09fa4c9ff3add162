"""Data larger than the memory that a process may have is streamed, and trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnc.runtime.files import read_idx
from tests.support.data_files import Array

FASHION = Path("/usr/share/datasets/fashion-mnist")
MODEL = """
model Fashion {
    input  image: float[batch, 28, 28]
    target label: u8[batch] in 0..10
    flat   = reshape(image, (batch, 784))/255
    logits = flat |> linear(64) |> relu |> linear(10)
    output guess = argmax(logits)
    loss   cross_entropy(logits, i32(label))
    metric accuracy = mean(argmax(logits) == i32(label))
}
train Fashion {
    data = parquet("train.parquet", test = "test.parquet", memory = 24MiB)
    optimizer = adam(lr = 1e-3)
    precision = "f64"
    batch = 64
    epochs = 1
    seed = 1
}
"""
LIMIT = 288 << 20
"""Bytes of data that the process may have (RLIMIT_DATA: heap and private writable mappings, so
threads' stacks and LLVM's too, but not code, which is mapped from files)."""
RUN = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (%d, %d))
import numpy as np
try:
    np.ones(%d)
except MemoryError:
    pass
else:
    raise SystemExit("the limit does not hold")
import nnc
net = nnc.compile("fashion.nn", threads=1)
history = net.fit()
found = net.evaluate(split="test")
(line,) = [x for x in open("/proc/self/status") if x.startswith("VmHWM")]
peak = int(line.split()[1]) * 1024  # (ru_maxrss counts what was before exec too)
print(json.dumps({"steps": history.last.steps, "accuracy": found["accuracy"],
                  "peak": peak}))
"""


def images(name: str, count: int) -> tuple[Array, Array]:
    """Fashion-MNIST where it is installed, else pictures of the same shape with ten patterns."""
    found = FASHION / f"{name}-images-idx3-ubyte.gz"
    if found.exists():
        return read_idx(found), read_idx(FASHION / f"{name}-labels-idx1-ubyte.gz")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    patterns = rng.integers(0, 160, (10, 28, 28))
    noise = rng.integers(0, 96, (count, 28, 28), np.uint8)
    return (patterns[labels] + noise).astype(np.uint8), labels


def write(path: Path, pixels: Array, labels: Array, group: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), 784)
    parquet.write_table(pa.table({"image": flat, "label": labels}), path, row_group_size=group)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA is Linux's")
@pytest.mark.parametrize("group", [4000, 60000], ids=["many groups", "one group"])
def test_fashion_mnist_larger_than_the_memory_allowed(tmp_path: Path, group: int) -> None:
    pixels, labels = images("train", 60000)
    decoded = 8 * pixels.size
    assert decoded > LIMIT, "the data must not fit"
    write(tmp_path / "train.parquet", pixels, labels, group)
    write(tmp_path / "test.parquet", *images("t10k", 10000), group)
    (tmp_path / "fashion.nn").write_text(MODEL)
    done = subprocess.run(
        [sys.executable, "-c", RUN % (LIMIT, LIMIT, decoded // 8)],
        # arrow's own allocator reserves a gigabyte of addresses before it is asked for any
        cwd=tmp_path,
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["steps"] == -(-60000 // 64)
    assert found["accuracy"] > 0.8
    assert found["peak"] < decoded, found
