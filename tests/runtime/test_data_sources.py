"""Data of every kind: read as written, in an order that is fixed, resumed anywhere, in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from nnc.runtime.data.source import Draw, Split, shuffled
from nnc.runtime.data.stream import IndexedStream, PieceStream
from tests.support.data_files import (
    COLUMNS,
    IMAGES,
    SMALL,
    Array,
    epoch,
    everything,
    net,
    rows,
    same,
    write_csv,
    write_images,
    write_npy,
    write_one_csv,
    write_one_parquet,
    write_parquet,
)


def write_two_parquets(folder: Path, data: dict[str, Array]) -> str:
    for k, part in enumerate((slice(0, 90), slice(90, None))):
        cut = {n: a[part] for n, a in data.items()}
        write_parquet(folder / f"{k}.parquet", cut, group=1000)
    return f'parquet(["0.parquet", "1.parquet"], {COLUMNS}, %s)'


KINDS = [write_npy, write_one_csv, write_one_parquet, write_two_parquets]
Write = Callable[[Path, dict[str, Array]], str]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pieces and blocks so small that a test's few rows are many of them."""
    monkeypatch.setattr("nnc.runtime.data.csv_table.PIECE_BYTES", 1500)
    monkeypatch.setattr("nnc.runtime.data.parquet_table.BLOCK_ROWS", 16)


@pytest.mark.parametrize("write", KINDS)
def test_all_rows_are_read_as_written(tmp_path: Path, write: Write, small_pieces: None) -> None:
    data = rows(203)
    text = write(tmp_path, data)
    held = net(tmp_path, text % "memory = 1MiB").splits().train
    streamed = net(tmp_path, text % SMALL).splits().train
    assert isinstance(held, Split)
    assert isinstance(streamed, IndexedStream | PieceStream)
    assert held.rows == streamed.rows == 203
    same(everything(held), data)
    for batch in (1, 7, 64, 500):
        same(everything(streamed, batch), data)


@pytest.mark.parametrize("write", KINDS)
def test_an_epoch_has_every_row_once_in_an_order_of_its_own(
    tmp_path: Path, write: Write, small_pieces: None
) -> None:
    data = rows(203)
    data["x"][:, 0] = np.arange(203)
    source = net(tmp_path, write(tmp_path, data) % SMALL).splits().train
    orders = []
    for number in range(3):
        seen = epoch(source, number)
        order = seen["x"][:, 0].astype(int)
        assert sorted(order) == list(range(203))
        same(seen, {n: a[order] for n, a in data.items()})
        same(seen, epoch(source, number))
        same(seen, epoch(source, number, batch=50))  # the batch has no part in it
        orders.append(tuple(order))
    assert len(set(orders)) == 3
    assert tuple(range(203)) not in orders


@pytest.mark.parametrize("write", KINDS)
def test_an_epoch_can_begin_anywhere(tmp_path: Path, write: Write, small_pieces: None) -> None:
    source = net(tmp_path, write(tmp_path, rows(203)) % SMALL).splits().train
    whole = epoch(source, 2)
    for start in range(0, 203, 24):
        same(epoch(source, 2, start), {n: a[start:] for n, a in whole.items()})


@pytest.mark.parametrize("batch", [1, 3, 8, 60, 202])
def test_portions_hold_whole_steps(tmp_path: Path, small_pieces: None, batch: int) -> None:
    text = write_one_parquet(tmp_path, rows(203))
    source = net(tmp_path, text % SMALL).splits().train
    with closing(source.epoch(Draw(1, 0, batch, 2))) as portions:
        sizes = [p.rows for p in portions]
    assert all(size % (2 * batch) == 0 for size in sizes[:-1])
    assert sum(sizes) == 203


def test_exact_streams_have_the_order_that_memory_has(tmp_path: Path) -> None:
    data = rows(203)
    source = net(tmp_path, write_npy(tmp_path, data) % SMALL).splits().train
    order = shuffled(203, 5, 1)
    same(epoch(source, 1), {n: a[order] for n, a in data.items()})


def test_a_stream_trains_to_the_bits_of_arrays_in_memory(tmp_path: Path) -> None:
    """Through ``fit``: the same order gives the same weights, losses and metrics."""
    data = rows(203)
    text = write_npy(tmp_path, data)
    found = []
    for given in (text % f"{SMALL}, validation = 0.2", text % "validation = 0.2"):
        program = net(tmp_path, given)
        history = program.fit()
        found.append((program.params["linear.weight"].tobytes(), history.last.losses["loss"],
                      history.last.metrics, program.evaluate(split="train")))  # fmt: skip
    assert found[0] == found[1]


