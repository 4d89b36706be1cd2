"""What a long run showed, and what is wrong with it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20
WARM_UP = 0.2
"""The share of a run's memory readings in which caches still fill; what the host gains later counts as growth."""

GROWTH_BYTES = 8 * MIB
"""What a host may gain from the end of its warm-up to the end of the run, by a line through the readings."""

RATIO = 2.0
"""How many times the median latency of the first tenth that of the last tenth may be. Held in the long form alone."""


@dataclass
class Result:
    """One run's figures. `left` holds what stayed behind, by kind; `surprises` what happened otherwise than asked.

    `rss_bytes` are readings at even distances (of one host, or of one new host after another); `latencies_s` are in
    the order in which they were measured.
    """

    what: str
    n: int
    seconds: float = 0.0
    left: dict[str, Any] = field(default_factory=dict)
    surprises: dict[str, int] = field(default_factory=dict)
    rss_bytes: list[int] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    unit: str = "call"

    @property
    def growth_bytes(self) -> float:
        """How much the host gained after its warm-up, by the line of least squares."""
        return growth(self.rss_bytes[int(len(self.rss_bytes) * WARM_UP) :])

    @property
    def first_s(self) -> float:
        """The median latency of the first tenth."""
        return statistics.median(self.latencies_s[: self._tenth()])

    @property
    def last_s(self) -> float:
        """The median latency of the last tenth."""
        return statistics.median(self.latencies_s[-self._tenth() :])

    def _tenth(self) -> int:
        return max(1, len(self.latencies_s) // 10)

    def problems(self, *, strict: bool) -> list[str]:
        """What isn't as it should be. `strict` looks at latencies too, which a busy machine can spoil."""
        found = [f"left behind: {kind}: {things}" for kind, things in self.left.items() if things]
        found += [f"{count} times {what}" for what, count in self.surprises.items()]
        if self.growth_bytes > GROWTH_BYTES:
            found.append(f"the host gained {self.growth_bytes / MIB:.1f} MiB; at most {GROWTH_BYTES / MIB:.0f} MiB")
        if strict and self.last_s > RATIO * self.first_s:
            found.append(f"a {self.unit} takes {self.last_s / self.first_s:.2f} times what it took; at most {RATIO}")
        return found


def growth(readings: Sequence[float]) -> float:
    """From first to last, on the line of least squares through `readings`."""
    if len(readings) < 2:
        return 0.0
    slope, _ = statistics.linear_regression(range(len(readings)), readings)
    return slope * (len(readings) - 1)
