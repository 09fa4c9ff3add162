"""Data files of every kind, written from arrays."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

import nnc
from nnc.runtime.data.source import Draw, Portion, Source

Array = np.ndarray[Any, Any]
MODEL = """
model M {
    input  x: float[batch, 3]
    target y: i32[batch] in 0..4
    logits = x |> linear(4)
    output logits
    loss   cross_entropy(logits, y)
    metric accuracy = mean(argmax(logits) == y)
}
train M { data = %s, optimizer = sgd(lr = 0.1), batch = 8, epochs = 3, seed = 5 }
"""
SMALL = "memory = 1KiB"
COLUMNS = 'columns = { x = ["a", "b", "c"], y = "kind" }'


def rows(count: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (count, 3)).astype(np.float32)
    return {"x": x, "y": rng.integers(0, 4, count).astype(np.int32)}


def write_csv(
    path: Path, data: dict[str, Array], delimiter: str = ",", header: bool = True
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(["a", "note", "b", "c", "kind"])
        for k, (x, y) in enumerate(zip(data["x"], data["y"], strict=True)):
            note = f'row "{k}"{delimiter}\nof many' if k % 3 == 0 else f"row {k}"
            writer.writerow([repr(float(x[0])), note, repr(float(x[1])), repr(float(x[2])), y])


def write_parquet(path: Path, data: dict[str, Array], group: int = 1 << 20) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    x = data["x"]
    columns = {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": data["y"]}
    parquet.write_table(pa.table(columns), path, row_group_size=group)


def net(folder: Path, data: str, model: str = MODEL) -> nnc.Net:
    path = folder / "model.nn"
    path.write_text(model % data, encoding="utf-8")
    return nnc.compile(path, threads=1)


def gathered(portions: Iterator[Portion]) -> dict[str, Array]:
    """All rows that portions give, in the order they are taken in."""
    parts = [p.split.take(p.order[p.start :]).cut for p in portions]
    return {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}


def epoch(source: Source, number: int = 0, start: int = 0, batch: int = 8) -> dict[str, Array]:
    with closing(source.epoch(Draw(5, number, batch, 1, start))) as portions:
        return gathered(portions)


def everything(source: Source, batch: int = 8) -> dict[str, Array]:
    with closing(source.in_order(batch)) as portions:
        return gathered(portions)


def same(one: dict[str, Array], two: dict[str, Array]) -> None:
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name])


def write_npy(folder: Path, data: dict[str, Array]) -> str:
    for name, array in data.items():
        np.save(folder / f"{name}.npy", array)
    return 'npy(x = "x.npy", y = "y.npy", %s)'


def write_one_csv(folder: Path, data: dict[str, Array]) -> str:
    write_csv(folder / "d.csv", data)
    return f'csv("d.csv", {COLUMNS}, %s)'


def write_one_parquet(folder: Path, data: dict[str, Array]) -> str:
    write_parquet(folder / "d.parquet", data, group=70)
    return f'parquet("d.parquet", {COLUMNS}, %s)'


IMAGES = """
model M {
    input  image: TYPE
    target label: i32[batch] in 0..3
    logits = reshape(float(image), (batch, 192)) |> linear(3)
    loss cross_entropy(logits, label)
}
train M { data = %s, optimizer = sgd(), batch = 4 }
"""


def write_images(folder: Path) -> dict[str, Array]:
    from PIL import Image

    rng = np.random.default_rng(0)
    found, labels = [], []
    for number, kind in enumerate(("ant", "bee", "cat")):
        for k in range(3):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            place = folder / "pictures" / kind / f"{k}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
            found.append(pixels.transpose(2, 0, 1))
            labels.append(number)
    (folder / "pictures" / "ant" / "notes.txt").write_text("not an image")
    return {"image": np.stack(found), "label": np.array(labels, np.int32)}
