"""Writing `agentplug.lock` (host): in a fixed order, with its comments, atomically.

Each entry has its own line and plugins are sorted by name, so that branches which pin different plugins merge.
Writers lock the folder, flock(2), and replace the file by rename(2): readers see the old lock or the new one. An
interrupted writer leaves a temporary file, which the next one removes.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import tempfile
import time
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
_PATIENCE_S = 10.0
Path = tuple[str, ...]


class _Comments:
    """The comments of a lock: those above an entry or table, and those beside one."""

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
            if isinstance(item, Array):  # edited by hand over several lines: the comments in it move above it
                self._waiting += [comment.strip() for comment in _INNER.findall(item.as_string()) if comment]
            if self._waiting:
                self.above[here], self._waiting = self._waiting, []
            if isinstance(item, Item) and item.trivia.comment:
                self.beside[here] = item.trivia.comment
            if isinstance(item, Table):
                self._walk(here, item.value.body)


def rendered(pins: Mapping[str, Pin], before: str = "") -> str:
    """Render the lock of `pins`, with the comments of the lock `before`; those of removed entries go to the end."""
    comments = _Comments(before)
    lines: list[str] = [] if before.strip() else list(_HEADER)
    used: set[Path] = set()

    def put(path: Path, line: str) -> None:
        used.add(path)
        lines.extend(comments.above.get(path, ()))
        beside = comments.beside.get(path)
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
    gone = [text for path, texts in comments.above.items() if path not in used for text in texts]
    gone += [text for path, text in comments.beside.items() if path not in used]
    lines += [*gone, *comments.end]
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
    """Read the lock, let `change` alter its pins, and write it, while no other writer can.

    Nothing is written if `change` raises or alters nothing. Raises `LockError`, also if the folder isn't writable.
    """
    place = read_lock(path, missing_ok=True).path
    with _locked(os.path.dirname(place)):
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
def _locked(folder: str) -> Iterator[None]:
    import fcntl  # missing on other systems

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LockError(f"there is no folder {quoted_path(folder)} for a lock ({error.strerror}); make it") from None
    try:
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # a plugin that may read the folder may hold a lock on it for as long as it lives
                if time.monotonic() > until_s:
                    raise LockError(
                        f"{quoted_path(folder)} has been locked by another process for {_PATIENCE_S:g} s; let it "
                        "end, or close the plugin that may read or write this folder"
                    ) from None
            time.sleep(0.02)
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
