"""The profile of one call as plain data (host). A call without a profile never imports this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

CLAIM = "as the plugin's own process says"


class Place(NamedTuple):
    """A line of code: its function, file and number (0 if unknown). Claims: escape them before display."""

    function: str
    file: str
    line: int


class Stack(NamedTuple):
    """The cost of one chain of calls: `weight` in bytes or CPU nanoseconds, in `times` allocations or samples.

    `places` begin with the outermost call.
    """

    weight: int
    times: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class ProfileRecord:
    """The places where one call's memory or CPU time went, as the plugin's own process says.

    `kind` is memory (the bytes that were allocated, touched or not, at the moment of their highest sum; small objects
    count as the arenas that Python puts them in) or cpu (nanoseconds of CPU time, sampled each millisecond in all
    threads). `stacks` has at most 500, heaviest first. `dropped` is the weight of the rest: of allocations without a
    Python stack (most of it, if a call allocates little), and of lighter stacks. `missing` is the reason why there is
    no profile, or empty.
    """

    kind: str
    stacks: tuple[Stack, ...] = ()
    dropped: int = 0
    missing: str = ""

    @property
    def total(self) -> int:
        """The sum of all weights, in bytes or nanoseconds."""
        return sum(stack.weight for stack in self.stacks) + self.dropped
