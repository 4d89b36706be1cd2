"""The runs of one plugin, as far as they are kept (host): the latest whole, the figures of many more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from sys import getsizeof

from agentplug.contract.record import ProfileRecord
from agentplug.core.run import Run
from agentplug.report.recorder import Recorder

RUNS_KEPT = 1_000
RUNS_KEPT_BYTES = 1 << 28
"""As many of the latest runs are kept as both bounds allow; figures longer. What a plugin has a say in counts."""
_EVENT_BYTES, _READING_BYTES, _PLACE_BYTES = 700, 150, 100


class KeptRuns:
    """`latest` runs, the `recorder` of their figures, and the `count` of all there have been.

    `on_run` is told of each run once it is kept, for an audit.
    """

    on_run: Callable[[Run], None] | None = None

    def __init__(self) -> None:
        self.latest: deque[Run] = deque()
        self.recorder = Recorder()
        self.count = 0
        self._bytes = 0

    def add(self, runs: list[Run]) -> list[Run]:
        """Keep `runs`, and give them back. Raises `AuditError` where they are to be audited and can't be."""
        self.count += len(runs)
        for run in runs:
            self.recorder.add(run)
            self.latest.append(run)
            self._bytes += _bytes_of(run)
        while len(self.latest) > RUNS_KEPT or (self._bytes > RUNS_KEPT_BYTES and len(self.latest) > 1):
            self._bytes -= _bytes_of(self.latest.popleft())
        if self.on_run is not None:
            for run in runs:
                self.on_run(run)
        return runs


def _bytes_of(run: Run) -> int:
    told = len(run.stdout) + len(run.stderr) + (_profile_bytes(run.profile) if run.profile is not None else 0)
    return run._inside.data_bytes + told + _EVENT_BYTES * len(run.events) + _READING_BYTES * len(run._inside.readings)


def _profile_bytes(profile: ProfileRecord) -> int:
    """A megabyte and more of names, if a plugin wants that."""
    places = {place for stack in profile.stacks for place in stack.places}
    names = sum(getsizeof(place.function) + getsizeof(place.file) for place in places)
    return names + _PLACE_BYTES * len(places) + 8 * sum(len(stack.places) for stack in profile.stacks)
