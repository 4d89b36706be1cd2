"""Where a call's memory or CPU time went (host): what its own process said of it.

A claim of the plugin's process, bounded and typed as it came in, and nothing is decided by it. Figures that the
kernel vouches for are in `Usage`; the profiler's own work, some memory and CPU time, counts there as the plugin's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

CLAIM = "as the plugin's own process says"


class Place(NamedTuple):
    """A line of code: its function, its file, its number (0 if it isn't known). Claims: escape before showing."""

    function: str
    file: str
    line: int


class Stack(NamedTuple):
    """What one chain of calls took: bytes or CPU nanoseconds, in so many allocations or samples.

    `places` begin with the outermost call.
    """

    weight: int
    times: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Profile:
    """Where one call's memory or CPU time went, as the plugin's own process says.

    `kind` is memory (bytes that were allocated, touched or not, when the sum of them stood highest; small objects
    show as the arenas that Python puts them in) or cpu (nanoseconds of CPU time, sampled each millisecond in all
    threads). `stacks` come heaviest first, at most 500. `dropped` is the weight of all else: what had no Python stack
    (most of it, where a call allocates little) and what is lighter or more than fits. `missing` says why the profiler
    found nothing, and is empty if it worked.
    """

    kind: str
    stacks: tuple[Stack, ...] = ()
    dropped: int = 0
    missing: str = ""

    @property
    def total(self) -> int:
        """Bytes or nanoseconds in all."""
        return sum(stack.weight for stack in self.stacks) + self.dropped

    def to_frame(self) -> pd.DataFrame:
        """One row a line of code, heaviest first: `function`, `file`, `line`, and what it took itself.

        For memory `size_bytes` and `allocations`, for cpu `self_s`; `total_bytes` or `total_s` is with all that it
        called, `share` of the whole what it took itself. `attrs` holds `frame` ("profile"), `kind`, `total`,
        `dropped`, `missing` and `claim`.
        """
        from agentplug.report.profiles import profile_frame

        return profile_frame(self)

    def flame(self) -> str:
        """A flame graph as HTML without scripts: each call below its caller, as wide as what it took."""
        from agentplug.report.profiles import flame

        return flame(self)

    def __repr__(self) -> str:
        return f"<Profile of {self.kind}: {len(self.stacks)} stacks, {CLAIM}>"

    def __str__(self) -> str:
        """The heaviest lines as a short table, and what all else comes to."""
        from agentplug.report.profiles import profile_text

        return profile_text(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """IPython's text/plain: `str()` of a profile by itself, its repr within a list."""
        printer.text(repr(self) if printer.stack[:-1] else str(self))

    def _repr_html_(self) -> str:
        from agentplug.report.profiles import profile_card

        return profile_card(self)
