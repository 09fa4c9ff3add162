"""Turn MovieLens-100k (Harper and Konstan, 2015) into the arrays that the two models here read.

The ratings lie in the package recbole (PyPI) as ``ml-100k.inter``, ``.item`` and ``.user``. Mind
GroupLens' terms of use.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np

LIKED = 4
HELD_OUT = 0.2


def folder_of_package() -> Path | None:
    """Return where an installed recbole keeps the ratings; its code is not run."""
    found = find_spec("recbole")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "dataset_example" / "ml-100k"


def table(path: Path) -> list[dict[str, str]]:
    """Read one of the files: tab-separated, with ``name:type`` in the first line."""
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    names = [field.split(":")[0] for field in head.split("\t")]
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines]


def numbered(values: list[str]) -> tuple[dict[str, int], np.ndarray]:
    """Number the different values in sorted order; return the numbering and each one's number."""
    places = {value: k for k, value in enumerate(sorted(set(values)))}
    return places, np.array([places[v] for v in values], np.int32)


def ratings(folder: Path) -> dict[str, np.ndarray]:
    """Return users and films numbered from 0, ratings, and times."""
    rows = table(folder / "ml-100k.inter")
    return {
        "user": np.array([int(r["user_id"]) - 1 for r in rows], np.int32),
        "item": np.array([int(r["item_id"]) - 1 for r in rows], np.int32),
        "rating": np.array([float(r["rating"]) for r in rows], np.float32),
        "time": np.array([float(r["timestamp"]) for r in rows]),
    }


def films(folder: Path) -> dict[str, np.ndarray]:
    """Return the genres of each film as zeros and ones, and its decade from 0 (the 1920s)."""
    rows = sorted(table(folder / "ml-100k.item"), key=lambda r: int(r["item_id"]))
    genres = sorted({word for r in rows for word in r["class"].split()})
    genre = np.zeros((len(rows), len(genres)), np.float32)
    for k, row in enumerate(rows):
        for word in row["class"].split():
            genre[k, genres.index(word)] = 1
    years = [int(r["release_year"]) if r["release_year"].isdigit() else 1995 for r in rows]
    decade = np.array([max(0, (year - 1920) // 10) for year in years], np.int32)
    return {"genre": genre, "decade": decade}


def people(folder: Path) -> dict[str, np.ndarray]:
    """Return each user's occupation, age group of ten years, and sex, as numbers."""
    rows = sorted(table(folder / "ml-100k.user"), key=lambda r: int(r["user_id"]))
    _, occupation = numbered([r["occupation"] for r in rows])
    age = np.array([int(r["age"]) // 10 for r in rows], np.int32)
    female = np.array([r["gender"] == "F" for r in rows], np.float32)
    return {"occupation": occupation, "age": age, "female": female}


def write_ratings(folder: Path, out: Path, seed: int) -> None:
    """Write ``ratings.npz`` and ``ratings-test.npz``: a fifth of all ratings is held out."""
    data = ratings(folder)
    order = np.random.default_rng(seed).permutation(len(data["user"]))
    held = round(len(order) * HELD_OUT)
    for name, rows in (("ratings-test", order[:held]), ("ratings", order[held:])):
        chosen = {key: data[key][rows] for key in ("user", "item", "rating")}
        np.savez(out / f"{name}.npz", **chosen)


def write_likes(folder: Path, out: Path) -> None:
    """Write ``likes.npz`` and ``likes-test.npz``: what users liked, the last film held out.

    ``chance`` is the logarithm of each film's share of the training likes: films that are often
    drawn into a batch are corrected for it. ``known`` are the pairs of training, which do not count
    as answers later.
    """
    data = ratings(folder)
    liked = np.flatnonzero(data["rating"] >= LIKED)
    liked = liked[np.lexsort((data["time"][liked], data["user"][liked]))]
    user, item = data["user"][liked], data["item"][liked]
    last = np.append(user[1:] != user[:-1], True)
    enough = np.bincount(user, minlength=user.max() + 1)[user] > 1
    test = last & enough
    about = {**films(folder), **people(folder)}
    count = np.bincount(item[~test], minlength=len(about["genre"])) + 1.0
    about["chance"] = np.log(count / count.sum()).astype(np.float32)
    known = np.zeros((len(about["age"]), len(about["genre"])), np.bool_)
    known[user[~test], item[~test]] = True
    for name, rows in (("likes", ~test), ("likes-test", test)):
        np.savez(out / f"{name}.npz", user=user[rows], item=item[rows], known=known, **about)


def main() -> None:
    """Write the arrays beside the models, or where ``--out`` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=folder_of_package(), help="of ml-100k.*")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.folder is None or not (arguments.folder / "ml-100k.inter").is_file():
        parser.error("no ml-100k.inter: install recbole, or name its folder with --folder")
    write_ratings(arguments.folder, arguments.out, arguments.seed)
    write_likes(arguments.folder, arguments.out)


if __name__ == "__main__":
    main()
