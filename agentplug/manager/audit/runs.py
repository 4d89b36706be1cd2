"""Runs as fields of audit lines, and back (host).

Everything that verdicts, tables and pictures need comes back unchanged: usage, events, readings, source, policy,
barriers, profile. Content (the value, output, an error's message and traceback) comes back if the log has content;
otherwise the line has digests, and the run None and empty texts.
"""

from __future__ import annotations

import base64
import functools
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from agentplug.contract.events import Event
from agentplug.contract.limits import FIELDS
from agentplug.contract.policy import Policy
from agentplug.contract.record import USAGE_FIELDS, ErrorText, Sample, SourceInfo, Usage, memory_floor_bytes
from agentplug.core.boundary import codec as values
from agentplug.core.boundary import frames as wire
from agentplug.core.profile import Profile
from agentplug.core.run import Run
from agentplug.manager.audit.lines import MAX_LINE_BYTES, checked_time, digest_of, to_json
from agentplug.report.columns import CORE_COSTS
from agentplug.report.frames import policy_fields

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.layout import Pace

_MOST_ABOUT = 64
_MAX_JSON_BYTES = 1 << 16  # half a million numbers as JSON, in one call, took 0.1 s; as they came it's 1 ms


class RunWriter:
    """An encoder of runs, which encodes only once what the runs of a worker share."""

    def __init__(self, content: bool) -> None:
        self._content = content
        self._shared: dict[tuple[int, int, int], tuple[Any, str]] = {}

    def to_json(self, run: Run, plugin: str | None, pace: Pace = values.HURRY) -> str:
        """Return the fields of a `run` line, as JSON. May be called in any thread."""
        fields: dict[str, Any] = {
            "plugin": plugin or run.source.name,
            "run": run.number,
            "verdict": str(run.verdict),
            "started_at": run.started_at.astimezone(UTC).isoformat(),
            "usage": run.usage._asdict(),
            "events": run.events,
            "readings": run._inside.readings,
            "value": self._value(run, pace),
            "stdout": self._text(run.stdout),
            "stderr": self._text(run.stderr),
            "error": self._error(run.error),
            "profile": msgspec.to_builtins(run.profile) if run.profile is not None else None,
        }
        return f"{to_json(fields)[:-1]},{self._about(run)}"

    def _about(self, run: Run) -> str:
        """Return the source, policy and barriers, as the rest of a JSON object."""
        key = (id(run.source), id(run.policy), id(run.barriers))
        shared = self._shared.get(key)
        if shared is None:
            source, policy = run.source, run.policy
            fields = {
                "version": source.version,
                "digest": source.digest,
                "source": {"spec": source.spec, "kind": source.kind, "plugin": source.plugin},
                "policy": policy_fields(policy),
                "barriers": dict(run.barriers),
            }
            if len(self._shared) >= _MOST_ABOUT:
                self._shared.clear()
            # The objects are stored too, since an id is unique only while its object lives.
            shared = self._shared[key] = ((source, policy, run.barriers), to_json(fields)[1:])
        return shared[1]

    def _value(self, run: Run, pace: Pace) -> dict[str, Any] | None:
        if run.verdict.kind != "completed":
            return None
        value = run.value
        try:
            packed = values.encode(value, pace=pace)
        except values.Unserializable as error:
            return {"type": str(error.type)}
        hashed = sha256(packed.structure)
        for blob in packed.blobs:
            hashed.update(blob)
        fields: dict[str, Any] = {"sha256": f"sha256:{hashed.hexdigest()}"}
        size = len(packed.structure) + packed.blob_bytes
        if not self._content or size > MAX_LINE_BYTES:  # it would be cut from the line anyway
            return fields | {"bytes": size}
        if size <= _MAX_JSON_BYTES and _is_json(value, 0):
            return fields | {"json": value}
        wire = (packed.structure, b"".join(bytes(blob) for blob in packed.blobs))
        return fields | {"wire": [base64.b64encode(part).decode("ascii") for part in wire]}

    def _text(self, text: str) -> dict[str, Any] | None:
        if not text:
            return None
        fields = {"sha256": digest_of(text), "chars": len(text)}
        return fields | {"text": text} if self._content else fields

    def _error(self, error: ErrorText | None) -> dict[str, Any] | None:
        if error is None:
            return None
        fields = {"type": error.type, "sha256": digest_of(f"{error.message}\0{error.traceback}")}
        return fields | {"message": error.message, "traceback": error.traceback} if self._content else fields


