"""The lines of an audit file (host): how fields become JSON, and how each line is tied to the one before.

A line is one JSON object in ASCII, at most 1 MiB long:

    {"n":7,"prev":"HASH","at":"2026-01-31T12:00:00.123456+00:00","kind":"run","fields":{…},"hash":"HASH"}

`hash` is the SHA-256 of all bytes before `,"hash"`; `prev` is the `hash` of the line before (zeros in the first), so
no byte can change unseen. `n` counts from 1 through all files of a log.

What JSON has no place for: NaN and infinities are `{"$float": "nan"}`; ints too long for decimals `{"$int": "0x…"}`;
bytes `{"$bytes": BASE64}`; tuples lists; times ISO text; keys their text; and any other object is only named,
`{"$type": NAME}`. Lone surrogates are JSON escapes, like all that isn't ASCII: a terminal that shows the file obeys
nothing in it.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import PurePath
from typing import Any, NamedTuple

from agentplug.contract.record import Verdict
from agentplug.contract.text import printable

FORMAT = "agentplug-audit"
MAX_LINE_BYTES = 1 << 20
NO_HASH = "0" * 64
_ENVELOPE_BYTES = 400
_MAX_DEPTH = 64
_MOST_CUT = 16
_FIRST_YEAR, _LAST_YEAR = 1971, 2199
_TAIL = re.compile(rb',"hash":"([0-9a-f]{64})"\}\n')
_TAIL_BYTES = len(',"hash":""}\n') + 64
_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,39}")
_MEMBERS = ["n", "prev", "at", "kind", "fields", "hash"]


class Entry(NamedTuple):
    """One line: `n` counts through the log, `line` through its `file`; `fields` is what was recorded."""

    n: int
    prev: str
    at: datetime
    kind: str
    fields: dict[str, Any]
    hash: str
    file: str = ""
    line: int = 0


class NotALine(ValueError):
    """The bytes aren't a line of an audit file, or not the line that was written; the text says why."""


def is_kind(kind: object) -> bool:
    """Whether `kind` can name what a line tells."""
    return isinstance(kind, str) and _KIND.fullmatch(kind) is not None


def seal(n: int, prev: str, at: str, kind: str, fields: str) -> tuple[bytes, str]:
    """The line with these JSON `fields`, and its hash. Fields that are too long are cut, see `fit`."""
    if len(fields) > MAX_LINE_BYTES - _ENVELOPE_BYTES:
        fields = fit(fields, MAX_LINE_BYTES - _ENVELOPE_BYTES)
    body = f'{{"n":{n},"prev":"{prev}","at":"{at}","kind":"{kind}","fields":{fields}'.encode("ascii")
    digest = sha256(body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body, digest.encode("ascii")), digest


def unseal(raw: bytes, file: str = "", line: int = 0) -> Entry:
    """The entry of one whole line. Raises `NotALine` unless it is exactly what `seal` wrote."""
    tail = _TAIL.fullmatch(raw[-_TAIL_BYTES:])
    if tail is None:
        raise NotALine("it doesn't end in a hash, so it is no whole line of an audit log")
    if sha256(raw[:-_TAIL_BYTES]).hexdigest().encode("ascii") != tail[1]:
        raise NotALine("its hash isn't that of its bytes: they were changed or damaged")
    try:
        told = json.loads(raw)
        if list(told) != _MEMBERS or not is_kind(told["kind"]) or not isinstance(told["fields"], dict):
            raise NotALine("its members aren't those of an audit log's line")
        if not isinstance(told["n"], int) or not isinstance(told["prev"], str):
            raise NotALine("its number or its link to the line before isn't one")
        at = checked_time(datetime.fromisoformat(told["at"]))
    except NotALine:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise NotALine(f"it can't be read: {printable(str(error), 200)}") from None
    return Entry(told["n"], told["prev"], at, told["kind"], told["fields"], told["hash"], file, line)


def checked_time(at: datetime) -> datetime:
    """`at` in UTC. Raises `ValueError` where it has no zone, or tables have no such time."""
    if at.tzinfo is None or not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ValueError("a time without a zone, or not of these centuries")
    return at.astimezone(UTC)


# ---------------------------------------------------------------------- fields


def to_json(fields: Mapping[str, Any]) -> str:
    """`fields` as JSON in ASCII, whatever is in them. Raises nothing."""
    try:
        return _encoder.encode(fields)
    except Exception:  # NaN, an int of too many digits, a list in itself, whatever an object raises
        return _encoder.encode(_plain(fields, 0))


def digest_of(data: bytes | str) -> str:
    """`sha256:` and the hex digest."""
    return f"sha256:{sha256(data.encode('utf-8', 'surrogatepass') if isinstance(data, str) else data).hexdigest()}"


def fit(fields: str, most: int) -> str:
    """JSON fields of at most `most` bytes: the largest members are replaced by their size and digest.

    `truncated` names them. A member that carries a digest of its own keeps that. Where not some few large members
    are the reason, nothing is left but the size and digest of all.
    """
    told = json.loads(fields)
    sizes = {name: len(_encoder.encode(value)) for name, value in told.items()}
    cut: list[str] = []
    for name in sorted(sizes, key=lambda name: -sizes[name])[:_MOST_CUT]:
        value = told[name]
        own = value.get("sha256") if isinstance(value, dict) else None
        told[name] = {"bytes": sizes[name], "sha256": own or digest_of(_encoder.encode(value))}
        cut.append(name)
        shorter = _encoder.encode(told | {"truncated": cut})
        if len(shorter) <= most:
            return shorter
    return _encoder.encode({"truncated": True, "bytes": len(fields), "sha256": digest_of(fields)})


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return _int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": float.__repr__(value)}
    if depth < _MAX_DEPTH:
        try:
            if isinstance(value, Mapping):
                return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return [_plain(item, depth + 1) for item in value]
            other = _other(value)
            return _plain(other, depth + 1) if isinstance(value, Mapping) else other
        except Exception:  # an object that fails when it is looked at
            pass
    return {"$type": _type_name(value)}


def _int(value: int) -> Any:
    try:
        str(value)
    except ValueError:  # more digits than sys.get_int_max_str_digits()
        return {"$int": hex(value)}
    return value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    return str(key) if isinstance(key, (bool, float, type(None))) else printable(repr(key), 200)


def _other(value: Any) -> Any:
    """What stands for an object that JSON doesn't know."""
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (Verdict, PurePath)):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    return {"$type": _type_name(value)}


def _type_name(value: Any) -> str:
    return printable(type(value).__name__, 200)


_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_other)


def plugins_of(entry: Entry) -> list[str]:
    """The plugins that an entry tells of: its own, or those of a message's hooks."""
    fields = entry.fields
    hooks = fields.get("hooks")
    told = [hook.get("hook") for hook in hooks if isinstance(hook, dict)] if isinstance(hooks, list) else []
    found = [fields.get("plugin"), fields.get("hook") if entry.kind == "hook" else None, *told]
    return [name for name in found if isinstance(name, str)]


def verdict_of(entry: Entry) -> str:
    """How it ended: the verdict of a run, the outcome of a hook, `allowed` or `denied` for a message; else empty."""
    fields = entry.fields
    told = fields.get("verdict", fields.get("outcome"))
    if told is None and isinstance(fields.get("allowed"), bool):
        told = "allowed" if fields["allowed"] else f"denied:{fields.get('denied_by') or ''}".rstrip(":")
    return told if isinstance(told, str) else ""
