"""Reading `agentplug.lock` (host), strictly: a lock that is misread pins nothing.

The schema, version 1. All values are strings; digests are `sha256:` and 64 hex digits.

    version = 1
    [plugins.KEY]            KEY: the name, as package indices compare names
    name, version            the plugin's own name and version
    specifier                the versions that `agentplug lock --upgrade` may choose; "" for any
    spec                     its origin: a path from the lock's folder, NOTEBOOK.ipynb#CELL, a module, an entry point
    kind                     file, cell, tree or distribution
    entry                    MODULE or MODULE:Class
    digest                   over all code that runs
    distribution, record     (distribution) its name, and the digest of its RECORD
    python, platform         (distribution) the tags that the closure was made for, as in cp311 and linux_x86_64
    [plugins.KEY.hooks]      the hooks that it asks for: POINT = KIND
    [plugins.KEY.asks]       the rights that it asks for: fields of a policy
    [plugins.KEY.rights]     the rights that it may be granted; a policy that grants more is refused
    [plugins.KEY.files]      (file, tree, distribution) "PATH" = DIGEST, of each file
    [plugins.KEY.closure]    (distribution) NAME = "VERSION DIGEST", with the digest of its RECORD
    [plugins.KEY.origin]     (distribution) its origin from a PEP 751 file: hashes, attestations
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from agentplug.contract.regular_file import leads_nowhere, read_regular
from agentplug.contract.text import printable
from agentplug.core.sources.names import near_match, quoted, quoted_path
from agentplug.errors import PinMismatch, PolicyError, SpecError
from agentplug.manager.pins.pin import (
    KINDS,
    RIGHTS,
    Pin,
    canonical,
    checked_right,
    checked_specifier,
    upgrade_command,
)
from agentplug.manager.pins.toml_shape import OddShape, check_shape

SCHEMA = 1
NAME = "agentplug.lock"
MAX_LOCK_BYTES = 16 << 20
_MAX_ENTRIES = 100_000
"""The most entries of a lock; twenty times the files of a large package. A parser takes seconds for them."""

TEXTS = (
    *("name", "version", "specifier", "spec", "kind", "entry", "digest"),
    *("distribution", "record", "python", "platform"),
)
TABLES = ("hooks", "asks", "rights", "files", "closure", "origin")
_ALWAYS = ("name", "spec", "kind", "entry", "digest")
NEEDED = {
    "file": (*_ALWAYS, "files"),
    "cell": _ALWAYS,
    "tree": (*_ALWAYS, "files"),
    "distribution": (*_ALWAYS, "distribution", "record", "python", "platform", "files"),
}
assert {*TEXTS, *TABLES} == {field.name for field in fields(Pin)}

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NEWER = re.compile(r"\s*(?:#[^\n]*\n\s*)*version *= *(\d{1,9})\s")
_MERGE = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")
_CLOSED = re.compile(r"\S+ sha256:[0-9a-f]{64}")


class LockError(PinMismatch):
    """The lock can't be used: it is damaged, of a newer schema, or missing. Then nothing counts as pinned."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock. `home` is its folder, to which its paths are relative."""

    path: str
    home: str
    text: str
    pins: Mapping[str, Pin]


