"""The lines of an audit file (host): fields as JSON, and the hash that ties each line to the one before.

A line is one JSON object in ASCII, at most 1 MiB long:

    {"n":7,"prev":"HASH","at":"2026-01-31T12:00:00.123456+00:00","kind":"run","fields":{…},"hash":"HASH"}

`hash` is the SHA-256 of all bytes before `,"hash"`; `prev` is the `hash` of the line before (zeros in the first).
So no byte can change unnoticed. `n` counts from 1 through all files of a log.

Values that JSON lacks: NaN and infinities are written as `{"$float": "nan"}`, ints too long for decimals as
`{"$int": "0x…"}`, bytes as `{"$bytes": BASE64}`, tuples as lists, times as ISO text, keys as text, and any other
object by its type, `{"$type": NAME}`. Everything but ASCII is escaped, so a terminal that shows the file obeys no
control character.
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
MAX_FIELDS_BYTES = MAX_LINE_BYTES - 400
_MAX_DEPTH = 64
_MOST_CUT = 16
_FIRST_YEAR, _LAST_YEAR = 1971, 2199
_TAIL = re.compile(rb',"hash":"([0-9a-f]{64})"\}\n')
_TAIL_BYTES = len(',"hash":""}\n') + 64
_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,39}")
_MEMBERS = ["n", "prev", "at", "kind", "fields", "hash"]


class Entry(NamedTuple):
    """One line: `n` is its number in the log, `line` its number in `file`, `fields` the recorded values."""

    n: int
    prev: str
    at: datetime
    kind: str
    fields: dict[str, Any]
    hash: str
    file: str = ""
    line: int = 0


class NotALine(ValueError):
    """The bytes are no line of an audit file, or not the line that was written; the text says why."""


def is_kind(kind: object) -> bool:
    """Return True if `kind` is a valid kind of line."""
    return isinstance(kind, str) and _KIND.fullmatch(kind) is not None


def seal(n: int, prev: str, at: str, kind: str, fields: str) -> tuple[bytes, str]:
    """Return the line with these JSON `fields`, and its hash. Fields that are too long are cut, see `fit`."""
    if len(fields) > MAX_FIELDS_BYTES:
        fields = fit(fields, MAX_FIELDS_BYTES)
    body = f'{{"n":{n},"prev":"{prev}","at":"{at}","kind":"{kind}","fields":{fields}'.encode("ascii")
    digest = sha256(body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body, digest.encode("ascii")), digest


def unseal(raw: bytes, file: str = "", line: int = 0) -> Entry:
    """Return the entry of one whole line. Raises `NotALine` unless `seal` wrote exactly these bytes."""
    tail = _TAIL.fullmatch(raw[-_TAIL_BYTES:])
    if tail is None:
        raise NotALine("it doesn't end in a hash, so it is no whole line of an audit log")
    if sha256(raw[:-_TAIL_BYTES]).hexdigest().encode("ascii") != tail[1]:
        raise NotALine("its hash isn't that of its bytes: they were changed or damaged")
    try:
        members = json.loads(raw)
        if list(members) != _MEMBERS or not is_kind(members["kind"]) or not isinstance(members["fields"], dict):
            raise NotALine("its members aren't those of an audit log's line")
        if not isinstance(members["n"], int) or not isinstance(members["prev"], str):
            raise NotALine("its number or its link to the line before isn't one")
        at = checked_time(datetime.fromisoformat(members["at"]))
    except NotALine:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise NotALine(f"it can't be read: {printable(str(error), 200)}") from None
    return Entry(members["n"], members["prev"], at, members["kind"], members["fields"], members["hash"], file, line)


def checked_time(at: datetime) -> datetime:
    """Return `at` in UTC. Raises `ValueError` if it has no zone, or lies outside the years that tables can hold."""
    if at.tzinfo is None or not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ValueError("a time without a zone, or not of these centuries")
    return at.astimezone(UTC)


# ---------------------------------------------------------------------- fields


def to_json(fields: Mapping[str, Any]) -> str:
    """Return `fields` as JSON in ASCII, whatever they contain. Raises nothing."""
    try:
        return _encoder.encode(fields)
    except Exception:  # NaN, an int of too many digits, a list in itself, an object that raises
        return _encoder.encode(_plain(fields, 0))


def digest_of(data: bytes | str) -> str:
    """Return `sha256:` and the hex digest."""
    return f"sha256:{sha256(data.encode('utf-8', 'surrogatepass') if isinstance(data, str) else data).hexdigest()}"


def fit(fields: str, most: int) -> str:
    """Shorten JSON fields to `most` bytes: replace the largest members by their size and digest.

    `truncated` names them. A member with a digest of its own keeps it. If cutting a few large members isn't enough,
    only the size and digest of all fields are left.
    """
    members = json.loads(fields)
    sizes = {name: len(_encoder.encode(value)) for name, value in members.items()}
    cut: list[str] = []
    for name in sorted(sizes, key=lambda name: -sizes[name])[:_MOST_CUT]:
        value = members[name]
        own = value.get("sha256") if isinstance(value, dict) else None
        members[name] = {"bytes": sizes[name], "sha256": own or digest_of(_encoder.encode(value))}
        cut.append(name)
        shorter = _encoder.encode(members | {"truncated": cut})
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
        except Exception:  # an object that raises when it is read
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
    """Return a JSON value for an object that JSON doesn't know."""
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
    """Return the names of an entry's plugins: its own, or those of a message's hooks."""
    fields = entry.fields
    hooks = fields.get("hooks")
    asked = [hook.get("hook") for hook in hooks if isinstance(hook, dict)] if isinstance(hooks, list) else []
    names = [fields.get("plugin"), fields.get("hook") if entry.kind == "hook" else None, *asked]
    return [name for name in names if isinstance(name, str)]


def verdict_of(entry: Entry) -> str:
    """Return a run's verdict, a hook's outcome, or `allowed` or `denied` for a message; else an empty text."""
    fields = entry.fields
    verdict = fields.get("verdict", fields.get("outcome"))
    if verdict is None and isinstance(fields.get("allowed"), bool):
        verdict = "allowed" if fields["allowed"] else f"denied:{fields.get('denied_by') or ''}".rstrip(":")
    return verdict if isinstance(verdict, str) else ""
