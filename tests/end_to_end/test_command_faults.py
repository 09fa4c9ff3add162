"""What users get wrong: a message with a code, exit code 1 or 2, and never a traceback."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nnc.cli import main
from tests.support.nets import EXAMPLES

DIGITS = str(EXAMPLES / "digits.nn")
MODEL = """model M {
    input  x: float[n, 3]
    target y: i32[n] in 0..4
    logits = x |> linear(4)
    output logits
    loss   cross_entropy(logits, y)
}
train M {
    data      = %s
    optimizer = sgd()
    batch     = 2
    epochs    = 1
}
"""


def call(*words: object) -> Result:
    """Run the command; a fault of the user's that raises anything fails the test."""
    return CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)


def expect(code: str, *words: object) -> str:
    """The command ends with exit code 1 and this error; return the message."""
    done = call(*words)
    assert done.exit_code == 1, done.output
    assert f"error[{code}]" in done.stderr, done.stderr
    assert done.stdout == ""
    in_json = call(*words, "--json")
    assert in_json.exit_code == 1
    errors = json.loads(in_json.stdout)["errors"]
    assert code in [e["code"] for e in errors]
    assert all(e["message"] for e in errors)
    return done.stderr


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["check"],
        ["check", DIGITS, "--set", "hidden"],
        ["check", DIGITS, "--set", "=3"],
        ["train", DIGITS, "--threads", "0"],
        ["train", DIGITS, "--threads", "two"],
        ["train", DIGITS, "--epochs", "0"],
        ["train", DIGITS, "--steps", "-1"],
        ["train", DIGITS, "--seed", "x"],
        ["train", DIGITS, "--nonsense"],
        ["train", DIGITS, "another.nn"],
        ["predict", DIGITS],
        ["predict", DIGITS, "--input", "image"],
    ],
    ids=" ".join,
)
def test_usage_errors_end_with_2(words: list[str]) -> None:
    assert call(*words).exit_code == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("E0646", ["check", "none.nn"]),
        ("E0646", ["check", "."]),
        ("E0224", ["check", DIGITS, "--set", "hiden=3"]),
        ("E0224", ["check", DIGITS, "--set", "hidden=many"]),
        ("E0202", ["check", DIGITS, "--set", "hidden=2.5"]),
        ("E0202", ["check", DIGITS, "--set", "hidden=true"]),
        ("E0211", ["check", DIGITS, "--set", "hidden=-3"]),
        ("E0211", ["check", DIGITS, "--set", "hidden=1000000000000"]),
        ("E0224", ["train", DIGITS, "--set", "threads=2"]),
        ("E0224", ["train", DIGITS, "--set", "path_or_source=2"]),
        ("E0201", ["check", DIGITS, "--model", "None"]),
        ("E0412", ["check", DIGITS, "--recipe", "None"]),
        ("E0645", ["train", DIGITS, "--target", "gpu"]),
        ("E0631", ["eval", DIGITS, "--weights", "none.safetensors"]),
        ("E0621", ["eval", DIGITS, "--split", "test"]),
        ("E0621", ["eval", DIGITS, "--split", "nonsense"]),
        ("E0612", ["predict", DIGITS, "--input", "image=none.npy"]),
        ("E0651", ["predict", "none.nnx", "--input", "image=x.npy"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[-3:]),
)
def test_wrong_arguments(code: str, words: list[str], place: Path) -> None:
    np.save("x.npy", np.zeros((2, 64)))
    expect(code, *words)


def test_names_that_are_nearly_right_are_proposed(place: Path) -> None:
    assert "did you mean hidden?" in expect("E0224", "check", DIGITS, "--set", "hiden=3")
    np.save("x.npy", np.zeros((2, 64)))
    words = ["predict", DIGITS, "--input", "imag=x.npy"]
    assert "did you mean 'image'?" in expect("E0601", *words)


def test_faults_of_a_model_file_are_told_together_with_their_place(place: Path) -> None:
    Path("bad.nn").write_text(
        "model M {\n    input x: float[b, 3]\n    y = x |> lineer(3)\n    z = x @ x\n"
        "    output y\n    loss mse(z, w)\n}\n"
    )
    for command in ("check", "train", "build"):
        message = expect("E0203", command, "bad.nn")
        for part in ("bad.nn:3:14", "bad.nn:4:9", "bad.nn:6:17", "did you mean linear?"):
            assert part in message


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("E0201", b""),
        ("E0201", b"# nothing\n"),
        ("E0647", b"\xff\xfemodel"),
        ("E0101", b"model M {\n input x float\n}\n"),
        ("E0103", b"model M {\n"),
        ("E0654", b"NNCFILE1........"),
    ],
)
def test_files_that_are_no_model(code: str, text: bytes, place: Path) -> None:
    Path("m.nn").write_bytes(text)
    expect(code, "check", "m.nn")