def lock_path(path: object) -> str:
    """Return the absolute path of the lock, links resolved. Raises `SpecError` if `path` is none, and `LockError` for
    a link to nothing."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise SpecError(f"lock is a {type(path).__name__}; write the path of a file, like '{NAME}'")
    written = os.path.expanduser(os.fsdecode(path))
    if os.path.isdir(written):
        written = os.path.join(written, NAME)
    if leads_nowhere(written):
        fact = f"is a link to {quoted_path(os.readlink(written))}, which isn't there"
        raise LockError(f"{quoted_path(written)} {fact}; remove the link, or make that file")
    return os.path.realpath(written)


def read_lock(path: object, *, missing_ok: bool = False) -> Lock:
    """Read the lock at `path`, a file or a folder with `agentplug.lock`. Raises `LockError` with line and remedy."""
    place = lock_path(path)
    try:
        data = read_regular(place, MAX_LOCK_BYTES)
    except FileNotFoundError:
        if missing_ok:
            return Lock(place, os.path.dirname(place), "", {})
        raise LockError(f"there is no lock {quoted_path(place)}; make it with: agentplug lock SPEC") from None
    except OSError as error:
        raise LockError(
            f"{quoted_path(place)} can't be read ({error.strerror}); check it is a file of yours"
        ) from None
    if len(data) > MAX_LOCK_BYTES:
        fact = f"is over {MAX_LOCK_BYTES >> 20} MiB, the most that is read"
        raise LockError(f"{quoted_path(place)} {fact}; restore it from version control")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LockError(f"{_at(place, line)}: it isn't UTF-8; {_RESTORE}") from None
    return Lock(place, os.path.dirname(place), text, parse_lock(text, place))


def parse_lock(text: str, place: str) -> dict[str, Pin]:
    """Parse the pins in `text`, by key. Raises `LockError`."""
    if not text.strip():
        raise LockError(f"{quoted_path(place)} is empty; {_RESTORE}")
    if text.startswith("\ufeff"):
        raise LockError(f"{_at(place, 1)}: it begins with a byte order mark; save it as UTF-8 without one")
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(_MERGE):
            raise LockError(
                f"{_at(place, number)}: a merge wasn't finished; keep one side, then: agentplug lock --check"
            )
    try:
        check_shape(text, _MAX_ENTRIES, dotted=False)
        document = tomllib.loads(text)
    except OddShape as error:
        raise LockError(f"{_at(place, error.line)}: {error}; {_RESTORE}") from None
    except (ValueError, RecursionError) as error:
        newer = _NEWER.match(text)
        if newer is not None and int(newer[1]) > SCHEMA:  # say that first: its syntax may be newer too
            _Reading(text, place).pins({"version": int(newer[1])})
        numbered = re.search(r"at line (\d+)", str(error))
        at = int(numbered[1]) if numbered else len(text.splitlines())
        what = str(error).partition(" (at ")[0]
        cut = " it may be cut off;" if "at end of document" in str(error) else ""
        twice = " it stands there twice;" if "twice" in what or "overwrite" in what else ""
        twice = " two plugins have one name;" if re.search(r"\('plugins', [^,]+\) twice", what) else twice
        raise LockError(f"{_at(place, at)}: {printable(what, 200)};{cut}{twice} {_RESTORE}") from None
    return _Reading(text, place).pins(document)


_RESTORE = "restore it from version control, or pin the plugins anew: agentplug lock SPEC"


def _at(place: str, line: int) -> str:
    return f"{quoted_path(place)}, line {line}"


class _Reading:
    """The checks of one lock's document. Each error names its line."""

    def __init__(self, text: str, place: str) -> None:
        self._text = text
        self._place = place

    def pins(self, document: dict[str, Any]) -> dict[str, Pin]:
        version = document.get("version")
        if version is None or isinstance(version, bool) or not isinstance(version, int):
            raise self._error(("version",), f"it has no schema `version = {SCHEMA}`", _RESTORE)
        if version > SCHEMA:
            raise self._error(
                ("version",), f"its schema is {version}, and this agentplug reads {SCHEMA}", "upgrade agentplug"
            )
        if version < SCHEMA:
            raise self._error(("version",), f"there is no schema {version}, the first is {SCHEMA}", _RESTORE)
        self._refuse_unknown((), document, ("version", "plugins"))
        plugins = document.get("plugins", {})
        if not isinstance(plugins, dict):
            raise self._error(("plugins",), "plugins is no table", "write [plugins.NAME]")
        pins = {key: self._pin(key, values) for key, values in plugins.items()}
        by_spec: dict[str, str] = {}
        for key, pin in pins.items():  # a merge may leave two pins of one spec
            if (other := by_spec.setdefault(pin.spec, key)) != key:
                fact = f"{quoted(pin.spec)} is pinned twice, as {quoted(other)} and as {quoted(key)}"
                raise self._error(("plugins", key), fact, "remove the one that is old, then: agentplug lock --check")
        return pins

    def _pin(self, key: str, values: object) -> Pin:
        path = ("plugins", key)
        if not isinstance(values, dict):
            raise self._error(path, f"{quoted(key)} is no table", f"write [plugins.{printable(key, 100)}]")
        self._refuse_unknown(path, values, (*TEXTS, *TABLES))
        for name in TEXTS:
            if not isinstance(values.get(name, ""), str):
                raise self._error((*path, name), f"{name} is no text", "put it in quotes")
        kind = values.get("kind", "")
        if kind not in KINDS:
            raise self._error((*path, "kind"), f"kind {quoted(kind)} is none of {', '.join(KINDS)}", _again(key))
        for name in NEEDED[kind]:
            if not values.get(name):
                raise self._error(path, f"a {kind} needs {quoted(name)}, which is missing or empty", _again(key))
        if canonical(values["name"]) != key:
            raise self._error(
                path, f"{quoted(values['name'])} belongs under {quoted(canonical(values['name']))}", _again(key)
            )
        for name in TABLES:
            self._check_table((*path, name), values.get(name, {}))
        for name in ("digest", "record"):
            if values.get(name) and not _DIGEST.fullmatch(values[name]):
                raise self._error((*path, name), f"{quoted(values[name])} is no digest", _again(key))
        try:
            values["specifier"] = checked_specifier(values.get("specifier", ""))
        except SpecError as error:
            raise self._error(
                (*path, "specifier"), str(error).partition(";")[0], "write one like '>=1.2,<2'"
            ) from None
        return Pin(**values)

    def _check_table(self, path: tuple[str, ...], table: object) -> None:
        name, key = path[-1], path[1]
        if not isinstance(table, dict):
            raise self._error(path, f"{name} is no table", _again(key))
        for entry, value in table.items():
            at = (*path, entry)
            if name in ("asks", "rights"):
                if entry not in RIGHTS:
                    hint = near_match(entry, RIGHTS) or f"; the rights are {', '.join(RIGHTS)}"
                    raise self._error(at, f"{quoted(entry)} is no right{hint}", _again(key))
                try:
                    checked_right(entry, value)
                except PolicyError as error:
                    raise self._error(at, f"{entry} has a value that no right has ({error})", _again(key)) from None
            elif not isinstance(value, str):
                raise self._error(at, f"{quoted(entry)} is no text", _again(key))
            elif name == "files" and not _DIGEST.fullmatch(value):
                raise self._error(at, f"{quoted(value)} is no digest", _again(key))
            elif name == "closure" and not _CLOSED.fullmatch(value):
                raise self._error(at, f"{quoted(value)} is no version and digest", _again(key))

    def _refuse_unknown(self, path: tuple[str, ...], values: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in values:
            if name not in known:
                hint = near_match(name, known) or "; was this lock made by a newer agentplug?"
                raise self._error((*path, name), f"there is no entry {quoted(name)}{hint}", "correct it by hand")

    def _error(self, path: tuple[str, ...], fact: str, remedy: str) -> LockError:
        end = "" if fact.endswith("?") else "."
        return LockError(f"{_at(self._place, line_of(self._text, path))}: {fact}{end} Remedy: {remedy}")


def _again(key: str) -> str:
    return f"undo the edit, or pin it anew: {upgrade_command(key)}"


def line_of(text: str, path: tuple[str, ...]) -> int:
    """Return the line of the entry or table at `path`, or of the nearest table around it; else 1."""
    table: tuple[str, ...] = ()
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        here = line.strip()
        try:
            keys = _path_of(tomllib.loads(here)) if here and here[0] not in "#]" else ()
        except (tomllib.TOMLDecodeError, RecursionError):
            continue  # a part of a value that spans several lines
        if here.startswith("["):
            table = keys
        whole = table if here.startswith("[") else (*table, *keys)
        if whole == path:
            return number
        if keys and len(whole) < len(path) and whole == path[: len(whole)] and len(whole) > depth:
            best, depth = number, len(whole)
    return best


def _path_of(values: object) -> tuple[str, ...]:
    path: tuple[str, ...] = ()
    while isinstance(values, dict) and len(values) == 1:
        (key, values) = next(iter(values.items()))
        path = (*path, key)
    return path
