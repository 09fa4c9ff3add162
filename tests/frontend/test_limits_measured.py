"""Huge and hostile files, each in a process of its own with 512 MB: an answer, and soon.

The wall clock is generous, because a loaded machine is slow; what is slow beyond all bounds, or
takes memory without bounds, still fails.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = 512 * 2**20
SECONDS = 60
CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
sys.argv = ["nnc", "check", {path!r}]
from nnc.cli import main
main(prog_name="nnc")
"""


def model(body: str, ports: str = "input x: float[b]") -> str:
    return f"model M {{\n{ports}\n{body}\noutput y\n}}\n"


TEXTS: dict[str, tuple[str, str]] = {
    "nested parentheses": (model("y = " + "(" * 20_000 + "x" + ")" * 20_000), "E0107"),
    "nested blocks": (model("if true { " * 3000 + "y = x" + " }" * 3000), "E0107"),
    "a megabyte of junk": ("model M { " + "%x $ " * 300_000 + "}", "E0130"),
    "a megabyte of braces": ("}{" * 500_000, "E0130"),
    "a line of a megabyte": (model("y = f(" + ", ".join(["x"] * 300_000) + ")"), "E0130"),
    "a list of a megabyte": (model("t = [" + ", ".join(["1"] * 330_000) + "]\ny = x"), "E0130"),
    "20,000 lines": (model("y = x\n" + "y = y + 1.0\n" * 20_000), "E0130"),
    "20,000 functions": (
        "".join(f"fn f{i}(x) = x + 1\n" for i in range(20_000)) + model("y = x"), "E0130",
    ),
    "a megabyte of comments": ("# c\n" * 300_000 + model("y = x"), ""),
    "a megabyte of blanks": (" " * 1_000_000 + "\n" * 500_000 + model("y = x"), ""),
    "a comment of a megabyte": (model("y = x  # " + "a" * 1_000_000), ""),
    "a name of a megabyte": (model("y = x + " + "a" * 1_000_000), "E0201"),
    "a number of a megabyte": (model("y = x * " + "9" * 1_000_000), "E0110"),
    "400 pipes": (model("y = x" + " |> relu" * 400), ""),
    "dims beyond 63 bits": (model("y = x", "input x: float[4294967296, 4294967296, 4]"), "E0211"),
    "a parameter beyond 63 bits": (
        model("param w: float[4294967296, 4294967296] = zeros()\ny = x + sum(w)"), "E0211",
    ),
    "a power of a power": (model("y = x * float(2^2^100)"), "E0210"),
    "10^5 repeats": (model("y = x\nrepeat i < 100000 { y = y + 1.0 }"), "E0219"),
    "nested repeats": (
        model("y = x\n" + "repeat i < 100 { repeat j < 100 { repeat k < 100 { y = y + 1.0 } } }"),
        "E0219",
    ),
    "a layer inside itself": (
        "layer l(n: int)(x: float[b]) -> float[b] { return x |> l(n + 1) }\n"
        + model("y = x |> l(0)"), "E0219",
    ),
    "applications that double": (
        "fn l(x: float[b], n: int) -> float[b] {\nif n == 0 { return x }\n"
        "return l(l(x, n - 1), n - 1)\n}\n" + model("y = l(x, 60)"), "E0219",
    ),
    "thousands of unknown names": (
        model("\n".join(f"y{i} = missing{i}" for i in range(5000)) + "\ny = x"), "E0201",
    ),
    "thousands of syntax errors": (model("y = = 3\n" * 10_000), "E0101"),
    "a mark of the byte order": ("\ufeff" + model("y = x"), ""),
    "zero bytes": ("model M {\0}\0\n" * 1000, "E0102"),
}  # fmt: skip
LONGER = {
    "400 pipes", "nested repeats", "10^5 repeats", "applications that double", "20,000 functions",
    "thousands of unknown names", "a megabyte of blanks", "a list of a megabyte",
}  # fmt: skip
BYTES = {
    "not UTF-8": (b"model M { \xff\xfe }", "E0647"),
    "a machine program": (b"\x7fELF" + bytes(range(256)) * 4000, "E0647"),
    "nothing": (b"", "E0201"),
}


def check(path: Path, code: str) -> None:
    script = CHILD.format(memory=MEMORY, path=str(path))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    assert len(done.stderr) < 40_000
    if code:
        assert done.returncode == 1, done.stdout
        assert f"error[{code}]" in done.stderr
    else:
        assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory are POSIX")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONGER else []) for n in TEXTS]
)
def test_a_text_is_answered(name: str, tmp_path: Path) -> None:
    text, code = TEXTS[name]
    path = tmp_path / "m.nn"
    path.write_text(text, encoding="utf-8")
    check(path, code)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory are POSIX")
@pytest.mark.parametrize("name", BYTES)
def test_bytes_are_answered(name: str, tmp_path: Path) -> None:
    data, code = BYTES[name]
    path = tmp_path / "m.nn"
    path.write_bytes(data)
    check(path, code)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory are POSIX")
def test_long_chains_and_circles_of_imports(tmp_path: Path) -> None:
    for k in range(300):
        body = f"fn f{k}(x: float[..s]) -> float[..s] = x\n"
        (tmp_path / f"a{k}.nn").write_text(f'import "a{k + 1}.nn" as n\n{body}')
    (tmp_path / "a300.nn").write_text('import "a0.nn" as n\n')
    check(tmp_path / "a0.nn", "E0221")
    (tmp_path / "a300.nn").write_text("fn last(x) = x\n")
    (tmp_path / "m.nn").write_text('import "a0.nn" as a\n' + model("y = a.f0(x)"))
    check(tmp_path / "m.nn", "")