def archive(**arrays: object) -> None:
    np.savez("d.npz", **{name: np.asarray(array) for name, array in arrays.items()})


@pytest.mark.parametrize(
    ("code", "arrays"),
    [
        ("E0602", {"x": np.zeros((4, 3))}),
        ("E0604", {"x": np.zeros((4, 3, 1)), "y": np.zeros(4, int)}),
        ("E0607", {"x": np.zeros((4, 2)), "y": np.zeros(4, int)}),
        ("E0607", {"x": np.zeros((4, 3)), "y": np.zeros(5, int)}),
        ("E0605", {"x": np.zeros((4, 3)), "y": np.zeros(4)}),
        ("E0606", {"x": np.zeros((4, 3)), "y": np.array([0, 1, 2, 4])}),
        ("E0606", {"x": np.zeros((4, 3)), "y": np.array([0, -1, 2, 3])}),
        ("E0603", {"x": np.zeros((4, 3), complex), "y": np.zeros(4, int)}),
        ("E0603", {"x": np.array([["a"] * 3] * 4), "y": np.zeros(4, int)}),
        ("E0608", {"x": np.zeros((0, 3)), "y": np.zeros(0, int)}),
    ],
    ids=["missing", "rank", "size", "rows", "float", "above", "below", "complex", "text", "empty"],
)
def test_data_that_does_not_fit(code: str, arrays: dict[str, object], place: Path) -> None:
    archive(**arrays)
    Path("m.nn").write_text(MODEL % 'npz("d.npz")')
    expect(code, "train", "m.nn")


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("E0612", 'npz("none.npz")'),
        ("E0611", 'npz("../d.npz")'),
        ("E0611", 'npz("/etc/passwd")'),
        ("E0613", 'npz("garbage.npz")'),
        ("E0613", 'npz("half.npz")'),
        ("E0613", 'npz("bare.npy")'),
        ("E0613", 'npz("pickled.npz")'),
        ("E0614", 'idx(x = "garbage.npz", y = "garbage.npz")'),
        ("E0614", 'idx(x = "short.idx", y = "short.idx")'),
        ("E0614", 'idx(x = "cut.gz", y = "cut.gz")'),
        ("E0622", 'npz("d.npz", validation = 0.01)'),
        ("E0409", 'npz("d.npz", validation = 2.0)'),
        ("E0409", "npz(3)"),
        ("E0409", 'sheet("d.xls")'),
        ("E0410", "{ x = [[1, 2, 3]] }"),
        ("E0410", "{ x = [1, 2, 3], y = [1] }"),
    ],
)
def test_data_that_cannot_be_read(code: str, data: str, place: Path) -> None:
    archive(x=np.zeros((4, 3)), y=np.zeros(4, int))
    whole = Path("d.npz").read_bytes()
    Path("half.npz").write_bytes(whole[: len(whole) // 2])
    Path("garbage.npz").write_bytes(b"not an archive")
    np.save("bare.npy", np.zeros(3))
    objects = np.array([{}], object)
    np.savez("pickled.npz", allow_pickle=True, x=objects, y=objects)
    Path("short.idx").write_bytes(bytes([0, 0, 8, 1]) + (100).to_bytes(4, "big") + b"xx")
    Path("cut.gz").write_bytes(b"\x1f\x8b\x08\x00")
    Path("m.nn").write_text(MODEL % data)
    expect(code, "train", "m.nn")


def test_a_damaged_member_of_an_archive(place: Path) -> None:
    archive(x=np.arange(12.0).reshape(4, 3), y=np.zeros(4, int))
    whole = bytearray(Path("d.npz").read_bytes())
    at = whole.index(np.arange(12.0).tobytes()[16:64])
    whole[at] ^= 0xFF
    Path("d.npz").write_bytes(whole)
    Path("m.nn").write_text(MODEL % 'npz("d.npz")')
    expect("E0613", "train", "m.nn")


def test_damaged_weights(place: Path) -> None:
    run = ["train", DIGITS, "--set", "hidden=4", "--steps", 1, "--out", "run"]
    assert call(*run).exit_code == 0
    whole = Path("run/weights.safetensors").read_bytes()
    words = ["eval", DIGITS, "--set", "hidden=4", "--weights"]
    assert call(*words, "run").exit_code == 0
    for damaged in (b"", b"garbage", whole[:-7], struct.pack("<Q", 2**40) + whole[8:]):
        Path("bad.safetensors").write_bytes(damaged)
        expect("E0632", *words, "bad.safetensors")
    message = expect("E0633", "eval", DIGITS, "--set", "hidden=5", "--weights", "run")
    for part in ("linear.weight", "f32[64, 5]", "--set"):
        assert part in message
    expect("E0631", *words, ".")


def test_damaged_built_files(place: Path) -> None:
    assert call("build", DIGITS, "--set", "hidden=4", "-o", "d.nnx").exit_code == 0
    np.save("x.npy", np.zeros((2, 64)))
    whole = Path("d.nnx").read_bytes()
    words = ["predict", "bad.nnx", "--input", "image=x.npy"]
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", b"garbage", whole[:20], whole[:-1], whole + b"x", bytes(flipped)):
        Path("bad.nnx").write_bytes(damaged)
        expect("E0652", *words)
    expect("E0655", "predict", "d.nnx", "--input", "image=x.npy", "--set", "hidden=4")
    expect("E0654", "check", "d.nnx")
    for name, array, code in (
        ("image", np.zeros((2, 63)), "E0607"),
        ("image", np.zeros(64), "E0604"),
        ("digit", np.zeros(2, int), "E0602"),
    ):
        np.save("y.npy", array)
        expect(code, "predict", "d.nnx", "--input", f"{name}=y.npy")


def test_a_built_file_of_another_machine(place: Path) -> None:
    import hashlib

    from nnc.runtime.artefact import HEADER

    assert call("build", DIGITS, "--set", "hidden=4", "-o", "d.nnx").exit_code == 0
    whole = Path("d.nnx").read_bytes()
    magic, about, code, weights, _ = HEADER.unpack_from(whole)
    body = whole[HEADER.size :].replace(b'"machine": "', b'"machine": "z', 1)
    check = hashlib.sha256(body).digest()
    Path("d.nnx").write_bytes(HEADER.pack(magic, about + 1, code, weights, check) + body)
    np.save("x.npy", np.zeros((2, 64)))
    expect("E0653", "predict", "d.nnx", "--input", "image=x.npy")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"garbage"])