@pytest.mark.parametrize("write", KINDS)
def test_held_out_rows_are_those_of_memory(
    tmp_path: Path, write: Write, small_pieces: None
) -> None:
    text = write(tmp_path, rows(203))
    held = net(tmp_path, text % "validation = 0.25").splits()
    streamed = net(tmp_path, text % f"validation = 0.25, {SMALL}").splits()
    for name in ("train", "validation"):
        assert held.named(name).rows == streamed.named(name).rows
        same(everything(held.named(name)), everything(streamed.named(name)))


@pytest.mark.parametrize("write", KINDS)
def test_every_kind_trains(tmp_path: Path, write: Write, small_pieces: None) -> None:
    data = rows(203)
    data["y"] = (data["x"].argmax(1) % 4).astype(np.int32)
    program = net(tmp_path, write(tmp_path, data) % f"validation = 0.2, {SMALL}")
    history = program.fit(epochs=30)
    assert history.last.steps == 30 * 21
    assert history.last.metrics["accuracy"] > 0.8


def test_held_out_files_of_their_own(tmp_path: Path) -> None:
    for name, count in (("train", 40), ("held", 12), ("last", 9)):
        write_csv(tmp_path / f"{name}.csv", rows(count, seed=count))
    text = f'csv("train.csv", {COLUMNS}, validation = "held.csv", test = "last.csv")'
    splits = net(tmp_path, text).splits()
    for name, count in (("train", 40), ("validation", 12), ("test", 9)):
        same(everything(splits.named(name)), rows(count, seed=count))


# csv ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delimiter", "written"), [(",", ","), (";", ";"), ("\t", r"\t")])
@pytest.mark.parametrize("header", [True, False])
def test_dialects_of_csv(tmp_path: Path, delimiter: str, written: str, header: bool) -> None:
    data = rows(10)
    write_csv(tmp_path / "d.csv", data, delimiter, header)
    columns = COLUMNS if header else "columns = { x = [0, 2, 3], y = 4 }, header = false"
    text = f'csv("d.csv", {columns}, delimiter = "{written}")'
    same(everything(net(tmp_path, text).splits().train), data)


