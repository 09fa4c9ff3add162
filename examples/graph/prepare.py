"""Join each of the 8 x 8 digits to those most like it, and choose the few that have a label."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def graph(image: np.ndarray, neighbours: int) -> dict[str, np.ndarray]:
    """Return the edges between nearest pictures, both ways and to themselves.

    The weights are those of Kipf and Welling: 1 / sqrt(degree of one end * degree of the other).
    """
    square = (image**2).sum(1)
    distance = square[:, None] + square - 2 * image @ image.T
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1, kind="stable")[:, :neighbours]
    joined = np.eye(len(image), dtype=bool)
    joined[np.arange(len(image))[:, None], near] = True
    joined |= joined.T
    goal, source = np.nonzero(joined)
    degree = joined.sum(1).astype(np.float32)
    weight = 1 / np.sqrt(degree[goal] * degree[source])
    return {"source": source.astype(np.int32), "goal": goal.astype(np.int32), "weight": weight}


def main() -> None:
    """Write ``graph.npz`` beside the model, or where ``--out`` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).parent
    parser.add_argument("--digits", type=Path, default=here.parent / "data" / "digits.npz")
    parser.add_argument("--out", type=Path, default=here)
    parser.add_argument("--neighbours", type=int, default=6)
    parser.add_argument("--each", type=int, default=5, help="labels a digit")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = np.load(arguments.digits)
    image, digit = data["image"].astype(np.float32), data["digit"].astype(np.int32)
    rng = np.random.default_rng(arguments.seed)
    labelled = np.zeros(len(digit), bool)
    for k in range(10):
        labelled[rng.choice(np.flatnonzero(digit == k), arguments.each, replace=False)] = True
    edges = graph(image, arguments.neighbours)
    np.savez(arguments.out / "graph.npz", image=image, digit=digit, labelled=labelled, **edges)


if __name__ == "__main__":
    main()
