"""How many threads this process may use at once."""

from __future__ import annotations

import math
import os
from pathlib import Path


def default_threads(root: Path = Path("/")) -> int:
    """Return the processors that affinity allows, or fewer where a cgroup's quota is less.

    ``root`` is where the system's ``proc`` and ``sys`` are found.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        allowed = os.cpu_count() or 1
    quota = cgroup_processors(root)
    if quota is not None:
        allowed = min(allowed, math.ceil(quota))
    return max(1, allowed)


def cgroup_processors(root: Path = Path("/")) -> float | None:
    """Return the processors' worth of time that cgroups (version 1 or 2) allow; None: no limit."""
    limits = [limit for file in _files(root) if (limit := _limit(file)) is not None]
    return min(limits, default=None)


def _files(root: Path) -> list[Path]:
    """Return the files that may hold a limit: this process's group and those around it."""
    mount = root / "sys/fs/cgroup"
    places = {mount, mount / "cpu"}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            top = mount if controllers == "" else mount / "cpu"
            group = Path(path.lstrip("/"))
            places |= {top / part for part in (group, *group.parents)}
    return [place / name for place in sorted(places) for name in ("cpu.max", "cpu.cfs_quota_us")]


def _limit(file: Path) -> float | None:
    fields = _read(file).split()
    if not fields or fields[0] in ("max", "-1"):
        return None
    if file.name == "cpu.cfs_quota_us":
        fields.append(_read(file.with_name("cpu.cfs_period_us")).strip() or "100000")
    return int(fields[0]) / int(fields[1])


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
