"""The figures of unloaded or replaced plugins (host), for a comparison with their successors."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import NamedTuple

from agentplug.core.inside import Inside
from agentplug.report.frames import About
from agentplug.report.recorder import BLOCK_ROWS, MAX_ROWS, Recorder


class _Part(NamedTuple):
    recorder: Recorder
    about: About
    plugin: weakref.ref[Inside] | None
    """The owner of the recorder; None for a recorder of our own."""

    @property
    def can_be_merged(self) -> bool:
        """True if the recorder is small and nothing is added to it any more."""
        if self.plugin is None or len(self.recorder) > BLOCK_ROWS:
            return False
        plugin = self.plugin()
        return plugin is None or plugin.is_over


class Retired:
    """The figures of retired plugins, at most as many rows as one plugin keeps; the oldest are dropped and counted.

    A plugin that is reloaded many times has one recorder here, not one for each time.
    """

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._dropped = Recorder()  # without rows: it counts dropped ones

    def keep(self, plugin: Inside) -> None:
        """Keep the figures of a closed plugin."""
        if not len(plugin.recorder):
            return
        self._parts.append(_Part(plugin.recorder, plugin.about(), weakref.ref(plugin)))
        self._merge()
        while sum(len(part.recorder) for part in self._parts) > MAX_ROWS:
            at = min(range(len(self._parts)), key=lambda at: self._parts[at].recorder.oldest_us)
            part = self._parts[at] = _own(self._parts[at])
            part.recorder.drop_oldest()
            if not len(part.recorder):
                self._dropped.dropped += part.recorder.dropped
                del self._parts[at]

    def recorders(self) -> Iterator[tuple[Recorder, About]]:
        """Yield the recorders, each with the entries that it adds to the `attrs` of a trace."""
        yield self._dropped, {}
        for part in self._parts:
            yield part.recorder, part.about

    def _merge(self) -> None:
        for part in [part for part in self._parts if part.can_be_merged]:
            self._parts.remove(part)
            name = part.recorder.known_as
            latest = next((other for other in reversed(self._parts) if other.recorder.known_as == name), None)
            if latest is not None and latest.plugin is None and latest.about == part.about:
                latest.recorder.absorb(part.recorder)
            else:
                self._parts.append(_own(part))


def _own(part: _Part) -> _Part:
    """Return `part` with a recorder of our own, copied since others may still have the plugin and its recorder."""
    return part if part.plugin is None else _Part(part.recorder.copy(), part.about, None)
