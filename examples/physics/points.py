"""Write the points at which the equation must hold; measure a trained network's error."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
NU = 0.0318309886


def exact(time: np.ndarray, place: np.ndarray, nodes: int = 200) -> np.ndarray:
    """Return the solution of Burgers' equation by Cole and Hopf's transformation.

    Both integrals are over a normal distribution, by Gauss-Hermite quadrature (Basdevant et al.,
    "Spectral and finite difference solutions of the Burgers equation", 1986).
    """
    z, w = np.polynomial.hermite.hermgauss(nodes)
    shifted = place[:, None] - 2 * np.sqrt(NU * time[:, None]) * z
    weight = w * np.exp(-np.cos(np.pi * shifted) / (2 * np.pi * NU))
    return -(weight * np.sin(np.pi * shifted)).sum(1) / weight.sum(1)


def error(weights: Path) -> float:
    """Return the network's root mean square error over the exact solution's own size."""
    import nnc

    net = nnc.compile(HERE / "burgers.nn")
    net.load(weights)
    t, x = np.meshgrid(np.linspace(0.01, 1, 100), np.linspace(-1, 1, 257), indexing="ij")
    time, place = t.ravel(), x.ravel()
    found = net(time=time.astype(np.float32), place=place.astype(np.float32))["height"]
    truth = exact(time, place)
    return float(np.sqrt(np.mean((found - truth) ** 2) / np.mean(truth**2)))


def main() -> None:
    """Write ``points.npz``, or with ``--weights`` print the error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--points", type=int, default=8192)
    parser.add_argument("--weights", type=Path)
    arguments = parser.parse_args()
    if arguments.weights is not None:
        print(f"relative error {error(arguments.weights):.4f}")
        return
    rng = np.random.default_rng(0)
    time = rng.uniform(0, 1, arguments.points).astype(np.float32)
    place = rng.uniform(-1, 1, arguments.points).astype(np.float32)
    np.savez(arguments.out / "points.npz", time=time, place=place)


if __name__ == "__main__":
    main()
