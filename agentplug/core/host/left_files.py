"""The files that a worker leaves in its scratch directory: listed and read after a call (host).

Names and contents are the plugin's, and it may change them meanwhile. So no link is followed, only regular files are
opened, and what is listed and read is bounded. A scratch directory that nobody has used costs one stat(2) a call.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from agentplug.contract.record import LeftFile

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.layout import Pace

MOST_FILES = 1_000
MOST_READ_BYTES = 1 << 24
"""So much is read of all files together, for their digests."""
MOST_CONTENT_BYTES = 1 << 22
"""So much of that is kept with a run."""
_MOST_DEPTH = 16
_PIECE_BYTES = 1 << 18
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Entry(NamedTuple):
    path: str
    name: str
    folder: int  # the descriptor of its folder
    status: os.stat_result


class LeftFiles:
    """The files below `root`, a scratch directory that no plugin has used yet."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._used = False
        self._seen: dict[str, tuple[tuple[int, ...], LeftFile]] = {}
        self._made_ns = -1
        with contextlib.suppress(OSError):
            os.utime(root, ns=(0, 0))  # what is made in it sets another time
            self._made_ns = os.stat(root).st_ctime_ns  # which the plugin can't set

    @property
    def are_possible(self) -> bool:
        """True if something was made in the directory."""
        if not self._used:
            try:
                status = os.stat(self._root)
            except OSError:
                return False  # its worker has ended
            self._used = status.st_mtime_ns != 0 or status.st_ctime_ns != self._made_ns
        return self._used

    def list(self, pace: Pace) -> tuple[LeftFile, ...]:
        """Return the files that are there now, by path. Files that haven't changed aren't read again."""
        files: dict[str, tuple[tuple[int, ...], LeftFile]] = {}
        to_read, to_keep = MOST_READ_BYTES, MOST_CONTENT_BYTES
        with contextlib.suppress(OSError):
            root = os.open(self._root, _FOLDER)
            try:
                for entry in _entries(root, "", 0):
                    pace.pause()
                    status = entry.status
                    mark = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
                    before = self._seen.get(entry.path)
                    if before is None or before[0] != mark:
                        before = mark, _read(entry, to_read, to_keep, pace)
                    file = before[1]
                    to_read -= file.size_bytes if file.digest else 0
                    to_keep -= len(file.content or b"")
                    files[entry.path] = before
                    if len(files) >= MOST_FILES:
                        break
            finally:
                os.close(root)
        self._seen = files
        return tuple(file for _, (_, file) in sorted(files.items()))


def _entries(folder: int, prefix: str, depth: int) -> Iterator[_Entry]:
    """Yield the regular files below an open folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield _Entry(prefix + entry.name, entry.name, folder, status)
                elif stat.S_ISDIR(status.st_mode) and depth < _MOST_DEPTH:
                    below = os.open(entry.name, _FOLDER, dir_fd=folder)
                    try:
                        yield from _entries(below, f"{prefix}{entry.name}/", depth + 1)
                    finally:
                        os.close(below)
            except OSError:
                continue  # removed meanwhile, or closed to this user


def _read(entry: _Entry, to_read: int, to_keep: int, pace: Pace) -> LeftFile:
    """Read a file: without its digest if longer than `to_read` bytes, without its content if than `to_keep`."""
    size = entry.status.st_size
    if size > to_read:
        return LeftFile(entry.path, size)
    pieces: list[bytes] = []
    digest, length = hashlib.sha256(), 0
    try:
        file = os.open(entry.name, _FILE, dir_fd=entry.folder)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return LeftFile(entry.path, size)
            while length <= to_read and (piece := os.read(file, _PIECE_BYTES)):
                length += len(piece)
                digest.update(piece)
                if length <= to_keep:
                    pieces.append(piece)
                pace.pause()
        finally:
            os.close(file)
    except OSError:
        return LeftFile(entry.path, size)
    if length > to_read:
        return LeftFile(entry.path, length)  # it has grown meanwhile
    content = b"".join(pieces) if length <= to_keep else None
    return LeftFile(entry.path, length, f"sha256:{digest.hexdigest()}", content)
