"""The work of the subcommands of ``nnc`` that run programs; ``check`` lies in ``facts``."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnc.runtime.arrays import Array
from nnc.runtime.errors import UserError
from nnc.runtime.files import read_idx, read_npy, read_npz
from nnc.runtime.net import Net
from nnc.runtime.open import compile_with
from nnc.runtime.open import load as load_built
from nnc.runtime.report import Display, emit_json, finite, table
from nnc.runtime.train.checkpoint import Store
from nnc.runtime.weights import make_folder, write_whole

WEIGHTS_FILE = "weights.safetensors"
HISTORY_FILE = "history.json"
CLASSES_FILE = "classes.json"
"""The text labels of a run's data, by input or target, in the order of their numbers."""
TABLE_FILE = "history.csv"
SAVE_MINUTES = 10.0
"""How often training is saved where the train block does not say."""
BUILT_SUFFIX = ".nnx"


def train(
    file: Path,
    *,
    as_json: bool,
    out: Path | None,
    weights: Path | None,
    epochs: int | None,
    steps: int | None,
    seed: int | None,
    resume: bool,
    **options: Any,
) -> None:
    """Train, and leave weights, history and a checkpoint in the run's folder.

    The result's ``loss`` is that of the trained weights over all training rows; its ``metrics``
    are over the held-out rows, where there are any.
    """
    net = _open(file, options)
    net.executor.need_training()
    if seed is not None:
        net.initialise(seed)
    if weights is not None:
        net.load(weights_file(weights))
    folder = out if out is not None else Path("runs") / file.stem
    make_folder(folder)
    if net.splits().classes:
        write_whole(folder / CLASSES_FILE, _json(net.splits().classes))
    began = time.perf_counter()
    total = epochs if epochs is not None else net.executor.manifest.settings.get("epochs")
    try:
        with Display(total if steps is None else None) as display:
            history = net.fit(
                epochs=epochs,
                steps=steps,
                seed=seed,
                on_epoch=display.on_epoch,
                on_progress=display.on_progress,
                checkpoints=folder,
                resume=resume,
                minutes=SAVE_MINUTES,
            )
    except (KeyboardInterrupt, SystemExit) as ended:
        _say_stopped(folder, as_json=as_json)
        raise SystemExit(128 + signal.SIGINT if ended.args == () else ended.args[0]) from None
    seconds = time.perf_counter() - began
    net.save(folder / WEIGHTS_FILE)
    last = history.last
    with net.executor.averaged():
        trained = net.evaluate(split="train")
    result = {
        "steps": last.steps,
        "loss": total_loss(net, trained),
        "metrics": dict(last.metrics) or trained,
        "seconds": seconds,
        "parameters": parameter_count(net),
        "out": str(folder),
    }
    write_whole(folder / HISTORY_FILE, _json({"epochs": history.as_data(), **result}))
    write_whole(folder / TABLE_FILE, history.as_csv().encode())
    if as_json:
        emit_json(result)
    else:
        print(f"{last.steps} steps in {seconds:.2f} s; weights and history in {folder}")


def _say_stopped(folder: Path, *, as_json: bool) -> None:
    """Tell where a training that was asked to end is saved, and how to go on with it."""
    place = Store(folder).newest()
    if as_json:
        emit_json({"stopped": True, "checkpoint": str(place), "out": str(folder)})
    else:
        print(f"stopped; saved in {place}\n--resume --out {folder} goes on", file=sys.stderr)


def evaluate(
    file: Path, *, as_json: bool, weights: Path | None, split: str | None, **options: Any
) -> None:
    """Measure losses and metrics over a split."""
    net = _open(file, options)
    if weights is not None:
        net.load(weights_file(weights))
    began = time.perf_counter()
    chosen = split or ("validation" if net.splits().validation is not None else "train")
    values = net.evaluate(split=chosen)
    seconds = time.perf_counter() - began
    result = {
        "steps": net.executor.step_count(),
        "split": chosen,
        "loss": total_loss(net, values),
        "metrics": values,
        "seconds": seconds,
        "parameters": parameter_count(net),
    }
    if as_json:
        emit_json(result)
    else:
        rows = [(name, f"{value:.6g}") for name, value in values.items()]
        print(f"{chosen}:\n{table(rows)}")


