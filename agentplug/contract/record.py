"""What is known of one call, as plain data (host): its verdict, its usage, its source, its whole record.

Tables, cards and pictures are functions of a `RunRecord`, whether the call was just made or comes from an audit file.
`core.run.Run` is the record with what a notebook does with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable

KINDS = ("completed", "failed", "limited", "died", "broken", "stopped")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a call ended, in one word, and by what. `str()` is like `limited:memory`; equal by value."""

    kind: str
    by: str | None = None

    def __str__(self) -> str:
        return self.kind if self.by is None else f"{self.kind}:{self.by}"

    @classmethod
    def parse(cls, text: str) -> Verdict:
        """The verdict that `str()` wrote. Raises `ValueError` for an unknown kind."""
        kind, _, by = text.partition(":")
        if kind not in KINDS:
            raise ValueError(f"unknown verdict {kind!r}; the kinds are {', '.join(KINDS)}")
        return cls(kind, by or None)


class Usage(NamedTuple):
    """What a call cost, as the kernel counted it. Bytes and seconds; `calls` runs share these figures.

    `peak_memory_bytes` is the worker's resident high-water mark in this call (VmHWM, reset as the call began),
    `baseline_memory_bytes` its footprint as the call began. `read_bytes` and `write_bytes` passed through read
    and write calls on files (rchar and wchar of proc(5), output not counted). `threads` is the most seen.
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
    """One reading of a busy worker. Nanoseconds since the call began; CPU used since then; `threads` as last counted,
    up to a second ago while the worker is calm."""

    t_ns: int
    rss_bytes: int
    cpu_ns: int
    threads: int


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Which bytes ran: spec, kind (file, module, cell, object), sha256 digest, the plugin's own name and version; and
    `known_as`, the name that a manager gave it where that is another.
    """

    spec: str
    kind: str
    digest: str
    plugin: str = ""
    version: str = ""
    known_as: str = ""

    @property
    def name(self) -> str:
        """What it is called: as it was given, or by itself, or its spec if it never told."""
        return self.known_as or self.plugin or self.spec


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
class ProfileRecord:
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


_COMPLETED = Verdict("completed")
_DECIDING: dict[str, Callable[[Mapping[str, Any]], Verdict]] = {
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


def judge(events: tuple[Event, ...]) -> Verdict:
    """The verdict of these events: the first one that decides does."""
    for event in events:
        decide = _DECIDING.get(event.kind)
        if decide is not None:
            return decide(event.detail)
    return Verdict("stopped", "close")


_NO_BARRIERS: Mapping[str, str] = MappingProxyType({})


class RunInside(NamedTuple):
    """A run's one internal door: its samples as plain tuples, and about how much `value` takes in this process."""

    readings: tuple[Sample, ...]
    held_bytes: int


class RunRecord:
    """One call of a plugin: what came back, how it ended, what it cost, and everything the host saw. Immutable.

    `number` counts the plugin's calls from 0; `barriers` says of each barrier of its worker how it stood (enforced,
    partial, unavailable). `profile` says where its memory or CPU time went, where the policy asked for that; None for
    a call that never answered: the worker takes it along.
    """

    value: Any
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
        barriers: Mapping[str, str] = _NO_BARRIERS,
        profile: ProfileRecord | None = None,
        held_bytes: int = 0,
    ) -> None:
        # One update of the dict: a frozen dataclass would take microseconds of every call here.
        self.__dict__.update(
            value=value,
            usage=usage,
            events=events,
            policy=policy,
            source=source,
            number=number,
            started_at=started_at or datetime.now(UTC),
            stdout=stdout,
            stderr=stderr,
            error=error,
            barriers=barriers,
            profile=profile,
            _inside=RunInside(readings, held_bytes),
        )

    def __replace__(self, **changes: Any) -> Self:
        """A copy with some fields changed, for `copy.replace`. Raises `TypeError` for an unknown field."""
        fields = {**self.__dict__, **self._inside._asdict()}
        del fields["_inside"]
        return type(self)(**{**fields, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Run can't be changed (its {name!r} was to be set)")

    @property
    def verdict(self) -> Verdict:
        """How it ended, judged from `events`."""
        return judge(self.events)


def memory_floor_bytes(run: RunRecord) -> int:
    """The footprint that the memory limit counts from: `floor_bytes` of the start event, else the call's baseline."""
    start = next((event for event in run.events if event.kind == "start"), None)
    floor = start.detail.get("floor_bytes") if start else None
    return int(floor) if floor else run.usage.baseline_memory_bytes


def added_memory_bytes(run: RunRecord) -> int:
    """What the plugin had added to its worker's footprint at the peak of this call, as its limit counts it."""
    return max(0, run.usage.peak_memory_bytes - memory_floor_bytes(run))


def plugin_name(run: RunRecord) -> str:
    """What the plugin is called, safe to print."""
    return printable(run.source.name, 100)
