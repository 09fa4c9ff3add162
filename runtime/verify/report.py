"""What ``nnc verify`` found, for a terminal, for machines, and to attach to a bug."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nnc.runtime.arrays import Array
from nnc.runtime.report import table

OK, FAILED, LEFT_OUT = "ok", "FAILED", "left out"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where a tensor is not what it should be."""

    tensor: str
    place: tuple[int, ...]
    expected: float
    found: float
    differing: int
    of: int

    def __str__(self) -> str:
        where = f"[{', '.join(map(str, self.place))}]" if self.place else ""
        return (
            f"{self.tensor}{where} is {self.found!r}, not {self.expected!r}; "
            f"{self.differing:,} of {self.of:,} elements differ"
        )


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: of which entry, at which stage, how it went, and in what time."""

    stage: str
    entry: str
    status: str
    detail: str = ""
    difference: Difference | None = None
    seconds: float = 0.0


@dataclass
class Report:
    """All checks of one model, and where they were made."""

    file: str
    sha256: str
    model: str
    config: Mapping[str, Any]
    dims: Mapping[str, int]
    seed: int
    machine: str
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed; what was left out did not."""
        return all(c.status != FAILED for c in self.checks)

    def failures(self) -> list[Check]:
        """Return the checks that failed, in the order of the stages."""
        return [c for c in self.checks if c.status == FAILED]

    def about(self) -> dict[str, str]:
        """Return where and of what the report is."""
        from nnc import __version__

        sizes = ", ".join(f"{k}={v}" for k, v in {**self.config, **self.dims}.items())
        return {
            "nnc": __version__,
            "python": f"{platform.python_version()}, NumPy {np.__version__}",
            "platform": platform.platform(),
            "machine": self.machine,
            "file": self.file,
            "sha256": self.sha256,
            "model": self.model,
            "config and dims": sizes,
            "seed": str(self.seed),
        }

    def as_data(self) -> dict[str, Any]:
        """Return the report as plain data."""
        checks = [{k: v for k, v in asdict(c).items() if v is not None} for c in self.checks]
        return {"ok": self.ok, **self.about(), "checks": checks}

    def as_text(self) -> str:
        """Return the report for a terminal."""
        rows = []
        for stage in dict.fromkeys(c.stage for c in self.checks):
            of = [c for c in self.checks if c.stage == stage]
            counts = [(n, word) for word in (OK, FAILED, LEFT_OUT) if (n := _count(of, word))]
            told = ", ".join(f"{n} {word}" for n, word in counts)
            rows.append((stage, told, f"{sum(c.seconds for c in of):.2f} s"))
        lines = [table([("stage", "checks", "time"), *rows], right=frozenset({2})), ""]
        for check in (c for c in self.checks if c.status != OK):
            lines.append(f"{check.status}: {check.stage}, {check.entry}: {check.detail}")
        return "\n".join([*lines, self._verdict()])

    def as_markdown(self) -> str:
        """Return the report as a page to attach to a bug."""
        about = [f"- {name}: `{value}`" for name, value in self.about().items()]
        rows = [
            f"| {c.stage} | {c.entry} | {c.status} | {c.seconds:.2f} | {_cell(c.detail)} |"
            for c in self.checks
        ]
        head = ["| stage | entry | | seconds | |", "|---|---|---|---|---|"]
        lines = ["# nnc verify", "", *about, "", *head, *rows, "", self._verdict(), ""]
        return "\n".join(lines)

    def _verdict(self) -> str:
        failed = self.failures()
        left = sum(c.status == LEFT_OUT for c in self.checks)
        more = f", {left} left out" if left else ""
        if not failed:
            return f"{self.model}: {len(self.checks) - left} checks passed{more}"
        first = failed[0]
        return f"{self.model}: {len(failed)} checks FAILED{more}; the first is {first.stage}" + (
            f" of {first.entry}: {first.detail}" if first.entry else f": {first.detail}"
        )


def _count(checks: list[Check], status: str) -> int:
    return sum(c.status == status for c in checks)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def first_difference(tensor: str, expected: Array, found: Array, wrong: Array) -> Difference:
    """Return the first of the places where ``wrong`` holds."""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    want, have = expected[place].item(), found[place].item()
    return Difference(tensor, place, want, have, int(wrong.sum()), int(wrong.size))