def predict(
    file: Path,
    *,
    as_json: bool,
    weights: Path | None,
    inputs: tuple[tuple[str, Any], ...],
    out: Path | None,
    **options: Any,
) -> None:
    """Compute outputs for given inputs."""
    net = _open(file, options)
    if weights is not None:
        net.load(weights_file(weights))
    given = {name: read_array(Path(str(path)), name) for name, path in inputs}
    outputs = net.executor.infer(given)
    if out is not None:
        import io

        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **outputs)
        write_whole(out, buffer.getvalue())
    if as_json:
        emit_json({name: array.tolist() for name, array in outputs.items()})
    elif out is None:
        for name, array in outputs.items():
            print(f"{name}: {array.dtype}{list(array.shape)}\n{array}")
    else:
        print(f"{', '.join(outputs)} written to {out}")


def build(
    file: Path, *, as_json: bool, weights: Path | None, output: Path | None, **options: Any
) -> None:
    """Write a built file."""
    net = _open(file, options)
    if weights is not None:
        net.load(weights_file(weights))
    path = output if output is not None else file.with_suffix(BUILT_SUFFIX)
    net.build(path)
    size = path.stat().st_size
    if as_json:
        emit_json({"file": str(path), "bytes": size, "parameters": parameter_count(net)})
    else:
        print(f"{path}: {size:,} bytes")


def explain(code: str) -> None:
    """Print the page of an error code."""
    from nnc.frontend.pages import page

    found = page(code.upper())
    if found is None:
        raise UserError("E0001", f"there is no error code '{code}'")
    print(found)


# ---------------------------------------------------------------------------------- helpers


def _open(file: Path, options: Mapping[str, Any]) -> Net:
    threads = options.get("threads")
    if file.suffix == BUILT_SUFFIX:
        if options["config"] or options["model"] or options["recipe"]:
            raise UserError(
                "E0655",
                f"'{file}' is built: its model, recipe and config are fixed",
                (),
                "give the model file it was built from",
            )
        return load_built(file, threads=threads)
    return compile_with(
        file,
        options["config"],
        target=options["target"],
        threads=threads,
        model=options["model"],
        recipe=options["recipe"],
        data_folders=options.get("folders", ()),
    )


def weights_file(given: Path) -> Path:
    """Return the weight file that a path names: itself, or that of a run or a checkpoint.

    Of a run that has not ended it is the one of its newest checkpoint.
    """
    if not given.is_dir():
        return given
    if not (given / WEIGHTS_FILE).is_file():
        newest = Store(given).newest()
        given = newest if newest is not None else given
    return given / WEIGHTS_FILE


def read_array(path: Path, name: str) -> Array:
    """Read one array: .npy, the array ``name`` (or the only one) of an .npz, or idx."""
    if not path.is_file():
        raise UserError("E0612", f"there is no file '{path}'")
    if path.suffix == ".npy":
        return read_npy(path)
    if path.suffix == ".npz":
        arrays = read_npz(path)
        if name in arrays:
            return arrays[name]
        if len(arrays) == 1:
            return next(iter(arrays.values()))
        raise UserError(
            "E0615", f"'{path}' has no array '{name}'", (f"it has: {', '.join(arrays)}",)
        )
    return read_idx(path)


def total_loss(net: Net, values: Mapping[str, float]) -> float:
    """Return the sum of the losses among evaluated values."""
    return sum(values[s.name] for s in net.executor.manifest.summaries if s.kind == "loss")


def parameter_count(net: Net) -> int:
    """Return how many numbers training may change."""
    infos = net.executor.manifest.parameters
    return sum(int(np.prod(net.params[p.path].shape)) for p in infos if p.trainable)


def _json(data: Any) -> bytes:
    import json

    return (json.dumps(finite(data), indent=1, allow_nan=False) + "\n").encode()
