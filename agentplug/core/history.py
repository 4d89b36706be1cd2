"""The history of one plugin's runs (host): the latest runs whole, the figures of many more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from sys import getsizeof
from typing import TYPE_CHECKING

from agentplug.core.boundary.codec import HURRY
from agentplug.core.run import Run
from agentplug.report.recorder import Recorder

if TYPE_CHECKING:
    from agentplug.contract.profile import ProfileRecord
    from agentplug.core.boundary.codec.layout import Pace

MAX_RUNS = 1_000
MAX_RUNS_BYTES = 1 << 26
"""Bounds of the latest runs: their number, and the bytes of those parts that a plugin can enlarge."""
_EVENT_BYTES, _READING_BYTES, _PLACE_BYTES = 700, 150, 100


class History:
    """The `latest` runs, the `recorder` of figures, and the `count` of all runs so far.

    An audit sets both functions: `describe` makes the text that it writes of a run, in any thread; `on_run` is called
    with each run that was added, and this text.
    """

    describe: Callable[[Run, Pace], str] | None = None
    on_run: Callable[[Run, str], None] | None = None

    def __init__(self) -> None:
        self.latest: deque[Run] = deque()
        self.recorder = Recorder()
        self.count = 0
        self._bytes = 0

    def add(self, runs: list[Run], texts: Sequence[str] = ()) -> list[Run]:
        """Add `runs`, and return them. `texts` are what `describe` made of them; without, it is called here.

        Raises `AuditError` if there is an audit and it fails.
        """
        self.count += len(runs)
        for run in runs:
            self.recorder.add(run)
            self.latest.append(run)
            self._bytes += _bytes_of(run)
        while len(self.latest) > MAX_RUNS or (self._bytes > MAX_RUNS_BYTES and len(self.latest) > 1):
            self._bytes -= _bytes_of(self.latest.popleft())
        if self.on_run is not None and self.describe is not None:
            for run, text in zip(runs, texts or [self.describe(run, HURRY) for run in runs], strict=True):
                self.on_run(run, text)
        return runs


def _bytes_of(run: Run) -> int:
    inside = run._inside
    own_bytes = inside.data_bytes + len(run.stdout) + len(run.stderr)
    if run.profile is not None:
        own_bytes += _profile_bytes(run.profile)
    return own_bytes + _EVENT_BYTES * len(run.events) + _READING_BYTES * len(inside.readings)


def _profile_bytes(profile: ProfileRecord) -> int:
    """Return about how much memory a profile takes: a plugin can make it a megabyte and more of names."""
    places = {place for stack in profile.stacks for place in stack.places}
    names = sum(getsizeof(place.function) + getsizeof(place.file) for place in places)
    return names + _PLACE_BYTES * len(places) + 8 * sum(len(stack.places) for stack in profile.stacks)