def _is_json(value: Any, depth: int) -> bool:
    """Return True if JSON gives exactly this value back."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return True
    if kind is int:
        return bool(-(1 << 63) <= value < 1 << 63)
    if kind is float:
        return math.isfinite(value)
    if depth > 32:
        return False
    if kind is list:
        return all(_is_json(item, depth + 1) for item in value)
    return kind is dict and all(type(key) is str and _is_json(item, depth + 1) for key, item in value.items())


# ---------------------------------------------------------------------- fields to runs


class _Source(msgspec.Struct):
    spec: str
    kind: str
    plugin: str = ""


class _Error(msgspec.Struct):
    type: str
    message: str = ""
    traceback: str = ""


class _Text(msgspec.Struct):
    text: str = ""


class _Value(msgspec.Struct):
    json: Any = None
    wire: tuple[str, str] | None = None


_Int = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]


class _Run(msgspec.Struct):
    """The fields of a `run` line. Fields that a newer agentplug adds are ignored, in `usage` too."""

    run: _Int
    started_at: datetime
    usage: dict[str, _Int | float]
    events: tuple[Event, ...]
    readings: tuple[tuple[_Int, _Int, _Int, _Int], ...]
    version: str
    digest: Annotated[str, msgspec.Meta(pattern="^[a-z0-9:_-]{0,200}$")]
    source: _Source
    policy: dict[str, Any]
    barriers: dict[str, str]
    value: _Value | None = None
    stdout: _Text | None = None
    stderr: _Text | None = None
    error: _Error | None = None
    profile: Profile | None = None
    plugin: str = ""


def run_of(fields: Mapping[str, Any]) -> Run:
    """Rebuild a run from the fields of its line. A figure that an older agentplug didn't write is `Usage`'s default.

    Raises `ValueError` if the fields are those of another line, or of one that was cut.
    """
    try:
        run = _rebuild(msgspec.convert(fields, _Run))
        run.verdict  # noqa: B018  (raises if the events make no sense)
        memory_floor_bytes(run).to_bytes(8, "big", signed=True)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"it makes no sense ({type(error).__name__})") from None
    return run


def _is_profile(profile: Profile) -> bool:
    """Check the bounds that every worker's profile keeps, since pictures rely on them."""
    deepest = max((len(stack.places) for stack in profile.stacks), default=1)
    emptiest = min((len(stack.places) for stack in profile.stacks), default=1)
    figures = [profile.dropped, *(figure for stack in profile.stacks for figure in (stack.weight, stack.times))]
    figures += [place.line for stack in profile.stacks for place in stack.places]
    return (
        profile.kind in FIELDS["profile"].words
        and len(profile.stacks) <= wire.MAX_STACKS
        and 0 < emptiest <= deepest <= wire.MAX_DEPTH
        and all(0 <= figure < 1 << 53 for figure in figures)
    )


def _rebuild(fields: _Run) -> Run:
    usage = {name: fields.usage[name] for name in USAGE_FIELDS if name in fields.usage}
    counts = [figure for name, figure in usage.items() if not name.endswith("_s")]
    if fields.profile is not None and not _is_profile(fields.profile):
        raise ValueError("its profile is none")
    if not usage.keys() >= set(CORE_COSTS) or not all(isinstance(count, int) for count in counts):
        raise ValueError("its usage is none")
    source = fields.source
    known_as = fields.plugin if fields.plugin != (source.plugin or source.spec) else ""
    return Run(
        _value_of(fields.value),
        Usage(**usage),  # type: ignore[arg-type]
        fields.events,
        _policy_of(to_json(fields.policy)),
        SourceInfo(source.spec, source.kind, fields.digest, source.plugin, fields.version, known_as),
        fields.run,
        checked_time(fields.started_at),
        fields.stdout.text if fields.stdout else "",
        fields.stderr.text if fields.stderr else "",
        ErrorText(fields.error.type, fields.error.message, fields.error.traceback) if fields.error else None,
        tuple(Sample(*reading) for reading in fields.readings),
        fields.barriers,
        fields.profile,
    )


@functools.lru_cache(_MOST_ABOUT)
def _policy_of(fields: str) -> Policy:
    """Return the policy of these JSON fields, cached: thousands of runs share one, and checking it takes long."""
    return Policy.from_dict(json.loads(fields), is_record=True)


def _value_of(field: _Value | None) -> Any:
    if field is None or field.wire is None:
        return field.json if field is not None else None
    structure, blobs = (base64.b64decode(part, validate=True) for part in field.wire)
    return values.decode(structure, blobs)
