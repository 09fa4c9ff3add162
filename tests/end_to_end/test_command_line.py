"""The command from outside: what it prints, writes and returns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import nnc
from nnc.cli import main
from nnc.runtime.open import open_file
from tests.support.nets import EXAMPLES

DIGITS = str(EXAMPLES / "digits.nn")
LOGISTIC = str(EXAMPLES / "logistic.nn")


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(w) for w in words], catch_exceptions=False)


def as_json(*words: object) -> Any:
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, trained for three epochs."""
    folder = tmp_path_factory.mktemp("run")
    done = call(
        "train", DIGITS, "--set", "hidden=16", "--epochs", 3, "--threads", 1, "--out", folder
    )
    assert done.exit_code == 0, done.output
    return folder


def test_train_ends_with_one_json_object(tmp_path: Path) -> None:
    done = call("train", DIGITS, "--set", "hidden=8", "--epochs", 2, "--out", tmp_path, "--json")
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    result = json.loads(lines[0])
    assert {"steps", "loss", "metrics", "seconds", "parameters"} <= result.keys()
    assert result["steps"] == 2 * -(-1438 // 64)
    assert result["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert {"loss", "accuracy"} <= result["metrics"].keys()
    history = json.loads((tmp_path / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
    assert history["epochs"][0]["loss"] > history["epochs"][1]["loss"]


def test_train_puts_a_run_into_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train", LOGISTIC).exit_code == 0
    assert (tmp_path / "runs/logistic/weights.safetensors").is_file()
    assert (tmp_path / "runs/logistic/history.json").is_file()


def test_steps_seed_and_weights(tmp_path: Path, run: Path) -> None:
    words = ["train", DIGITS, "--set", "hidden=16", "--steps", 5]
    first = as_json(*words, "--seed", 1, "--out", tmp_path / "a")
    again = as_json(*words, "--seed", 1, "--out", tmp_path / "b")
    other = as_json(*words, "--seed", 2, "--out", tmp_path / "c")
    assert first["steps"] == 5
    assert first["loss"] == again["loss"] != other["loss"]
    onward = as_json(*words, "--weights", run, "--out", tmp_path / "d")
    assert onward["loss"] < 0.9 * first["loss"]


def test_eval_measures_the_trained_weights(run: Path) -> None:
    words = ["eval", DIGITS, "--set", "hidden=16", "--weights", run]
    held = as_json(*words)
    assert {"steps", "loss", "metrics", "seconds", "parameters"} <= held.keys()
    assert held["split"] == "validation"
    history = json.loads((run / "history.json").read_text())
    assert held["metrics"] == history["epochs"][-1]["metrics"]
    trained = as_json(*words, "--split", "train")
    assert trained["loss"] != held["loss"]
    assert call(*words).stdout.splitlines()[0] == "validation:"


def test_threads_change_no_digit(tmp_path: Path) -> None:
    found = [
        as_json("train", DIGITS, "--set", "hidden=24", "--steps", 9, "--threads", n, "--out",
                tmp_path / str(n))["loss"]
        for n in (1, 2, 3)
    ]  # fmt: skip
    assert len(set(found)) == 1
    weights = {(tmp_path / n / "weights.safetensors").read_bytes() for n in ("1", "2", "3")}
    assert len(weights) == 1


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".idx.gz"])
def test_predict_reads_arrays_of_each_format(tmp_path: Path, run: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 17, (5, 64)).astype(np.uint8)
    path = tmp_path / f"image{suffix}"
    if suffix == ".npy":
        np.save(path, image)
    elif suffix == ".npz":
        np.savez(path, other=np.zeros(3), image=image)
    else:
        import gzip

        head = bytes([0, 0, 8, 2]) + (5).to_bytes(4, "big") + (64).to_bytes(4, "big")
        path.write_bytes(gzip.compress(head + image.tobytes()))
    words = ["predict", DIGITS, "--set", "hidden=16", "--weights", run, "--input", f"image={path}"]
    found = np.array(as_json(*words)["probs"])
    net = nnc.compile(DIGITS, hidden=16)
    net.load(run / "weights.safetensors")
    np.testing.assert_array_equal(found.astype(np.float32), net(image=image)["probs"])
    call(*words, "--out", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as written:
        np.testing.assert_array_equal(written["probs"], net(image=image)["probs"])


def test_check_prints_parameters_work_and_bytes() -> None:
    facts = as_json("check", DIGITS, "--set", "hidden=32")
    assert facts["parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    assert facts["multiply_adds_per_sample"] == 64 * 32 + 32 * 10
    assert facts["dims"] == {"batch": 64}
    text = call("check", DIGITS).stdout
    for word in ("linear.weight", "f32[64, 128]", "multiply-adds", "training", "inference"):
        assert word in text


def test_checks_bytes_are_what_training_and_inference_take() -> None:
    """Every block is one allocation, so that counting them is exact."""
    from nnc.backends.llvm import team
    from nnc.runtime.executor import Executor
    from nnc.runtime.facts import facts_of
    from nnc.runtime.instance import Instance
    from nnc.runtime.memory import aligned

    facts = facts_of(open_file(DIGITS, {}))
    compiled = nnc.compile(DIGITS)
    sizes: list[int] = []

    def counted(size: int) -> Any:
        sizes.append(size)
        return aligned(size)

    made = compiled.executor.instance
    image, digit = np.zeros((64, 64), np.float32), np.zeros(64, np.int32)
    for entry, arrays, output, state, scratch in (
        ("infer", {"image": image}, 64 * 10 * 4, facts.infer_state, facts.infer_scratch),
        ("step", {"image": image, "digit": digit}, 4, facts.train_state, facts.train_scratch),
    ):
        sizes.clear()
        instance = Instance(made.manifest, made._code, team(1), counted)
        executor = Executor(instance)
        executor.initialise(0)
        assert sum(sizes) - instance.scratch_bytes("init", {}) == facts.infer_state
        executor.call(entry, arrays)
        preparation = sum(
            instance.scratch_bytes(e, {})
            for e in ("init", "reset")
            if e == "init" or entry == "step"
        )
        assert state is not None
        assert sum(sizes) - preparation == state + output + (scratch or 0)


def test_build_and_load_give_the_same_numbers(tmp_path: Path, run: Path) -> None:
    built = tmp_path / "digits.nnx"
    words = ["build", DIGITS, "--set", "hidden=16", "--weights", run, "-o", built]
    assert as_json(*words)["bytes"] == built.stat().st_size
    net = nnc.compile(DIGITS, hidden=16)
    net.load(run / "weights.safetensors")
    image = np.random.default_rng(1).uniform(0, 16, (7, 64)).astype(np.float32)
    expected = net(image=image)["probs"]
    np.testing.assert_array_equal(nnc.load(built)(image=image)["probs"], expected)
    np.save(tmp_path / "image.npy", image)
    found = as_json("predict", built, "--input", f"image={tmp_path / 'image.npy'}")["probs"]
    np.testing.assert_array_equal(np.array(found, np.float32), expected)


LOADS = """
import sys
import nnc
import numpy as np
net = nnc.load(sys.argv[1])
net(image=np.zeros((2, 64), np.float32))
heavy = [m for m in sys.modules if m.split(".")[0] == "lark" or m.startswith((
    "nnc.frontend", "frontend", "nnc.grammar", "nnc.passes.lower", "nnc.passes.autodiff"))]
from nnc.backends.llvm import compilations
print(sorted(heavy), compilations())
"""


def test_a_built_file_runs_without_parsing_or_compiling(tmp_path: Path) -> None:
    built = tmp_path / "digits.nnx"
    # In a process of its own: this one may have made its threads with another cache than the next.
    make = f"import nnc; nnc.compile({str(DIGITS)!r}, hidden=16).build({str(built)!r})"
    subprocess.run([sys.executable, "-c", make], check=True)
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(built)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[] 0"


def test_help_lists_every_command() -> None:
    done = call("--help")
    assert done.exit_code == 0
    for word in ("check", "train", "eval", "predict", "build", "inspect"):
        assert word in done.stdout
        assert call(word, "--help").exit_code == 0


def test_the_installed_command_ends_with_its_codes(tmp_path: Path) -> None:
    """By a process of its own: 0 fine, 1 the input's fault, 2 usage; messages on stderr."""
    bad = tmp_path / "bad.nn"
    bad.write_text("model M {\n    input x float[b]\n}\n")
    command = [sys.executable, "-m", "nnc"]
    for words, code, word in (
        (["check", LOGISTIC], 0, ""),
        (["check", str(bad)], 1, "error[E0101]"),
        (["check", LOGISTIC, "--nonsense"], 2, "error[E0002]"),
    ):
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert word in done.stderr
        assert "Traceback" not in done.stderr
