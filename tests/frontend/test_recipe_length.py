"""The keys early_stop, checkpoint and ema: what they hold, and what each fault says."""

from __future__ import annotations

from typing import Any

import pytest
from support.source import recipe_of

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.recipe import open_program
from nnc.frontend.source import Source

MODEL = """\
model Net {
    input  x: float[n, 6]
    target k: i32[n] in 0..10
    z = x |> linear(10)
    loss fit = cross_entropy(z, k)
    metric accuracy = mean(argmax(z) == k)
}
"""


@pytest.mark.parametrize(
    ("given", "key", "held"),
    [
        ("early_stop = 5", "early_stop", {"patience": 5, "metric": "loss", "mode": "min"}),
        (
            "early_stop = { patience = 2, metric = accuracy, min_delta = 0.5 }",
            "early_stop",
            {"patience": 2, "metric": "accuracy", "min_delta": 0.5, "mode": "max"},
        ),
        (
            'early_stop = { patience = 2, metric = "fit", mode = max }',
            "early_stop",
            {"patience": 2, "metric": "fit", "mode": "max"},
        ),
        (
            "checkpoint = { steps = 10, minutes = 0.5, keep = 3, best = fit }",
            "checkpoint",
            {"steps": 10, "minutes": 0.5, "keep": 3, "best": "fit", "mode": "min"},
        ),
        ("ema = 0.999", "ema", 0.999),
    ],
)
def test_what_a_key_holds(given: str, key: str, held: Any) -> None:
    found = recipe_of(f"{MODEL}\ntrain Net {{ optimizer = adam()\n{given} }}")
    assert found.settings[key] == held


@pytest.mark.parametrize(
    ("given", "code", "place"),
    [
        ("early_stop = 0", "E0403", "0"),
        ("early_stop = { metric = accuracy }", "E0403", "{ metric = accuracy }"),
        ("early_stop = { patience = 1, metric = accuray }", "E0403", "accuray"),
        ("early_stop = { patience = 1, metric = 3 }", "E0403", "3"),
        ("early_stop = { patience = 1, mode = more }", "E0403", "more"),
        ("early_stop = { patience = 1, min_delta = -1 }", "E0403", "-1"),
        ("early_stop = { patience = 1, patience = 2 }", "E0402", "patience"),
        ("early_stop = { patienc = 1 }", "E0401", "patienc"),
        ("checkpoint = 3", "E0403", "3"),
        ("checkpoint = { keep = 3 }", "E0403", "{ keep = 3 }"),
        ("checkpoint = { epoch = 3 }", "E0401", "epoch"),
        ("checkpoint = { minutes = 0 }", "E0403", "0"),
        ("ema = 1.0", "E0403", "1.0"),
        ("ema = 2", "E0403", "2"),
    ],
)
def test_what_is_wrong_with_a_key(given: str, code: str, place: str) -> None:
    text = f"{MODEL}\ntrain Net {{ optimizer = adam()\n{given} }}\n"
    with pytest.raises(SourceError) as caught:
        open_program(Source("m.nn", text))
    (found,) = caught.value.diagnostics
    assert found.span is not None
    assert (found.code, text[found.span.start : found.span.end]) == (code, place)
