"""The figures of plugins that were unloaded or replaced (host), so that what replaces them can be compared."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

from agentplug.core.inside import Inside
from agentplug.report.recorder import BLOCK_ROWS, MAX_ROWS, Recorder

About = dict[str, dict[str, Any]]


class _Part(NamedTuple):
    recorder: Recorder
    about: About
    plugin: weakref.ref[Inside] | None
    """Whose recorder it is; None if it is ours."""

    @property
    def can_be_gathered(self) -> bool:
        """It is small, and nothing is added to it any more."""
        if self.plugin is None or len(self.recorder) > BLOCK_ROWS:
            return False
        plugin = self.plugin()
        return plugin is None or plugin.is_over


class Retired:
    """As many rows as one plugin keeps; the oldest go first, and are counted.

    A plugin that is reloaded again and again has one recorder here, not one for each time.
    """

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._forgotten = Recorder()  # without rows: what was dropped

    def keep(self, plugin: Inside) -> None:
        """Take over the figures of a plugin that was closed."""
        if not len(plugin.recorder):
            return
        self._parts.append(_Part(plugin.recorder, plugin.about(), weakref.ref(plugin)))
        self._gather()
        while sum(len(part.recorder) for part in self._parts) > MAX_ROWS:
            at = min(range(len(self._parts)), key=lambda at: self._parts[at].recorder.oldest_us)
            ours = self._parts[at] = _ours(self._parts[at])
            ours.recorder.drop_oldest()
            if not len(ours.recorder):
                self._forgotten.dropped += ours.recorder.dropped
                del self._parts[at]

    def recorders(self) -> Iterator[tuple[Recorder, About]]:
        """What is kept, and what the `attrs` of a trace say of it."""
        yield self._forgotten, {}
        for part in self._parts:
            yield part.recorder, part.about

    def _gather(self) -> None:
        for part in [part for part in self._parts if part.can_be_gathered]:
            self._parts.remove(part)
            latest = next((other for other in reversed(self._parts) if _same_name(other, part)), None)
            if latest is not None and latest.plugin is None and latest.about == part.about:
                latest.recorder.absorb(part.recorder)
            else:
                self._parts.append(_ours(part))


def _ours(part: _Part) -> _Part:
    """It, or a copy: a plugin may be held by others still, who see its own recorder."""
    return part if part.plugin is None else _Part(part.recorder.copy(), part.about, None)


def _same_name(one: _Part, other: _Part) -> bool:
    return one.recorder.known_as == other.recorder.known_as