def test_columns_may_be_a_pattern_and_lines_end_as_they_like(tmp_path: Path) -> None:
    text = "\ufefff1,y,f2,f3\r\n1,0,2,3\r\n\r\n4,1,5,6"
    (tmp_path / "d.csv").write_bytes(text.encode())
    found = everything(net(tmp_path, 'csv("d.csv", columns = { x = "f*" })').splits().train)
    np.testing.assert_array_equal(found["x"], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(found["y"], [0, 1])


def test_text_labels_are_numbered_by_sorted_order_for_all_splits(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c,kind\n1,2,3,owl\n1,2,3,ant\n4,5,6, cat\n")
    (tmp_path / "v.csv").write_text("a,b,c,kind\n1,2,3,owl\n1,2,3,cat\n")
    splits = net(tmp_path, f'csv("t.csv", {COLUMNS}, validation = "v.csv")').splits()
    assert splits.classes == {"y": ("ant", "cat", "owl")}
    assert list(everything(splits.train)["y"]) == [2, 0, 1]
    assert list(everything(splits.named("validation"))["y"]) == [2, 1]


# parquet --------------------------------------------------------------------------------------


def test_columns_of_parquet_of_many_types(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    pixels = np.arange(24, dtype=np.uint8)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(pixels), 12)
    labels = pa.array(["dog", "cat"]).dictionary_encode()
    table = pa.table({"image": lists, "label": labels, "on": [True, False], "w": [1.5, 2.5]})
    parquet.write_table(table, tmp_path / "d.parquet")
    program = net(
        tmp_path,
        'parquet("d.parquet")',
        """
        model M {
            input  image: u8[batch, 3, 2, 2]
            input  on: bool[batch]
            input  w: float[batch]
            target label: i32[batch] in 0..2
            p = reshape(float(image), (batch, 12)) |> linear(2)
            loss cross_entropy(p, label) + mean(w)*0.0 + mean(float(on))*0.0
        }
        train M { data = %s, optimizer = sgd() }
        """,
    )
    splits = program.splits()
    found = everything(splits.train)
    np.testing.assert_array_equal(found["image"], pixels.reshape(2, 3, 2, 2))
    assert splits.classes == {"label": ("cat", "dog")}
    assert list(found["label"]) == [1, 0]
    assert list(found["w"]) == [1.5, 2.5]
    assert list(found["on"]) == [True, False]


def test_a_column_of_nested_lists(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    nested = pa.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    parquet.write_table(pa.table({"x": nested}), tmp_path / "d.parquet")
    text = "model M { input x: float[b, 2, 2]\nparam w: float = zeros()\nloss mean(x * w) }\n"
    text += "train M { data = %s, optimizer = sgd() }"
    program = net(tmp_path, 'parquet("d.parquet")', text)
    found = everything(program.splits().train)["x"]
    np.testing.assert_array_equal(found, np.arange(8).reshape(2, 2, 2))


# tokens ---------------------------------------------------------------------------------------

TOKENS = """
model M {
    input  ids:  i32[batch, time] in 0..50
    target next: i32[batch, time]
    embed = embedding(50, 4)
    logits = embed(ids) |> linear(50)
    loss cross_entropy(logits, next)
}
train M { data = %s, optimizer = sgd(), batch = 4 }
"""


@pytest.mark.parametrize("kind", ["u8", "u16", "i32", "u32", "i64", "npy"])
def test_windows_of_tokens(tmp_path: Path, kind: str) -> None:
    ids = np.random.default_rng(0).integers(0, 50, 107)
    if kind == "npy":
        np.save(tmp_path / "t.npy", ids)
        data = 'tokens("t.npy", window = 10, %s)'
    else:
        ids.astype(f"<{kind[0]}{int(kind[1:]) // 8}").tofile(tmp_path / "t.bin")
        data = f'tokens("t.bin", window = 10, type = "{kind}", %s)'
    for memory in ("memory = 1MiB", "memory = 0.1KiB"):
        found = everything(net(tmp_path, data % memory, TOKENS).splits().train, batch=3)
        assert found["ids"].shape == (10, 10)
        np.testing.assert_array_equal(found["ids"].reshape(-1), ids[:100])
        np.testing.assert_array_equal(found["next"].reshape(-1), ids[1:101])
    overlapping = net(tmp_path, data % "stride = 3", TOKENS).splits().train
    assert overlapping.rows == (107 - 11) // 3 + 1
    np.testing.assert_array_equal(everything(overlapping)["ids"][-1], ids[96:106])


def test_held_out_tokens_are_the_end_of_the_text(tmp_path: Path) -> None:
    ids = (np.arange(1000) % 50).astype("<u2")
    ids.tofile(tmp_path / "t.bin")
    splits = net(tmp_path, 'tokens("t.bin", window = 10, validation = 0.1)', TOKENS).splits()
    np.testing.assert_array_equal(everything(splits.train)["ids"][0], ids[:10])
    np.testing.assert_array_equal(everything(splits.named("validation"))["ids"][0], ids[900:910])
    assert (splits.train.rows, splits.named("validation").rows) == (89, 9)


# images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["1MiB", "1KiB"])
def test_folders_of_images(tmp_path: Path, memory: str) -> None:
    data = write_images(tmp_path)
    text = f'images("pictures", memory = {memory})'
    program = net(tmp_path, text, IMAGES.replace("TYPE", "u8[batch, 3, 8, 8]"))
    same(everything(program.splits().train), data)
    assert program.splits().classes == {"label": ("ant", "bee", "cat")}
    text = f'images("pictures", size = 8, memory = {memory})'
    model = IMAGES.replace("TYPE", "float[batch, 3, h, w]").replace("192)", "3*h*w)")
    model = model.replace("reshape(float(image), (batch, 3*h*w)) |> linear(3)",
                          "mean(image, axis = (2, 3)) |> linear(3)")  # fmt: skip
    found = everything(net(tmp_path, text, model).splits().train)
    np.testing.assert_array_equal(found["image"], data["image"].astype(np.float32) / 255)


def test_images_are_scaled_cut_and_converted(tmp_path: Path) -> None:
    from PIL import Image

    place = tmp_path / "pictures" / "ant"
    place.mkdir(parents=True)
    wide = np.zeros((16, 64), np.uint8)
    wide[:, 20:44] = 200
    Image.fromarray(wide).save(place / "wide.png")
    program = net(tmp_path, 'images("pictures")', IMAGES.replace("TYPE", "u8[batch, 3, 8, 8]"))
    found = everything(program.splits().train)["image"]
    assert found.shape == (1, 3, 8, 8)
    assert (found == 200).all()
