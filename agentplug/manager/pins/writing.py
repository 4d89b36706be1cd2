"""Writing `agentplug.lock` (host): in one order, comments kept, whole or not at all.

Every entry has a line of its own and plugins stand in the order of their names, so that two branches which pin
different plugins merge. Writers take turns by a lock on the folder, flock(2), and each replaces the file in one
step, rename(2): whoever reads sees the old lock or the new one, and what an interrupted writer leaves is a temporary
file that the next one removes.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tomlkit
from tomlkit.items import Array, Comment, Item, Table

from agentplug.core.sources.names import quoted_path
from agentplug.errors import PinMismatch
from agentplug.manager.pins.lockfile import SCHEMA, TABLES, TEXTS, Lock, LockError, parse_lock, read_lock
from agentplug.manager.pins.pin import Pin

_HEADER = (
    "# What may run, pinned by its bytes. Written by `agentplug lock`; keep it under version control.",
    "# Check it with `agentplug lock --check`; comments stay where they are.",
)
_INNER = re.compile(r"""(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[^"'#])+|(#[^\n]*)""")
Path = tuple[str, ...]


class _Notes:
    """The comments of a lock, each held by the entry or table that comes after it, or that it stands behind."""

    def __init__(self, text: str) -> None:
        self.above: dict[Path, list[str]] = {}
        self.beside: dict[Path, str] = {}
        self._waiting: list[str] = []
        if text.strip():
            self._walk((), tomlkit.parse(text).body)
        self.end = self._waiting

    def _walk(self, path: Path, body: Any) -> None:
        for key, item in body:
            if key is None:
                if isinstance(item, Comment):
                    self._waiting.append(item.as_string().strip())
                continue
            here = (*path, *(part.key for part in getattr(key, "_keys", None) or (key,)))
            if isinstance(item, Table) and item.is_super_table():
                self._walk(here, item.value.body)
                continue
            if isinstance(item, Array):  # written over several lines, by hand; it goes into one
                self._waiting += [found.strip() for found in _INNER.findall(item.as_string()) if found]
            if self._waiting:
                self.above[here], self._waiting = self._waiting, []
            if isinstance(item, Item) and item.trivia.comment:
                self.beside[here] = item.trivia.comment
            if isinstance(item, Table):
                self._walk(here, item.value.body)


def rendered(pins: Mapping[str, Pin], before: str = "") -> str:
    """The lock of `pins`, with the comments of the lock `before`; those on an entry that is gone go to the end."""
    notes = _Notes(before)
    lines: list[str] = [] if before.strip() else list(_HEADER)
    used: set[Path] = set()

    def put(path: Path, line: str) -> None:
        used.add(path)
        lines.extend(notes.above.get(path, ()))
        beside = notes.beside.get(path)
        lines.append(f"{line} {beside}" if beside else line)

    put(("version",), f"version = {SCHEMA}")
    for key in sorted(pins):
        pin, path = pins[key], ("plugins", key)
        lines.append("")
        put(path, f"[plugins.{_key(key)}]")
        for name in TEXTS:
            if value := getattr(pin, name):
                put((*path, name), f"{name} = {_text(value)}")
        for name in TABLES:
            table = getattr(pin, name)
            if table or name == "rights":
                put((*path, name), f"[plugins.{_key(key)}.{name}]")
                for entry in sorted(table):
                    put((*path, name, entry), f"{_key(entry)} = {_text(table[entry])}")
    gone = [text for path, texts in notes.above.items() if path not in used for text in texts]
    gone += [text for path, text in notes.beside.items() if path not in used]
    lines += [*gone, *notes.end]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key) else _text(key)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_text(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(tomlkit.item(value).as_string())


def update_lock(path: object, change: Callable[[dict[str, Pin]], None]) -> Lock:
    """Read the lock, let `change` alter its pins, and write it: nobody else writes meanwhile.

    Nothing is written if `change` raises or alters nothing. Raises `LockError`, also where the folder can't be
    written to.
    """
    place = read_lock(path, missing_ok=True).path
    with _turn(os.path.dirname(place)):
        before = read_lock(place, missing_ok=True)
        pins = dict(before.pins)
        change(pins)
        if pins == dict(before.pins) and before.text:
            return before
        text = rendered(pins, before.text)
        if parse_lock(text, place) != pins:
            raise PinMismatch(f"{quoted_path(place)} wasn't written: it would not be read back as it is meant")
        _replace(place, text)
        return Lock(place, before.home, text, pins)


@contextlib.contextmanager
def _turn(folder: str) -> Iterator[None]:
    import fcntl  # other systems lack it

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LockError(f"there is no folder {quoted_path(folder)} for a lock ({error.strerror}); make it") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(place: str, text: str) -> None:
    folder, name = os.path.split(place)
    for left in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}.*.new")):  # of a killed writer
        with contextlib.suppress(OSError):
            os.unlink(left)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".new", dir=folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                os.fchmod(file.fileno(), _mode(place))
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise LockError(
            f"{quoted_path(place)} can't be written ({error.strerror}); check the folder's rights"
        ) from None


def _mode(place: str) -> int:
    try:
        return os.stat(place).st_mode & 0o777
    except OSError:
        return 0o644
