"""Measure in interleaved rounds: what the benchmarks share."""

from __future__ import annotations

import contextlib
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Sample:
    """Numbers of the same thing, one a round."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Their median."""
        return statistics.median(self.values)

    def text(self, unit: str = "", digits: int = 2) -> str:
        """Median, range and number, as in `0.21 [0.18-0.25] n=7`."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f}{unit} [{low:.{digits}f}-{high:.{digits}f}] n={len(self.values)}"


def say(text: str) -> None:
    """Tell how far we are."""
    print(text, file=sys.stderr, flush=True)


def measure(variants: Mapping[str, Callable[[], float]], rounds: int, unit: str = " s") -> dict[str, Sample]:
    """Interleaved rounds; each begins with another variant than the one before."""
    names = list(variants)
    samples = {name: Sample() for name in names}
    for number in range(rounds):
        shift = number % len(names)
        took = {name: variants[name]() for name in names[shift:] + names[:shift]}
        for name, seconds in took.items():
            samples[name].values.append(seconds)
        told = ", ".join(f"{name} {took[name]:.2f}{unit}" for name in names)
        say(f"round {number + 1} of {rounds}: {told}".replace("\\|", "|"))
    return samples


def paired(ours: Sample, others: Sample, how: Callable[[float, float], float]) -> Sample:
    """Compare round by round."""
    return Sample([how(one, other) for one, other in zip(ours.values, others.values, strict=True)])


def processor() -> str:
    """The processor's name, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()
