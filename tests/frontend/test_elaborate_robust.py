"""No program, however wrong, ends in anything but diagnostics; and checking needs no NumPy."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.elaborate import elaborate_model, load
from nnc.frontend.rendering import render_all
from nnc.frontend.source import Source

PROGRAM = """
fn act(x: float[..s], k: float = 2.0) -> float[..s] {
    t = x * k
    return if t > 0 then t else silu(t)
} with gradient(dy) { return dy * k }

fn pool(x: float[b, c, h, w]) -> float[b, c, h/2, w/2] {
    y[s, k, i < h/2, j < w/2] = max[u < 2, v < 2](x[s, k, 2*i + u, 2*j + v])
    return y
}

layer conv(out: int, kernel: int = 3)(x: float[b, c, h, w]) -> float[b, out, h, w] {
    param weight: float[out, c, kernel, kernel] = he_normal(fan_in = c*kernel*kernel)
    buffer seen: float[out] = ones()
    y[s, o, i < h, j < w] = sum[k, u, v](
        weight[o, k, u, v] * (if 0 <= i + u - 1 < h and 0 <= j + v - 1 < w
                              then x[s, k, i + u - 1, j + v - 1] else 0))
    if training { update seen = 0.9*seen + 0.1*mean(y, axis = (0, 2, 3)) }
    return y
}

layer tower(depth: int, width: int, f: fn = relu)
           (x: float[b, n]) -> (float[b, width], float[depth, b]) {
    first = linear(width)
    x = first(x)
    ms = repeat i < depth {
        x = f(x |> linear(width)) + x
        yield mean(x, axis = 1)
    }
    return x, ms
}

model M(width: int = 8, depth: int = 2, rate: float = 0.1, fancy: bool = true) {
    input  image: u8[batch, 3, rows, cols]
    input  x: float[batch, 4]
    target digit: i32[batch] in 0..10
    require rows % 4 == 0 and cols % 4 == 0, "fours"
    a = float(image)/255 - 0.5
    a = a |> conv(4) |> pool |> conv(2) |> pool
    v = mean(a, axis = (2, 3))
    net = tower(depth, width)
    h, ms = net(concat(x, v))
    if fancy { h = h |> layer_norm() |> dropout(rate) } else { h = act(h) }
    logits = (h @ reshape(net.first.weight[0:4, :], (8, 4))) |> linear(10)
    l, r = split(h, 2)
    q[i, j] = act(l[i, j]) * r[i, j] + (if j == 0 then 1 else 0)
    loss main = cross_entropy(logits, digit)
    loss l2(net.first.weight)
    metric other = sum[b where digit[b] == 1](q[b, 0])
    output probs = softmax(logits)
    output q
}
"""
TOKEN = re.compile(r'\s+|\d+\.\d+|\w+|\.\.|\|>|->|[<>=!]=|//|"[^"]*"|.')
NAMES = [
    *sorted(set(re.findall(r"[a-z_]\w*", PROGRAM))),
    "argmax", "stack", "transpose", "shape", "size", "pad", "i32", "int", "true", "step", "0", "-1",
    "2.5", "(x, x)", "[1, 2]", "x[0]", "x[i]", "x[..]", "ones()", '"t"', "zeros[b, n]()", "1/2",
]  # fmt: skip
NUMBERS = ["0", "1", "2", "7", "-1", "1.5", "n", "x", "batch", "true", "2^70", "5/2", "(1, 2)"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "^", "@", "==", "<", " and ", " or "]


def mutated(draw: random.Random) -> str:
    tokens = TOKEN.findall(PROGRAM)
    words = [k for k, t in enumerate(tokens) if t.strip()]
    for _ in range(draw.choice([1, 1, 2, 3])):
        k = draw.choice(words)
        if re.fullmatch(r"[A-Za-z_]\w*", tokens[k]):
            tokens[k] = draw.choice(NAMES)
        elif re.fullmatch(r"\d+(\.\d+)?", tokens[k]):
            tokens[k] = draw.choice(NUMBERS)
        elif tokens[k] in "+-*///%^@==<=":
            tokens[k] = draw.choice(OPERATORS)
        else:
            tokens[k] = draw.choice(["", tokens[k] * 2, tokens[draw.choice(words)]])
    return "".join(tokens)


def check(text: str) -> set[str]:
    """Elaborate every model of a program; return the codes of its faults."""
    sources = {}
    try:
        program = load(Source("fuzz.nn", text))
        sources = program.sources
        for decl in program.models():
            elaborate_model(program, decl)
    except SourceError as error:
        render_all(error.diagnostics, sources)
        return {d.code for d in error.diagnostics}
    return set()


def test_the_program_itself_is_sound() -> None:
    assert check(PROGRAM) == set()


@pytest.mark.parametrize("seed", range(8))
def test_mutated_programs_are_refused_with_diagnostics(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(10):
        check(mutated(draw))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_mutated_programs_are_refused_with_diagnostics(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(50):
        check(mutated(draw))


def test_checking_a_program_loads_neither_numpy_nor_llvm() -> None:
    script = (
        "import sys\n"
        "from nnc.frontend.elaborate import elaborate\n"
        "elaborate('model M() {\\n input x: float[b, 4]\\n"
        " output y = x |> linear(3) |> dropout(0.5) |> softmax\\n}')\n"
        "print(sorted({'numpy', 'llvmlite', 'lark'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "numpy" not in done.stdout
    assert "llvmlite" not in done.stdout