def test_input_files_that_cannot_be_read(content: bytes, place: Path) -> None:
    Path("x.npy").write_bytes(content)
    expect("E0613", "predict", DIGITS, "--input", "image=x.npy")
    Path("x.npz").write_bytes(content)
    expect("E0613", "predict", DIGITS, "--input", "image=x.npz")
    Path("x.idx").write_bytes(content)
    expect("E0614", "predict", DIGITS, "--input", "image=x.idx")


def test_places_that_cannot_be_written_are_told_before_training(place: Path) -> None:
    Path("file").write_text("")
    done = call("train", DIGITS, "--out", "file")
    assert done.exit_code == 1
    assert done.stderr.startswith("error[E0634]")
    np.save("x.npy", np.zeros((2, 64)))
    expect("E0634", "build", DIGITS, "-o", "file/d.nnx")
    expect("E0634", "predict", DIGITS, "--input", "image=x.npy", "--out", "file/o.npz")


def test_a_subscript_from_data_outside_its_tensor(place: Path) -> None:
    """Without a declared range it is found as the program runs."""
    Path("m.nn").write_text(
        "model M {\n    input ids: i32[n]\n    param table: float[5, 2] = normal()\n"
        "    y[i, d] = table[ids[i], d]\n    output y\n}\n"
    )
    np.save("x.npy", np.array([0, 4, 5, 1]))
    message = expect("E0610", "predict", "m.nn", "--input", "ids=x.npy")
    assert "5" in message
    assert "table" in message


def test_a_requirement_that_the_data_does_not_meet(place: Path) -> None:
    Path("m.nn").write_text(
        "model M {\n    input x: float[n, t]\n"
        '    require t >= 3, "a window of three needs three steps"\n'
        "    y[i, j < t - 2] = sum[u < 3](x[i, j + u])\n    output y\n}\n"
    )
    np.save("x.npy", np.zeros((4, 2)))
    message = expect("E0609", "predict", "m.nn", "--input", "x=x.npy")
    assert "a window of three" in message


@pytest.mark.parametrize("package", ["pygls", "lsprotocol"])
def test_a_missing_extra_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nnc.runtime.language_server", raising=False)
    for name in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without(package), *sys.meta_path])
    result = CliRunner().invoke(main, ["lsp"], catch_exceptions=False)
    assert result.exit_code == 1
    assert "E0003" in result.output
    assert f"{package} is missing" in result.output


class Without:
    """Finds no module of one package."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.package)
