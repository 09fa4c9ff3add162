"""Data from Python, reading ahead, and what is checked before anything is trained on."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnc
from nnc.ir.model import DataSource
from nnc.runtime.data.ahead import ahead
from nnc.runtime.data.splits import Splits, load
from nnc.runtime.errors import UserError
from tests.support.data_files import (
    COLUMNS,
    IMAGES,
    MODEL,
    SMALL,
    Array,
    epoch,
    everything,
    net,
    rows,
    same,
    write_images,
    write_npy,
    write_one_csv,
    write_one_parquet,
)

KINDS = [write_npy, write_one_csv, write_one_parquet]


# Python ---------------------------------------------------------------------------------------


def batches(data: dict[str, Array], size: int) -> list[dict[str, Array]]:
    count = len(data["y"])
    return [{n: a[k : k + size] for n, a in data.items()} for k in range(0, count, size)]


def program() -> nnc.Net:
    return nnc.compile(MODEL % "{ x = [[0, 0, 0]], y = [0] }", threads=1)


def test_batches_are_steps_of_their_own(tmp_path: Path) -> None:
    parts = batches(rows(50), 16)
    fitted, stepped = program(), program()
    history = fitted.fit(parts, epochs=2)
    for _ in range(2):
        for part in parts:
            stepped.step(**part)
    assert history.last.steps == 8
    for path, array in stepped.params.items():
        assert array.tobytes() == fitted.params[path].tobytes()
    whole = program()
    assert fitted.evaluate(parts) == pytest.approx(fitted.evaluate(rows(50)), rel=1e-6)
    assert whole.fit(iter(parts), epochs=1).last.steps == 4


def test_batches_begin_in_the_middle() -> None:
    from nnc.runtime.data.batches import Batches
    from nnc.runtime.data.source import PortsOf

    manifest = program().executor.manifest
    source = Batches(batches(rows(50), 16), PortsOf(manifest.ports, manifest.batch))
    same(epoch(source, 1, 32), {n: a[32:] for n, a in rows(50).items()})


def test_a_generator_is_gone_through_once() -> None:
    with pytest.raises(UserError) as fault:
        program().fit((b for b in batches(rows(9), 3)), epochs=2)
    assert fault.value.code == "E0626"
    with pytest.raises(UserError) as fault:
        program().fit((b for b in batches(rows(9), 3)), steps=5)
    assert fault.value.code == "E0626"
    with pytest.raises(UserError) as fault:
        program().fit([], epochs=2)
    assert fault.value.code == "E0626"


@pytest.mark.parametrize("wrong", [3, [1, 2], None])
def test_what_is_no_batch_is_named_by_its_number(wrong: object) -> None:
    with pytest.raises(UserError, match="batch 2 is a") as fault:
        program().fit([*batches(rows(3), 3), wrong], epochs=1)  # type: ignore[list-item]
    assert fault.value.code == "E0603"


def test_paths_are_read_by_their_ending(tmp_path: Path) -> None:
    data = rows(60)
    np.savez(tmp_path / "d.npz", **data)
    expected = program().fit(data, 0.2).last
    found = program().fit(tmp_path / "d.npz", 0.2).last
    assert (found.loss, found.metrics) == (expected.loss, expected.metrics)
    text = "x1,y\n" + "".join(f"{float(x[0])!r},{y}\n" for x, y in zip(*data.values(), strict=True))
    (tmp_path / "d.csv").write_text(text)
    one = nnc.compile(
        "model M { input x1: float[b]\ntarget y: i32[b]\nparam w: float[4] = zeros()\n"
        "p[i, k] = x1[i]*w[k]\nloss cross_entropy(p, y) }\ntrain M { optimizer = sgd() }"
    )
    assert one.evaluate(str(tmp_path / "d.csv"))["loss"] == pytest.approx(np.log(4))
    with pytest.raises(UserError) as fault:
        one.fit(tmp_path / "d.txt")
    assert fault.value.code == "E0623"


# reading ahead --------------------------------------------------------------------------------


def data_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "nnc data"]


def test_a_fault_comes_after_what_was_before_it() -> None:
    def three() -> Iterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError("the third")

    items = ahead(three(), depth=5)  # type: ignore[arg-type]
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ZeroDivisionError, match="the third"):
        next(items)
    assert not data_threads()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_stopping_early_leaves_no_thread_and_closes_what_is_read(taken: int) -> None:
    closed = []

    def endless() -> Iterator[int]:
        number = 0
        try:
            while True:
                number += 1
                yield number
        finally:
            closed.append(number)

    items = ahead(endless(), depth=2)  # type: ignore[arg-type]
    assert [next(items) for _ in range(taken)] == list(range(1, taken + 1))
    items.close()
    assert not data_threads()
    if taken:
        assert len(closed) == 1
        assert closed[0] <= taken + 2


def test_no_more_is_read_ahead_than_allowed() -> None:
    begun = []
    moved = threading.Condition()

    def counted() -> Iterator[int]:
        for k in range(20):
            with moved:
                begun.append(k)
                moved.notify_all()
            yield k

    with closing(ahead(counted(), depth=2)) as items:  # type: ignore[arg-type]
        for taken, _ in enumerate(items, 1):
            with moved:
                moved.wait_for(lambda n=taken: len(begun) >= min(n + 2, 20), timeout=10)
                assert len(begun) in (min(taken + 2, 20), min(taken + 3, 20))


def test_training_that_is_interrupted_leaves_no_thread(tmp_path: Path) -> None:
    text = write_npy(tmp_path, rows(203))
    running = net(tmp_path, text % SMALL)

    def interrupt(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        running.fit(on_progress=interrupt)
    gc.collect()
    assert not data_threads()
    assert running.fit(epochs=1).last.steps == 26


def test_a_batch_maker_may_use_the_program() -> None:
    running = program()

    def made() -> Iterator[dict[str, Array]]:
        for part in batches(rows(12), 4):
            running(x=part["x"])
            yield part

    assert running.fit(made(), epochs=1).last.steps == 3
    assert "loss" in running.evaluate(made())


# checks ---------------------------------------------------------------------------------------


def test_not_a_number_is_refused_unless_allowed(tmp_path: Path) -> None:
    data = rows(20)
    data["x"][7, 1] = np.nan
    with pytest.raises(UserError, match=r"holds nan at \[7, 1\]") as fault:
        program().fit(data)
    assert fault.value.code == "E0616"
    for write in KINDS:
        text = write(tmp_path, data)
        with pytest.raises(UserError) as fault:
            net(tmp_path, text % "memory = 1MiB").splits()
        assert fault.value.code == "E0616"
        train = net(tmp_path, text % "allow_nan = true").splits().train
        assert np.isnan(everything(train)["x"][7, 1])


def test_classes_of_another_range_are_told(tmp_path: Path) -> None:
    text = "a,b,c,kind\n" + "".join(f"1,2,3,k{k}\n" for k in range(6))
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(UserError, match="6 classes") as fault:
        net(tmp_path, f'csv("d.csv", {COLUMNS})').splits()
    assert fault.value.code == "E0606"


def loaded(kind: str, files: Any, folder: Path, **more: Any) -> Splits:
    manifest = program().executor.manifest
    from nnc.runtime.data.source import PortsOf

    source = DataSource(kind, {"files": files, **more})
    return load(source, PortsOf(manifest.ports, manifest.batch), [folder], 0)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz", "images", "tokens"])
def test_no_kind_leaves_the_folder(tmp_path: Path, kind: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "there").mkdir() if kind == "images" else (tmp_path / "there").write_text("x")
    (inside / "link").symlink_to(tmp_path / "there")
    for path in ("../there", "link", str(tmp_path / "there")):
        with pytest.raises(UserError) as fault:
            loaded(kind, path, inside, options={"window": 4})
        assert fault.value.code == "E0611"


def test_links_within_a_folder_of_images_do_not_leave_it(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    write_images(inside)
    (inside / "pictures" / "ant" / "0.png").rename(tmp_path / "outside.png")
    (inside / "pictures" / "ant" / "0.png").symlink_to(tmp_path / "outside.png")
    model = IMAGES.replace("TYPE", "u8[batch, 3, 8, 8]")
    (inside / "m.nn").write_text(model % 'images("pictures")')
    with pytest.raises(UserError) as fault:
        nnc.compile(inside / "m.nn").splits()
    assert fault.value.code == "E0611"
    allowed = nnc.compile(inside / "m.nn", data_folders=[tmp_path]).splits()
    assert allowed.train.rows == 9
