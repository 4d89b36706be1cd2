"""The short form of the long runs: nothing stays behind, and a host doesn't grow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.longruns.result import GROWTH_BYTES, MIB, Result, growth
from tests.longruns.scenarios import SHORT

pytestmark = pytest.mark.need("landlock", "seccomp")


@pytest.mark.parametrize(("scenario", "n"), SHORT.items(), ids=lambda value: getattr(value, "__name__", value))
def test_nothing_stays_behind_and_the_host_does_not_grow(scenario: Callable[[int], Result], n: int) -> None:
    """Every verdict is the one asked for; no process, descriptor, thread, file, segment or cgroup is left."""
    result = scenario(n)
    assert len(result.latencies_s) >= n
    assert result.problems(strict=False) == []


def test_growth_is_the_slope_of_a_line() -> None:
    """One reading that stands out doesn't make a growth, a steady gain does."""
    assert growth([5, 5, 5, 5]) == 0
    assert growth([1, 2, 3, 4]) == pytest.approx(3)
    assert abs(growth([0, 0, 9, 0, 0])) < 1e-9
    assert growth([7]) == 0


def test_what_went_wrong_is_told() -> None:
    """Leftovers, surprises, growth and (asked strictly) slowness each have their sentence."""
    steps = [number * GROWTH_BYTES for number in range(6)]
    result = Result("x", 10, 1.0, {"files": ["/a"]}, {"died:exit 3": 2}, steps, [1.0] * 10 + [3.0] * 10)
    told = result.problems(strict=True)
    assert told[0] == "left behind: files: ['/a']"
    assert told[1] == "2 times died:exit 3"
    assert told[2] == f"the host gained {4 * GROWTH_BYTES / MIB:.1f} MiB; at most 8 MiB"
    assert told[3] == "a call takes 3.00 times what it took; at most 2.0"
    assert result.problems(strict=False) == told[:3]
