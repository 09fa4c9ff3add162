"""Whole programs in memory that is guarded and poisoned: they read only what they wrote.

Every block (state, scratch, outputs, batches) and every array that is passed lies between pages
that may not be touched, ending exactly before one or beginning exactly after one. Scratch and
outputs hold not-a-number before each call. Results must be the same bits as in plain memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")

CHILD = r"""
import ctypes, faulthandler, mmap, sys
import numpy as np
import nnc
from nnc.backends import llvm
from nnc.backends.llvm import machine, team
from nnc.runtime.executor import Executor
from nnc.runtime.instance import Instance
from nnc.runtime.net import Net
from nnc.runtime.open import backend_for

faulthandler.enable()
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
text = open(sys.argv[1]).read()
llvm.DEFAULT_GRAIN = 0  # all threads share every launch


def guarded(size):
    room = -(-max(size, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, room + 2 * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (base, base + PAGE + room):
        assert libc.mprotect(ctypes.c_void_p(page), PAGE, 0) == 0
    kept.append(memory)  # for as long as the process lives
    return np.frombuffer(memory, np.uint8, size, PAGE + (room - size if at_end else 0))


def allocate(size):
    blocks.append(guarded(size))
    return blocks[-1]


def placed(array):
    made = guarded(array.nbytes).view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def inputs():
    return {a.ctypes.data for s in net.executor._staging.values() for a in s.values()}


def poisoned(bound):
    state = (instance._state, instance._training)
    for block in blocks:
        if not any(block is s for s in state) and block.ctypes.data not in inputs():
            block[...] = 0xFF
    plain_run(bound)


def batch(rows):
    made = {}
    for port in net.executor.manifest.ports:
        shape = [n if isinstance(n, int) else {"n": rows}.get(str(n), 13) for n in port.type.shape]
        kind = port.type.dtype.numpy
        if kind.kind == "f":
            made[port.name] = rng.normal(0, 1, shape).astype(kind)
        else:
            made[port.name] = rng.integers(0, port.high, shape).astype(kind)
    return made


def same(a, b, what):
    assert a.keys() == b.keys()
    for name in a:
        one, two = np.asarray(a[name]), np.asarray(b[name])
        assert one.tobytes() == two.tobytes(), (what, name, one, two)
        assert one.dtype.kind != "f" or np.isfinite(one).all(), (what, name)


plain = nnc.compile(text, threads=1)
made = plain._compiled
for at_end, threads in ((True, 1), (False, 3)):
    blocks, kept = [], []
    code = backend_for("cpu").load(made.code, made.manifest.name)
    instance = Instance(made.manifest, code, team(threads), allocate)
    net = Net(Executor(instance), made, machine())
    plain_run, instance.run = instance.run, poisoned
    plain.initialise()
    net.initialise()
    rng = np.random.default_rng(0)
    for rows in (5, 64, 37, 1, 129):
        data = batch(rows)
        given = {name: placed(array) for name, array in data.items()}
        ports = [p.name for p in net.executor.manifest.ports if p.kind == "input"]
        same(plain(**{k: data[k] for k in ports}), net(**{k: given[k] for k in ports}), "infer")
        for _ in range(2):
            assert plain.step(**data) == net.step(**given)
        same(plain.evaluate(data, batch=17), net.evaluate(given, batch=17), "evaluate")
        plain.fit(data, epochs=2, batch=12)
        net.fit(given, epochs=2, batch=12)
        same(dict(plain.params), dict(net.params), "params")
print("done")
"""
MODELS = {
    "digits": """
model M {
    input  image: float[n, 64]
    target digit: i32[n] in 0..10
    h = image |> linear(33) |> relu |> dropout(0.2)
    logits = h |> linear(10)
    output probs = softmax(logits)
    loss cross_entropy(logits, digit, label_smoothing = 0.1)
    metric accuracy = mean(argmax(logits) == digit)
}
train M {
    optimizer = adamw(lr = 1e-3)
    clip_norm = 1.0
    accumulate = 2
}
""",
    "norms": """
model M {
    input  x: float[n, 13]
    target y: float[n, 3]
    h = x |> linear(17) |> batch_norm() |> gelu |> linear(31) |> layer_norm() |> silu
    z = h |> linear(3)
    output z
    loss mse(z, y)
    loss extra = mean(abs(h))
    metric worst = max(abs(z - y))
}
train M {
    optimizer = { "**.bias" = sgd(lr = 0.01), "**" = rmsprop(lr = 0.001, momentum = 0.5) }
}
""",
    "sequences": """
model M {
    input  ids: i32[n, t] in 0..11
    target next: i32[n, t] in 0..11
    words = embedding(11, 7)
    k = words(ids)
    s[b, i, j] = sum[d](k[b, i, d] * k[b, j, d])
    top[b, i] = max[j where j <= i](s[b, i, j])
    e[b, i, j] = if j <= i then exp(s[b, i, j] - top[b, i]) else 0
    a[b, i, d] = sum[j](e[b, i, j] * k[b, j, d]) / sum[j](e[b, i, j])
    logits[b, i, v] = sum[d](a[b, i, d] * words.table[v, d])
    output logits
    loss cross_entropy(logits, next)
}
train M { optimizer = adagrad(lr = 0.1) }
""",
    "images": """
model M {
    input  x: float[n, 2, 9, 11]
    target y: i32[n] in 0..3
    param w: float[5, 2, 3, 3] = he_normal()
    c[b, o, i < 5, j < 6] = sum[k, u, v](w[o, k, u, v] * (
        if 0 <= 2*i + u - 1 and 2*i + u - 1 < 9 and 0 <= 2*j + v - 1 and 2*j + v - 1 < 11
        then x[b, k, 2*i + u - 1, 2*j + v - 1] else 0))
    r = relu(c)
    p[b, o, i, j] = max[u < 2, v < 2](r[b, o, 2*i + u, 2*j + v])
    logits = reshape(p, (n, 5*2*3)) |> linear(3)
    output logits
    loss cross_entropy(logits, y)
}
train M { optimizer = sgd(lr = 0.05, momentum = 0.9) }
""",
}


@pytest.mark.parametrize("name", MODELS)
def test_programs_keep_to_their_memory(name: str, tmp_path: Path) -> None:
    model = tmp_path / f"{name}.nn"
    model.write_text(MODELS[name])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(model)],
        env={**os.environ, "NNC_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "done"
