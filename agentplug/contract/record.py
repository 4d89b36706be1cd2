"""The record of one call as plain data (host): verdict, usage, source, and all of it in a `RunRecord`.

Tables, cards and plots are functions of a `RunRecord`, of a live call or of one from an audit file. `core.run.Run`
adds a notebook's methods to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable

if TYPE_CHECKING:
    from agentplug.contract.display import DisplayRecord
    from agentplug.contract.profile import ProfileRecord

KINDS = ("completed", "failed", "limited", "died", "broken", "stopped")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a call in one word, and its cause. `str()` is like `limited:memory`; equal by value."""

    kind: str
    by: str | None = None

    to_html: ClassVar[Callable[[Verdict], str] | None] = (
        None  # set by `core.run`, because this module must not import it
    )

    def __str__(self) -> str:
        return self.kind if self.by is None else f"{self.kind}:{self.by}"

    def _repr_html_(self) -> str | None:
        return None if self.to_html is None else type(self).to_html(self)  # type: ignore[misc]

    @classmethod
    def parse(cls, text: str) -> Verdict:
        """Read the verdict that `str()` wrote. Raises `ValueError` for an unknown kind."""
        kind, _, by = text.partition(":")
        if kind not in KINDS:
            raise ValueError(f"unknown verdict {kind!r}; the kinds are {', '.join(KINDS)}")
        return cls(kind, by or None)


class Usage(NamedTuple):
    """The cost of a call, as the kernel counted it, in bytes and seconds. `calls` runs share these figures.

    `peak_memory_bytes` is the worker's resident high-water mark in this call (VmHWM, reset as the call began),
    `baseline_memory_bytes` its footprint as the call began. `read_bytes` and `write_bytes` passed through read
    and write calls on files (rchar and wchar of proc(5), output not counted). `threads` is the highest reading.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    peak_memory_bytes: int = 0
    baseline_memory_bytes: int = 0
    calls: int = 1
    request_bytes: int = 0
    reply_bytes: int = 0
    output_bytes: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    threads: int = 0


USAGE_FIELDS: tuple[str, ...] = Usage._fields


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An exception of the plugin as text: its type's name, its message, its traceback. Claims, not objects."""

    type: str
    message: str
    traceback: str = ""


class Sample(NamedTuple):
    """One reading of a busy worker: nanoseconds since the call began, and CPU used since then.

    `threads` is the latest count, up to a second old while the worker is calm.
    """

    t_ns: int
    rss_bytes: int
    cpu_ns: int
    threads: int


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The bytes that ran: spec, kind (file, module, cell, object), sha256 digest, the plugin's own name and version.

    `known_as` is the manager's name for the plugin, if that is another.
    """

    spec: str
    kind: str
    digest: str
    plugin: str = ""
    version: str = ""
    known_as: str = ""

    @property
    def name(self) -> str:
        """The manager's name for the plugin, else the plugin's own, else its spec."""
        return self.known_as or self.plugin or self.spec


_COMPLETED = Verdict("completed")
DECIDING: Mapping[str, Callable[[Mapping[str, Any]], Verdict]] = {
    "reply": lambda detail: _COMPLETED,
    "limit": lambda detail: Verdict("limited", str(detail["by"])),
    "stop": lambda detail: Verdict("stopped", str(detail["by"])),
    "protocol": lambda detail: Verdict("broken", "protocol"),
    "unserializable": lambda detail: Verdict("broken", "unserializable"),
    "error": lambda detail: (
        Verdict("limited", str(detail["limit"]))
        if detail.get("limit")
        else Verdict("failed", printable(str(detail["type"]), 200))
    ),
    "exit": lambda detail: Verdict("died", str(detail["status"])),
}
"""The kinds of event that decide a verdict, with the verdict of an event's detail."""


def judge(events: tuple[Event, ...]) -> Verdict:
    """Return the verdict of these events. The first one of a deciding kind decides."""
    for event in events:
        decide = DECIDING.get(event.kind)
        if decide is not None:
            return decide(event.detail)
    return Verdict("stopped", "close")


_NOTHING: Mapping[str, Any] = MappingProxyType({})  # a run gets a dict, which can be pickled


class RunInside(NamedTuple):
    """The internal part of a run: its samples, and about how many bytes `value` takes in this process."""

    readings: tuple[Sample, ...]
    data_bytes: int


class RunRecord:
    """One call of a plugin: its value, its verdict, its usage, and everything the host saw. Immutable.

    `number` counts the plugin's calls from 0. `barriers` maps the worker's barriers to their status (enforced,
    partial, unavailable). `profile` is there if the policy asked for one and the call ended by a reply: a worker that
    dies takes it along. `displays` has what the call displayed, in order; claims, like its output. `out` has the
    variables that a run of code was asked for.
    """

    value: Any
    out: Mapping[str, Any]
    usage: Usage
    events: tuple[Event, ...]
    policy: Policy
    source: SourceInfo
    number: int
    started_at: datetime
    stdout: str
    stderr: str
    error: ErrorText | None
    barriers: Mapping[str, str]
    profile: ProfileRecord | None
    displays: tuple[DisplayRecord, ...]
    _inside: RunInside

    def __init__(
        self,
        value: Any,
        usage: Usage,
        events: tuple[Event, ...],
        policy: Policy,
        source: SourceInfo,
        number: int = 0,
        started_at: datetime | None = None,
        stdout: str = "",
        stderr: str = "",
        error: ErrorText | None = None,
        readings: tuple[Sample, ...] = (),
        barriers: Mapping[str, str] = _NOTHING,
        profile: ProfileRecord | None = None,
        data_bytes: int = 0,
        displays: tuple[DisplayRecord, ...] = (),
        out: Mapping[str, Any] = _NOTHING,
    ) -> None:
        # One update of the dict: a frozen dataclass would take microseconds of every call here.
        self.__dict__.update(
            value=value,
            out=out or {},
            usage=usage,
            events=events,
            policy=policy,
            source=source,
            number=number,
            started_at=started_at or datetime.now(UTC),
            stdout=stdout,
            stderr=stderr,
            error=error,
            barriers=barriers or {},
            profile=profile,
            displays=displays,
            _inside=RunInside(readings, data_bytes),
        )

    def __replace__(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, for `copy.replace`. Raises `TypeError` for an unknown field."""
        fields = {**self.__dict__, **self._inside._asdict()}
        del fields["_inside"]
        return type(self)(**{**fields, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Run can't be changed (its {name!r} was to be set)")

    @property
    def verdict(self) -> Verdict:
        """The verdict, judged from `events`."""
        return judge(self.events)


def memory_floor_bytes(run: RunRecord) -> int:
    """Return the footprint that the memory limit counts from: the start event's floor, else the call's baseline."""
    start = next((event for event in run.events if event.kind == "start"), None)
    floor = start.detail.get("floor_bytes") if start else None
    return int(floor) if floor else run.usage.baseline_memory_bytes


def added_memory_bytes(run: RunRecord) -> int:
    """Return the memory added at the peak of this call, as the limit counts it: the footprint above its floor."""
    return max(0, run.usage.peak_memory_bytes - memory_floor_bytes(run))


def plugin_name(run: RunRecord) -> str:
    """Return the plugin's name, safe to print."""
    return printable(run.source.name, 100)
