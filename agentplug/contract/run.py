"""What a call did: `Run`, its `Verdict` and its `Usage` (host).

A run is a value: the verdict is judged from its events, tables and pictures are drawn from it by `report`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.contract.tried import tried_lines
from agentplug.errors import (
    AgentplugError,
    LimitExceeded,
    PluginError,
    ProtocolViolation,
    WorkerDied,
)

if TYPE_CHECKING:
    import pandas as pd

    from agentplug.contract.profile import Profile

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


class Run:
    """One call of a plugin: what came back, how it ended, what it cost, and everything the host saw. Immutable.

    `number` counts the plugin's calls from 0; `readings` are the samples as plain tuples; `barriers` says of each
    barrier of its worker how it stood (enforced, partial, unavailable). `profile` says where its memory or CPU time
    went, where the policy asked for that; None for a call that never answered: the worker takes it along.
    `held_bytes` is about what `value` takes in this process.
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
    readings: tuple[Sample, ...]
    barriers: Mapping[str, str]
    profile: Profile | None
    held_bytes: int

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
        profile: Profile | None = None,
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
            readings=readings,
            barriers=barriers,
            profile=profile,
            held_bytes=held_bytes,
        )

    def replace(self, **changes: Any) -> Run:
        """A copy of this run with some fields changed. Raises `TypeError` for a field that there isn't."""
        return Run(**{**self.__dict__, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Run can't be changed (its {name!r} was to be set)")

    @property
    def verdict(self) -> Verdict:
        """How it ended, judged from `events`."""
        return judge(self.events)

    def check(self) -> Any:
        """The value of a completed run.

        Raises `PluginError`, `LimitExceeded`, `WorkerDied` or `ProtocolViolation`, by its verdict.
        """
        verdict = self.verdict
        if verdict.kind == "completed":
            return self.value
        kind = {"failed": PluginError, "limited": LimitExceeded, "broken": ProtocolViolation}
        error: AgentplugError = kind.get(verdict.kind, WorkerDied)(self.explain())
        error.run = self
        raise error

    def explain(self) -> str:
        """What happened, in a sentence with the fact, the limit and the remedy; safe to print."""
        from agentplug.contract.explain import explain  # the sentences have a module of their own

        return explain(self)

    @property
    def samples(self) -> pd.DataFrame:
        """Readings while the call ran: TimedeltaIndex `t`, `rss_bytes`, `cpu_s`, `cpu_percent`, `threads`."""
        from agentplug.report.frames import samples_frame

        return samples_frame(self)

    def to_frame(self) -> pd.DataFrame:
        """This run as a calls frame of one row."""
        from agentplug.report.frames import calls_frame

        return calls_frame([self])

    def __repr__(self) -> str:
        name = printable(self.source.name, 60)
        return f"<Run of {name}: {self.verdict}>"

    def __str__(self) -> str:
        """Its repr, and a line for each thing that it tried without a right to it."""
        return "\n".join([repr(self), *tried_lines(self.events)])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """IPython's text/plain: `str()` of a run by itself, its repr within a list."""
        printer.text(repr(self) if printer.stack[:-1] else str(self))

    def _repr_html_(self) -> str:
        from agentplug.report.cards import run_card

        return run_card(self)
