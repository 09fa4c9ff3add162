"""Compare nnc with whichever peers are installed, in turn, in one run; print ratios.

Every figure is the median over rounds of the median over calls; each contestant runs in a process
of its own, one after the other. Absolute times mean little on a shared machine; ratios within a
run do.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.workloads import WORKLOADS

PEERS = ("torch", "jax")
RESULTS = Path(__file__).parent / "results"
FIGURES = ("step", "fit", "infer", "first", "warm")


def main() -> None:
    """Run the contest that the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("workloads", nargs="*", default=[w.name for w in WORKLOADS])
    options.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--budget", type=float, default=1.5, help="seconds a figure")
    options.add_argument("--save", action="store_true", help="keep under benchmarks/results")
    given = options.parse_args()
    contestants = ["nnc", *(p for p in PEERS if importlib.util.find_spec(p) is not None)]
    print(f"{machine()}; {given.threads} threads; {', '.join(contestants)}")
    results = {}
    for name in given.workloads:
        rounds: dict[str, list[dict[str, float]]] = {c: [] for c in contestants}
        for _ in range(given.rounds):
            for contestant in contestants:
                rounds[contestant].append(once(contestant, name, given.threads, given.budget))
        results[name] = {c: medians(r) for c, r in rounds.items()}
        print(report(name, results[name]), flush=True)
    if given.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{platform.machine()}-{given.threads}-threads.json"
        path.write_text(json.dumps({"machine": machine(), "seconds": results}, indent=1) + "\n")


def once(contestant: str, name: str, threads: int, budget: float) -> dict[str, float]:
    """Run one contestant on one workload in a process of its own."""
    module = f"benchmarks.contest_{contestant}"
    command = [sys.executable, "-m", module, name, str(threads), str(budget)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over rounds."""
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def report(name: str, found: dict[str, dict[str, float]]) -> str:
    """Return a workload's figures, and how many times a peer's they are."""
    lines = [f"{name}:"]
    for contestant, figures in found.items():
        shown = "  ".join(
            f"{key} {figures[key] * 1e6:,.1f} us" if key in ("step", "fit", "infer")
            else f"{key} {figures[key]:.2f} s"
            for key in FIGURES if key in figures
        )  # fmt: skip
        lines.append(f"  {contestant:6s} {shown}")
    ours = found["nnc"]
    for peer, figures in found.items():
        if peer != "nnc":
            ratios = {
                "step": figures["step"] / ours["step"],
                "fit": figures["step"] / ours["fit"],
                "infer": figures["infer"] / ours["infer"],
                "first": figures["first"] / ours["first"],
            }
            lines.append(f"  {peer} / nnc: " + "  ".join(f"{k} {v:.2f}" for k, v in ratios.items()))
    return "\n".join(lines)


def machine() -> str:
    """Return a short description of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} processors"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"


if __name__ == "__main__":
    main()
