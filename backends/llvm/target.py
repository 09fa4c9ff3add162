"""What the machine that code is made for can do, as far as emission has to know."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

# What the x86-64 levels of the psABI promise, of the features that change what is emitted.
_X86_LEVELS: dict[str, frozenset[str]] = {
    "x86-64": frozenset(),
    "x86-64-v2": frozenset({"sse4.1"}),
    "x86-64-v3": frozenset({"sse4.1", "fma", "f16c"}),
    "x86-64-v4": frozenset({"sse4.1", "fma", "f16c", "avx512f"}),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A triple, a CPU name and LLVM's list of features (``+a,-b``)."""

    triple: str
    cpu: str
    features: str

    @property
    def arch(self) -> str:
        """The first part of the triple, ``x86_64`` or ``aarch64`` among others."""
        arch = self.triple.split("-", 1)[0]
        return "aarch64" if arch == "arm64" else arch

    @property
    def is_linux(self) -> bool:
        """Whether threads can park on a futex."""
        return "linux" in self.triple

    def has(self, feature: str) -> bool:
        """Whether ``feature`` is surely there: named in the list, or promised by the CPU's name."""
        switches = self.features.split(",")
        if f"-{feature}" in switches:
            return False
        return f"+{feature}" in switches or feature in _X86_LEVELS.get(self.cpu, frozenset())

    @property
    def fma(self) -> bool:
        """Whether ``llvm.fma`` is an instruction, not a call into a library."""
        return self.arch == "aarch64" or self.has("fma")

    @property
    def half(self) -> bool:
        """Whether f16 and f32 convert by an instruction."""
        return self.arch == "aarch64" or self.has("f16c")

    @property
    def rounding(self) -> bool:
        """Whether floor, ceil and round are instructions."""
        return self.arch == "aarch64" or self.has("sse4.1")


@functools.cache
def host() -> Target:
    """Return the machine this process runs on, with its full vector width allowed."""
    from llvmlite import binding

    features = binding.get_host_cpu_features().flatten()
    if "+avx512f" in features.split(","):
        # Some CPUs' tuning makes LLVM split 64-byte vectors in two.
        features += ",-prefer-256-bit"
    return Target(binding.get_process_triple(), binding.get_host_cpu_name(), features)


def choose(options: Mapping[str, str]) -> Target:
    """Return the target that ``triple``, ``cpu`` and ``features`` name, by default the host."""
    here = host()
    if not {"triple", "cpu", "features"} & options.keys():
        return here
    triple = options.get("triple", here.triple)
    cpu = options.get("cpu", here.cpu if triple == here.triple else "generic")
    same = triple == here.triple and cpu == here.cpu
    return Target(triple, cpu, options.get("features", here.features if same else ""))
