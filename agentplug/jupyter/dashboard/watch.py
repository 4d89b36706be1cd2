"""The data of a dashboard (host): a row for each plugin, and the events of all plugins, newest first.

Figures are the watchdog's own readings, so the dashboard draws the figures that limits are compared with, and no
process is read twice. A row changes only while its plugin is busy, so an idle plugin costs nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from IPython.core.getipython import get_ipython

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.record import Sample, added_memory_bytes, memory_floor_bytes, plugin_name
from agentplug.core.host.exchange import Exchange
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.jupyter.session import session_of
from agentplug.manager.manager import AnyPlugin, PluginManager

POINTS = 60
EVENTS = 8
_MOST_RUNS = 32  # of those that ended since the last look


class BoardEvent(NamedTuple):
    """One event of a plugin at `at_s` (seconds since the epoch), which came `times` times in a row."""

    at_s: float
    plugin: str
    kind: str
    detail: Mapping[str, Any]
    times: int = 1


class Point(NamedTuple):
    """Added memory of the call under way, the highest since the point before, and its CPU time."""

    memory_bytes: float
    cpu_s: float


@dataclass
class Row:
    """One plugin as it is now. `key` is the name it is registered under, empty for the only plugin."""

    key: str
    name: str
    version: str = ""
    state: str = "new"
    calls: int = 0
    verdict: str = ""
    policy: Policy | None = None
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=POINTS))
    memory_bytes: float = 0.0
    cpu_s: float = 0.0
    cpu_percent: float | None = None

    @property
    def trusted(self) -> bool:
        """True if the plugin runs in the host, without limits."""
        return self.policy is None


class Events:
    """The latest events of all plugins, newest first."""

    def __init__(self) -> None:
        self.latest: deque[BoardEvent] = deque(maxlen=EVENTS)

    def add(self, at_s: float, plugin: str, kind: str, detail: Mapping[str, Any]) -> None:
        """Add an event; count one that equals the latest."""
        if self.latest:
            last = self.latest[0]
            if (last.plugin, last.kind, last.detail) == (plugin, kind, detail):
                self.latest[0] = BoardEvent(at_s, plugin, kind, detail, last.times + 1)
                return
        self.latest.appendleft(BoardEvent(at_s, plugin, kind, dict(detail)))


class Watch:
    """Follows one plugin by repeated looks. Reports the calls that began after `since`; None: after now.

    For a closed plugin the first look reports its last calls.
    """

    def __init__(self, plugin: AnyPlugin, key: str, events: Events, since: datetime | None = None) -> None:
        self.plugin = plugin
        self.row = Row(key, key)
        self._events = events
        self._exchange: Exchange | None = None
        self._record_index = self._event_index = 0  # of the next event to report
        self._peak_bytes = 0
        self._calls = plugin._inside.calls if isinstance(plugin, SandboxedPlugin) else 0
        self._idle_event: Event | None = None  # the last one reported from between calls
        self._state: tuple[Any, ...] = ()
        self._last: Sample | None = None
        if isinstance(plugin, SandboxedPlugin):
            self._idle_event = plugin._inside.events[-1] if plugin._inside.events else None
            runs = [run for run in list(plugin.runs) if since is not None and run.started_at >= since]
            self._calls = 0 if plugin.state == "closed" else plugin._inside.calls - len(runs)
            exchange = plugin._inside.exchange
            if exchange is not None and exchange.done and not any(run.usage is exchange.usage for run in runs):
                # an older call, or the loading: report none of its events
                self._exchange, self._record_index = exchange, min(exchange.head, len(exchange.records) - 1)
                self._event_index = len(exchange.current.events)

    def look(self) -> bool:
        """Update the row; True if it has changed."""
        plugin, row = self.plugin, self.row
        row.version, row.state = plugin.version, plugin.state
        if not isinstance(plugin, SandboxedPlugin):
            return self._differs((row.version, row.state))
        row.name, row.policy, row.calls = row.key or plugin._inside.name, plugin.policy, plugin._inside.calls
        exchange = plugin._inside.exchange
        if exchange is not self._exchange and self._exchange is not None:
            self._report(self._exchange)
        self._report_missed(plugin, exchange)
        if exchange is not None:
            if exchange is not self._exchange:
                self._exchange, self._peak_bytes, self._last = exchange, 0, None
                self._record_index = self._event_index = 0
            self._report(exchange)
        self._report_idle(plugin)
        run = plugin.runs[-1] if plugin.runs else None
        row.verdict = str(run.verdict) if run is not None else ""
        sample = exchange.samples.latest if exchange is not None else None
        changed = self._differs((row.name, row.version, row.state, row.calls, row.verdict, exchange, sample))
        if changed and exchange is not None:
            self._measure(exchange, sample)
        elif changed and run is not None:
            self._conclude(run)
        return changed

    def _differs(self, state: tuple[Any, ...]) -> bool:
        before, self._state = self._state, state
        return before != state

    def _measure(self, exchange: Exchange, sample: Sample | None) -> None:
        row = self.row
        floor_bytes = int(exchange.records[0].events[0].detail.get("floor_bytes") or exchange.baseline_bytes)
        now_bytes = sample.rss_bytes if sample is not None else exchange.baseline_bytes
        peak_bytes = exchange.peak_bytes
        highest_bytes = max(now_bytes, peak_bytes) if peak_bytes > self._peak_bytes else now_bytes
        self._peak_bytes = max(self._peak_bytes, peak_bytes)
        row.memory_bytes = max(0, (peak_bytes if exchange.done else now_bytes) - floor_bytes)
        row.cpu_s = exchange.usage.cpu_s if exchange.done else (sample.cpu_ns / 1e9 if sample is not None else 0.0)
        row.cpu_percent = None
        if sample is not None and not exchange.done:
            if self._last is not None and sample.t_ns > self._last.t_ns:
                row.cpu_percent = 100 * (sample.cpu_ns - self._last.cpu_ns) / (sample.t_ns - self._last.t_ns)
            self._last = sample
        row.points.append(Point(max(0, highest_bytes - floor_bytes), row.cpu_s))

    def _conclude(self, run: Run) -> None:
        """Take the figures of the last call; the worker is gone."""
        row = self.row
        row.memory_bytes, row.cpu_s, row.cpu_percent = added_memory_bytes(run), run.usage.cpu_s, None
        end = Point(row.memory_bytes, row.cpu_s)
        if not row.points or row.points[-1] != end:
            row.points.append(end)

    def _report(self, exchange: Exchange) -> None:
        """Report the new events of this exchange."""
        began_s = time.time() - (time.perf_counter_ns() - exchange.started_ns) / 1e9
        while True:
            events = exchange.records[self._record_index].events
            self._add(began_s, events[self._event_index :])
            self._event_index = len(events)
            if self._record_index >= min(exchange.head, len(exchange.records) - 1):
                return
            self._record_index, self._event_index = self._record_index + 1, 0

    def _report_missed(self, plugin: SandboxedPlugin, exchange: Exchange | None) -> None:
        """Report the calls that began and failed between two looks."""
        fresh = min(plugin._inside.calls - self._calls, _MOST_RUNS)
        self._calls = plugin._inside.calls
        followed = [known.usage for known in (self._exchange, exchange) if known is not None]
        for run in list(plugin.runs)[-fresh:] if fresh > 0 else ():
            if run.verdict.kind != "completed" and not any(run.usage is usage for usage in followed):
                self._add(run.started_at.timestamp(), run.events)

    def _report_idle(self, plugin: SandboxedPlugin) -> None:
        """Report the events from between calls."""
        fresh: list[Event] = []
        for event in reversed(plugin._inside.events):
            if event is self._idle_event:
                break
            fresh.append(event)
        if fresh:
            self._idle_event = fresh[0]
            self._add(time.time(), fresh[::-1])

    def _add(self, began_s: float, events: Iterable[Event]) -> None:
        for event in events:
            if event.kind != "start":
                self._events.add(began_s + event.t_s, self.row.name, event.kind, event.detail)


def session_manager() -> PluginManager | None:
    """Return the manager of this shell's magics; None while the extension isn't loaded."""
    shell = get_ipython()
    session = session_of(shell) if shell is not None else None
    return session.manager if session is not None else None


class Board:
    """The rows and events of `x`: a manager, whose plugins come and go, or one plugin."""

    def __init__(self, x: PluginManager | SandboxedPlugin) -> None:
        self.x = x
        self.events = Events()
        self._watches: dict[str, Watch] = {}
        self._looked_at: datetime | None = None

    def look(self) -> bool:
        """Update all rows and events; True if anything has changed."""
        newest = self.events.latest[0] if self.events.latest else None
        plugins = self.plugins()
        since, self._looked_at = self._looked_at, datetime.now(UTC)
        changed = list(plugins) != list(self._watches)
        watches = {}
        for key, plugin in plugins.items():
            watch = self._watches.get(key)
            if watch is None or watch.plugin is not plugin:
                watch = Watch(plugin, key, self.events, since)
            watches[key] = watch
        self._watches = watches
        looks = [watch.look() for watch in watches.values()]  # a list: any() would skip some
        return changed or any(looks) or newest is not (self.events.latest[0] if self.events.latest else None)

    def plugins(self) -> Mapping[str, AnyPlugin]:
        """Return the plugins by the keys of their rows; of a closed manager, those from before it closed."""
        if not isinstance(self.x, PluginManager):
            return {"": self.x}
        return self._last_plugins() or self.x.plugins

    def _last_plugins(self) -> Mapping[str, AnyPlugin]:
        """Return the plugins of a closed manager from before it closed, unless it has new ones."""
        return self.x._inside.registry.last if isinstance(self.x, PluginManager) and not self.x.plugins else {}

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of all plugins."""
        return [watch.row for watch in self._watches.values()]

    @property
    def over(self) -> str:
        """The reason why the view ends, or ""."""
        if isinstance(self.x, SandboxedPlugin) and self.x.state == "closed":
            return "The plugin is closed; this is its last state."
        last = self._last_plugins().values()
        if last and all(not isinstance(plugin, SandboxedPlugin) or plugin._inside.is_over for plugin in last):
            return "The manager is closed; this is its last state."
        return ""

    @property
    def load(self) -> str:
        """The command that loads a plugin here."""
        return "%load_plugin SPEC" if self.x is session_manager() else "await manager.load(SPEC)"


def row_of(run: Run) -> tuple[Row, Events]:
    """Make a row of a finished run, with every few of its readings, and its last events."""
    about = run.source
    row = Row("", plugin_name(run), about.version, "", run.number + 1, str(run.verdict), run.policy)
    floor_bytes = memory_floor_bytes(run)
    step = max(1, -(-len(run._inside.readings) // POINTS))
    for i in range(0, len(run._inside.readings), step):
        some = run._inside.readings[i : i + step]
        highest_bytes = max(sample.rss_bytes for sample in some)
        row.points.append(Point(max(0, highest_bytes - floor_bytes), some[-1].cpu_ns / 1e9))
    row.memory_bytes, row.cpu_s = added_memory_bytes(run), run.usage.cpu_s
    row.points.append(Point(row.memory_bytes if len(row.points) < 2 else row.points[-1].memory_bytes, row.cpu_s))
    events = Events()
    for event in run.events:
        if event.kind != "start":
            events.add(run.started_at.timestamp() + event.t_s, row.name, event.kind, event.detail)
    return row, events
