"""`AgentMessage`: one framework-neutral message of an agent, on its way through the hooks (host).

Frozen, and checked when it is made: by `parts`, `members` and `plain_json`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from typing import Any, NoReturn

import msgspec

from agentplug.contract.messages.members import (
    AGENT,
    MODEL,
    USAGE,
    check_count,
    check_members,
    check_texts,
    is_duration,
    refuse,
)
from agentplug.contract.messages.parts import checked, coerce_parts
from agentplug.contract.messages.plain_json import Coercion, strict
from agentplug.contract.plugin import AGENT_POINTS
from agentplug.contract.policy import brief
from agentplug.contract.text import printable
from agentplug.errors import ContractError

VERSION = 1
MAX_MESSAGE_BYTES = 1 << 20
"""The bound on a message's length as JSON."""
_COERCED_BYTES = 450_000  # half of the room, the rest is for `native`

_json = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode
_TIME = re.compile(
    r"(?a)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d{1,9})?"
    r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)

_TEXTS = ("session_id", "run_id", "request_id", "group", "role", "name", "finish_reason")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _is_time(text: str) -> bool:
    if not _TIME.fullmatch(text):
        return False
    try:
        date.fromisoformat(text[:10])  # the pattern doesn't know the lengths of months
    except ValueError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class AgentMessage:
    """One message at one of the eight agent points. All fields are keywords, and plain JSON values.

    `id` and `ts` (RFC 3339, UTC) have defaults; `seq` counts the messages of a session, `turn` its turns. Messages
    that belong together, such as parallel tool calls, share a `group`. `agent` may have `id`, `name`, `framework`,
    `framework_version`; `model` `id`, `vendor`; `usage` `input_tokens`, `output_tokens`; `error` a `type`.
    `redactions` lists the differences from the framework's own message: what an adapter left out, and which parts a
    transform changed. `truncated` is true if something was cut. `native` is the framework's own dump,
    `{"framework": ..., "data": ...}`, from which its message can be restored without loss.

    Raises `ContractError`, naming the field, for a value that is unknown, of the wrong type or too large.
    """

    v: int = VERSION
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    session_id: str | None = None
    seq: int = 0
    ts: str = field(default_factory=_now)
    run_id: str | None = None
    turn: int | None = None
    request_id: str | None = None
    group: str | None = None
    agent: dict[str, Any] | None = None
    point: str
    role: str | None = None
    name: str | None = None
    parts: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, Any] | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    duration_ms: float | None = None
    redactions: list[str] = field(default_factory=list)
    truncated: bool = False
    native: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        put = self.__dict__.__setitem__  # frozen for everybody else
        if self.v != VERSION or type(self.v) is not int:
            refuse("v", f"{brief(self.v)}; this version reads {VERSION}")
        if self.point not in AGENT_POINTS:
            near = difflib.get_close_matches(str(self.point)[:100], AGENT_POINTS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the points of messages are {', '.join(AGENT_POINTS)}"
            refuse("point", f"{brief(self.point)} is unknown; {hint}")
        if type(self.id) is not str or not 0 < len(self.id) <= 200:
            refuse("id", f"{brief(self.id)}; write a text of 1 to 200 characters")
        if type(self.ts) is not str or not _is_time(self.ts):
            refuse("ts", f"{brief(self.ts)}; write a time as RFC 3339 has it, like 2026-01-31T12:00:00Z")
        check_count("seq", self.seq)
        if self.turn is not None:
            check_count("turn", self.turn)
        for name in ("id", *_TEXTS):
            if (text := self.__dict__[name]) is not None:
                if type(text) is not str:
                    refuse(name, f"{brief(text)}; write text, or None")
                strict(text, name)
        put("agent", check_members("agent", self.agent, AGENT))
        put("model", check_members("model", self.model, MODEL))
        put("error", check_members("error", self.error, ("type",)))
        put("usage", check_members("usage", self.usage, USAGE, counts=True))
        if self.duration_ms is not None and not is_duration(self.duration_ms):
            refuse("duration_ms", f"{brief(self.duration_ms)}; write milliseconds, 0 or more")
        if type(self.truncated) is not bool:
            refuse("truncated", f"{brief(self.truncated)}; write True or False")
        put("redactions", check_texts("redactions", self.redactions))
        put("parts", checked(self.parts))
        if self.native is not None:
            put("native", _native(self.native))
        size_bytes = len(_json(self.__dict__))
        if size_bytes > MAX_MESSAGE_BYTES:
            refuse(
                "message", f"{size_bytes} bytes as JSON, more than {MAX_MESSAGE_BYTES}; AgentMessage.coerced cuts it"
            )
        put("_size_bytes", size_bytes)

    # ------------------------------------------------------------------ content

    @property
    def payload(self) -> list[dict[str, Any]]:
        """A copy of `parts`, the only field that a transform may replace."""
        return strict(self.parts, "parts")  # type: ignore[no-any-return]

    @property
    def text(self) -> str:
        """The contents of the text parts, one after another."""
        return "".join(part["content"] for part in self.parts if part["type"] == "text")

    @property
    def size_bytes(self) -> int:
        """The length as JSON."""
        return int(self.__dict__["_size_bytes"])

    @property
    def digest(self) -> str:
        """`sha256:` and the digest of the JSON with sorted keys, for logs without content."""
        return f"sha256:{hashlib.sha256(_canonical(self._fields())).hexdigest()}"

    def copy(self) -> AgentMessage:
        """Return a deep copy."""
        twin = object.__new__(AgentMessage)
        twin.__dict__.update(self.to_dict(), _size_bytes=self.size_bytes)
        return twin

    def replace(self, **changes: Any) -> AgentMessage:
        """Return a copy with these fields changed, checked again. Raises `ContractError`."""
        return _build({**self._fields(), **changes})

    # ------------------------------------------------------------------ in and out

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain JSON values, a copy."""
        return msgspec.json.decode(_json(self._fields()))  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """Return the fields as JSON."""
        return _json(self._fields()).decode()

    def for_plugin(self, *, native: bool = False) -> dict[str, Any]:
        """Return the message as a plugin gets it: `to_dict()`, its `native` None unless `native` is granted."""
        return msgspec.json.decode(_json(self.view(native=native)))  # type: ignore[no-any-return]

    def view(self, *, native: bool = False) -> dict[str, Any]:
        """Return `for_plugin` without a copy: to encode or compare only, never to change or pass on."""
        fields = self._fields()
        return fields if native else {**fields, "native": None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AgentMessage:
        """Read the message that `to_dict` returned. Raises `ContractError`."""
        if not isinstance(values, Mapping):
            refuse("message", f"a {type(values).__name__}; give a dict of its fields")
        return _build(dict(values))

    @classmethod
    def from_json(cls, text: str | bytes) -> AgentMessage:
        """Read the message that `to_json` wrote. Raises `ContractError`, also for repeated keys."""
        if not isinstance(text, (str, bytes)):
            refuse("message", f"a {type(text).__name__}; give its JSON as text")
        if len(text) > MAX_MESSAGE_BYTES:
            refuse("message", f"{len(text)} long as JSON, more than {MAX_MESSAGE_BYTES}")
        try:
            values = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        except RecursionError:
            refuse("message", "nested too deeply")
        except (ValueError, UnicodeDecodeError) as error:
            refuse("message", f"not JSON: {printable(str(error), 200)}")
        return cls.from_dict(values)

    @classmethod
    def coerced(cls, **values: Any) -> AgentMessage:
        """Make a message from a framework's values, whatever they are: an adapter must not fail on content.

        Values without a plain form are replaced by the rules of `plain_json`, and listed in `redactions`; invalid
        parts become generic. `native` is left out if it is too large, because a cut dump can't be restored. Raises
        `ContractError` only for an unknown point or field, which are the adapter's mistakes.
        """
        plain = Coercion(_COERCED_BYTES)
        others = {name: value for name, value in values.items() if name not in ("parts", "native", "redactions")}
        fit = {name: _coerce_field(name, plain(value, name), plain) for name, value in others.items()}
        fit["parts"] = coerce_parts(plain(values.get("parts", []), "parts"), plain)
        fit["redactions"] = [str(plain(text, "redactions")) for text in values.get("redactions", ())]
        if values.get("native") is not None:
            try:
                fit["native"] = _native(values["native"])
                if len(_json(fit["native"])) > MAX_MESSAGE_BYTES // 2:
                    refuse("native", "too large")
            except ContractError as error:
                fit["native"] = None
                plain.notes.append(f"native: left out, {printable(str(error), 150)}")
        fit["redactions"] += plain.notes
        fit["truncated"] = bool(fit.get("truncated")) or plain.truncated
        return _build({name: value for name, value in fit.items() if value is not _ABSENT})

    # ------------------------------------------------------------------ internals

    def _fields(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in _NAMES}

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        of = f" of {printable(self.name, 60)}" if self.name else ""
        return f"<AgentMessage at {self.point}{of}: {', '.join(printable(p['type'], 40) for p in self.parts[:8])}>"


_NAMES = tuple(f.name for f in fields(AgentMessage))
_ABSENT = object()


def _build(values: dict[str, Any]) -> AgentMessage:
    for name in values:
        if name not in _NAMES:
            near = difflib.get_close_matches(str(name)[:100], _NAMES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            refuse(printable(str(name), 100), f"a message has no such field{hint}")
    if "point" not in values:
        refuse("point", "missing; say where the message is")
    return AgentMessage(**values)


def _native(value: object) -> dict[str, Any]:
    if type(value) is not dict or set(value) != {"framework", "data"} or type(value["framework"]) is not str:
        refuse("native", "write a dict of framework (text) and data (its own dump), or None")
    return strict(value, "native")  # type: ignore[no-any-return]


def _coerce_field(name: str, value: Any, plain: Coercion) -> Any:
    """Return a plain `value` as far as the field takes it; `_ABSENT` if it takes nothing of it."""
    if name not in _NAMES or name in ("point", "v"):
        return value  # a wrong one is the adapter's mistake
    try:
        _build({"point": AGENT_POINTS[0], name: value})
        return value
    except ContractError:
        pass
    plain.notes.append(f"{name}: not as the field has it")
    if isinstance(value, dict) and name in ("agent", "model", "usage", "error"):
        known = {"agent": AGENT, "model": MODEL, "usage": USAGE, "error": ("type",)}[name]
        members = {key: item for key, item in value.items() if key in known}
        if name != "usage":
            members = {key: item if item is None else str(item) for key, item in members.items()}
        else:
            members = {key: item for key, item in members.items() if type(item) is int and item >= 0}
        return members or None
    if name in _TEXTS and isinstance(value, (int, float)):
        return str(value)
    return _ABSENT


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands there twice")
    return members


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} has no place in JSON")
