"""The two models of MovieLens are those of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.zoo import Batch, Tensors, compiled, follow

PRECISIONS = ("f64", "f32")


def ratings(precision: str) -> Any:
    def batch(step: int) -> Batch:
        rng = np.random.default_rng(step)
        return {
            "user": rng.integers(0, 40, 32).astype(np.int32),
            "item": rng.integers(0, 50, 32).astype(np.int32),
            "rating": rng.integers(1, 6, 32).astype("f8" if precision == "f64" else "f4"),
        }

    return batch


def factors(p: Tensors, d: Tensors) -> Any:
    user, item = d["user"].long(), d["item"].long()
    match = (p["embedding.table"][user] * p["embedding_2.table"][item]).sum(1)
    guess = 3.53 + p["user_bias"][user] + p["item_bias"][item] + match
    return ((guess - d["rating"]) ** 2).mean()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_factors(precision: str) -> None:
    """The penalties of the recipe are left out: they are compared elsewhere."""
    import torch

    net = compiled(
        "movielens/factors.nn",
        precision,
        'regularize = { "**" = l2(0.0) }\noptimizer = adam(lr = 4e-3)',
        users=40,
        items=50,
    )
    follow(net, ratings(precision), factors, lambda p: torch.optim.Adam(list(p.values()), lr=4e-3))


USERS, FILMS, ROWS = 11, 17, 8


def likes(precision: str) -> Any:
    rng = np.random.default_rng(0)
    kind = "f8" if precision == "f64" else "f4"
    about = {
        "occupation": rng.integers(0, 21, USERS).astype(np.int32),
        "age": rng.integers(0, 10, USERS).astype(np.int32),
        "female": rng.integers(0, 2, USERS).astype(kind),
        "genre": rng.integers(0, 2, (FILMS, 19)).astype(kind),
        "decade": rng.integers(0, 9, FILMS).astype(np.int32),
        "chance": -rng.uniform(2, 5, FILMS).astype(kind),
        "known": rng.integers(0, 2, (USERS, FILMS)).astype(bool),
    }

    def batch(step: int) -> Batch:
        rng = np.random.default_rng(step + 1)
        rows = {"user": USERS, "item": FILMS}
        drawn = {name: rng.integers(0, n, ROWS).astype(np.int32) for name, n in rows.items()}
        return {**drawn, **about}

    return batch


def tower(p: Tensors, name: str, x: Any) -> Any:
    import torch

    h = torch.relu(x @ p[f"{name}.linear.weight"] + p[f"{name}.linear.bias"])
    y = h @ p[f"{name}.linear_2.weight"] + p[f"{name}.linear_2.bias"]
    return y / torch.sqrt((y**2).sum(1, keepdim=True) + 1e-6)


def towers(p: Tensors, d: Tensors) -> Any:
    import torch

    user, item = d["user"].long(), d["item"].long()
    person = torch.cat(
        [
            p["embedding.table"][user],
            p["embedding_2.table"][d["occupation"].long()[user]],
            p["embedding_3.table"][d["age"].long()[user]],
            d["female"][user][:, None],
        ],
        1,
    )
    film = torch.cat(
        [p["embedding_4.table"], d["genre"], p["embedding_5.table"][d["decade"].long()]], 1
    )
    who, what = tower(p, "tower", person), tower(p, "tower_2", film)
    logits = who @ what[item].T / 0.12 - d["chance"][item]
    return torch.nn.functional.cross_entropy(logits, torch.arange(ROWS))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_towers(precision: str) -> None:
    import torch

    net = compiled(
        "movielens/towers.nn",
        precision,
        "optimizer = adamw(lr = 2e-3, weight_decay = 0.05)",
        users=USERS,
        items=FILMS,
        drop=0.0,
        width=16,
        out=12,
    )
    follow(
        net,
        likes(precision),
        towers,
        lambda p: torch.optim.AdamW(list(p.values()), lr=2e-3, weight_decay=0.05),
    )
