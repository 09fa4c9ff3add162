"""Draw digits from noise, and tell how many look like what was asked for."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import nnc

HERE = Path(__file__).parent


def sample(net: nnc.Net, digit: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """Walk the way back for one picture a digit; return pictures [n, 64] of 0 to 1."""
    x = np.random.default_rng(seed).normal(size=(len(digit), 64)).astype(np.float32)
    picture = x
    for t in range(steps, 0, -1):
        time = np.full(len(digit), t, np.int32)
        outputs = net(image=x, digit=digit, time=time, seed=seed + t)
        x, picture = outputs["denoised"], outputs["picture"]
    return picture


def likeness(picture: np.ndarray, digit: np.ndarray, data: dict[str, np.ndarray]) -> float:
    """Return the share of pictures whose nearest real digit is the one that was asked for."""
    real = data["image"]
    distance = (picture**2).sum(1)[:, None] + (real**2).sum(1) - 2 * picture @ real.T
    return float(np.mean(data["digit"][distance.argmin(1)] == digit))


def main() -> None:
    """Load trained weights, draw, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("runs/digits/weights.safetensors"))
    parser.add_argument("--digits", type=Path, default=HERE.parent / "data" / "digits.npz")
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    net = nnc.compile(HERE / "digits.nn", steps=arguments.steps)
    net.load(arguments.weights)
    digit = np.repeat(np.arange(10, dtype=np.int32), arguments.each)
    picture = sample(net, digit, arguments.steps, seed=1)
    shades = " .:-=+*#%@"
    shown = picture[:: arguments.each].reshape(10, 8, 8)
    for row in range(8):
        cells = np.clip(shown[:, row] * 9.99, 0, 9).astype(int)
        print("  ".join("".join(2 * shades[c] for c in line) for line in cells))
    print(
        f"like what was asked for: {likeness(picture, digit, dict(np.load(arguments.digits))):.3f}"
    )


if __name__ == "__main__":
    main()
