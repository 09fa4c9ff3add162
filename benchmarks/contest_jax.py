"""JAX (jit) on one workload: ``python -m benchmarks.contest_jax NAME THREADS BUDGET``."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main(name: str, threads: int, budget: float) -> None:
    """Print one JSON line of seconds: step, infer, first step."""
    from benchmarks.timing import median_seconds
    from benchmarks.workloads import WORKLOADS, samples

    flags = f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={threads}"
    os.environ.setdefault("XLA_FLAGS", flags)
    work = next(w for w in WORKLOADS if w.name == name)
    x, y = samples(work, work.batch)
    began = time.perf_counter()
    import jax
    import jax.numpy as jnp

    keys = iter(jax.random.split(jax.random.key(0), 100))
    params = [
        (jax.random.normal(next(keys), (a, b)) * 0.05, jnp.zeros(b))
        for a, b in zip(work.sizes, work.sizes[1:], strict=False)
    ]

    def forward(p: Any, x: Any) -> Any:
        for w, b in p[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ p[-1][0] + p[-1][1]

    def loss(p: Any, x: Any, y: Any) -> Any:
        o = forward(p, x)
        if work.sizes[-1] == 1:
            return jnp.mean(jnp.maximum(o, 0) - o * y + jnp.log1p(jnp.exp(-jnp.abs(o))))
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(o), y[..., None], -1))

    tm = jax.tree.map
    rate = work.rate

    def step(p: Any, s: Any, x: Any, y: Any) -> Any:
        value, g = jax.value_and_grad(loss)(p, x, y)
        if work.optimizer == "sgd":
            return tm(lambda a, b: a - rate * b, p, g), s, value
        m, v, t = s
        t = t + 1
        m = tm(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = tm(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        new = tm(
            lambda a, m, v: a
            - rate * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8),
            p, m, v,
        )  # fmt: skip
        return new, (m, v, t), value

    run = jax.jit(step, donate_argnums=(0, 1))
    state = [params, (tm(jnp.zeros_like, params), tm(jnp.zeros_like, params), jnp.float32(0))]
    inputs, targets = jnp.asarray(x), jnp.asarray(y)

    def once() -> None:
        state[0], state[1], value = run(state[0], state[1], inputs, targets)
        value.block_until_ready()

    once()
    first = time.perf_counter() - began
    result = {"first": first, "step": median_seconds(once, budget)}
    predict = jax.jit(forward)
    result["infer"] = median_seconds(
        lambda: predict(state[0], inputs).block_until_ready(), budget / 2
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
