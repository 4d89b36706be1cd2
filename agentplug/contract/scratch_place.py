"""The place of all scratch directories of a user, which no policy may grant (host)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

Identity = tuple[int, int]
"""Device and inode."""


def identity_of(status: os.stat_result) -> Identity:
    """Return the device and inode of a status."""
    return status.st_dev, status.st_ino


def scratch_place() -> str:
    """Return the folder in which all scratch directories of this user are made. Raises `OSError` if there is no
    temporary directory."""
    import tempfile  # many modules, for a policy that grants no path

    return f"{os.path.realpath(tempfile.gettempdir())}/agentplug-{os.geteuid()}"


_used: set[str] = set()


def scratch_places() -> tuple[str, ...]:
    """Return that folder, then others in which this process has scratch directories. Raises `OSError` likewise."""
    return tuple(dict.fromkeys((scratch_place(), *filter(os.path.isdir, _used))))


def remember_place(path: str) -> None:
    """Note a folder in which scratch directories are made: the temporary directory may be another one later."""
    _used.add(path)


def identities_around(path: str) -> set[Identity]:
    """Return the identities of `path` and of the folders around it, as far as they are there."""
    identities = set()
    while True:
        with contextlib.suppress(OSError):
            identities.add(identity_of(os.stat(path)))
        if path == (folder := os.path.dirname(path)):
            return identities
        path = folder


def ways_to(path: str) -> Iterator[str]:
    """Yield `path`, and the paths under which it or a part of it is mounted once more: proc_pid_mountinfo(5)."""
    yield path
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split(" ", 5)[2:5] for line in file]
    except OSError:
        return
    for mount in mounts:
        mount[1:] = [_ESCAPE.sub(_character, word) if "\\" in word else word for word in mount[1:]]
    mine = [mount for mount in mounts if _inside(path, mount[2]) is not None]
    device, root, point = max(mine, key=lambda mount: len(mount[2]), default=("", "/", "/"))
    there = root.rstrip("/") + (_inside(path, point) or "")
    for other, root, point in mounts:
        if other == device and (rest := _inside(there, root)) is not None:
            yield point.rstrip("/") + rest
        elif other == device and _inside(root, there) is not None:
            yield point


def _inside(path: str, folder: str) -> str | None:
    """Return the rest of `path` below `folder`, with its slash, or None if it lies elsewhere."""
    folder = folder.rstrip("/")
    return path[len(folder) :] if path == folder or path.startswith(f"{folder}/") else None


_ESCAPE = re.compile(r"\\([0-7]{3})")


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))
