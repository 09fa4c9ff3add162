"""The whole of ``nnc verify``, from a file to a report."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nnc.ir.types import DType
from nnc.runtime.assemble import assemble
from nnc.runtime.open import Opened, open_file, read_text, reading
from nnc.runtime.report import emit_json
from nnc.runtime.verify.gradients import STAGE, check_gradients
from nnc.runtime.verify.report import Check, Report
from nnc.runtime.verify.stages import Clock, Stages
from nnc.runtime.verify.world import World, choose_dims
from nnc.runtime.weights import write_whole

SECONDS = 60.0


def verify(
    path_or_source: str | os.PathLike[str],
    *,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    seconds: float = SECONDS,
    model: str | None = None,
    recipe: str | None = None,
    **config: Any,
) -> Report:
    """Hold a model, compiled as it is, against the interpreter and finite differences.

    ``dims`` gives sizes for symbolic dims; others are chosen small. What does not fit into
    ``seconds`` is left out, and said so. Raises ``nnc.SourceError`` for a fault in the model file
    and ``nnc.UserError`` for any other; what the compiler does wrong is in the report, whose ``ok``
    then is False.
    """
    return verify_with(path_or_source, config, dims or {}, seed, seconds, model, recipe)


def verify_with(
    path_or_source: str | os.PathLike[str],
    config: Mapping[str, Any],
    dims: Mapping[str, int],
    seed: int,
    seconds: float,
    model: str | None,
    recipe: str | None,
) -> Report:
    """Do what ``verify`` does, for config of any name."""
    from nnc.backends.llvm import machine

    opened = open_file(path_or_source, config, model=model, recipe=recipe)
    text, _ = read_text(path_or_source)
    inline = isinstance(path_or_source, str) and "\n" in path_or_source
    clock = Clock(seconds)
    sizes = choose_dims(opened.model, dims)
    report = Report(
        "<text>" if inline else str(path_or_source),
        hashlib.sha256(text.encode()).hexdigest(),
        opened.model.name,
        opened.model.config,
        sizes,
        seed,
        machine(),
    )
    with reading(path_or_source):
        stages = _stages(opened, sizes, seed, clock)
        stages.passes_and_native()
        exact = _exact(path_or_source, config, model, recipe, opened)
        gradients = _gradients(exact, sizes, seed, clock) if exact is not None else []
        stages.through_loops()
        report.checks += in_order([*stages.checks, *gradients])
    return report


def in_order(checks: list[Check]) -> list[Check]:
    """Return checks in the order of the compiler's stages: what is wrong first is told first."""

    def rank(check: Check) -> int:
        ranks = ("interpreter", "pass", "loops, not", "loops, fused", "native", "bits")
        found = [k for k, beginning in enumerate(ranks) if check.stage.startswith(beginning)]
        return found[-1] if found else len(ranks)

    return sorted(checks, key=rank)


def _stages(opened: Opened, sizes: dict[str, int], seed: int, clock: Clock) -> Stages:
    assembly = assemble(opened.model, opened.recipe)
    return Stages(assembly, World(assembly, sizes, seed), clock)


def _exact(
    path_or_source: str | os.PathLike[str],
    config: Mapping[str, Any],
    model: str | None,
    recipe: str | None,
    opened: Opened,
) -> Opened | None:
    """Return the same program computing in f64; None where it does not train."""
    from nnc.frontend.recipe import open_program

    if opened.recipe is None or not opened.model.training.losses:
        return None
    if opened.model.precision is DType.F64:
        return opened
    given = path_or_source if isinstance(path_or_source, str) else Path(path_or_source)
    checked, made, _ = open_program(given, config, model, recipe, "f64")
    return Opened(checked, made, opened.imports)


def _gradients(opened: Opened, sizes: dict[str, int], seed: int, clock: Clock) -> list[Check]:
    from nnc.passes.pipeline import optimize

    assert opened.recipe is not None
    stages = _stages(opened, sizes, seed, clock)
    graph = stages.assembly.graphs["gradient"]
    made = stages.attempt(STAGE, "", lambda: optimize(graph))
    if made is not None:
        stages.graphs = {"gradient": made}
        stages.attempt(STAGE, "", partial(check_gradients, stages, opened.recipe, seed))
    return stages.checks


def command(
    file: Path,
    *,
    as_json: bool,
    out: Path | None,
    dims: tuple[tuple[str, Any], ...],
    config: Mapping[str, Any],
    seed: int,
    seconds: float,
    model: str | None,
    recipe: str | None,
) -> bool:
    """Verify a file, print what was found and write it to ``out``; return whether all is well."""
    report = verify_with(file, config, dict(dims), seed, seconds, model, recipe)
    if out is not None:
        write_whole(out, report.as_markdown().encode())
    if as_json:
        emit_json(report.as_data())
    else:
        print(report.as_text())
    return report.ok
