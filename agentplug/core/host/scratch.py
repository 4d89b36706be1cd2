"""Measure a worker's scratch directory from outside the worker (host).

A count is done in pieces: however many files or maps a worker makes, other workers' checks don't wait for them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Generator, Sequence

from agentplug.core.host.kernel_buffers import passes_descriptors
from agentplug.core.host.readings import folder_of

_MOST_NS = 50_000_000
_MAPS_BYTES = 1 << 16
_FOLDER_BYTES = 1 << 12


class ScratchCount:
    """One count of bytes and files below `root` and in deleted files that these processes use, up to the bounds.

    Each name of a file counts as a file: names take room too, in folders, whose own size differs by file system.
    What can't be counted counts as too much: a folder that can't be listed (its path is too long, or it may not be
    read), a deleted file that is mapped but not open, descriptors in transit between sockets. A file may count twice
    if it gets another name meanwhile.
    `root` may lead through a descriptor; `path` is the one that the kernel shows for it in maps.
    """

    def __init__(self, root: str, pids: Sequence[int], most_bytes: int, most_inodes: int, path: str = "") -> None:
        self._root, self._path = root, path or root
        self._most_bytes, self._most_inodes = most_bytes, most_inodes
        self._used = self._names = 0
        self._seen: set[int] = set()
        self._steps = self._count(pids)

    def go_on(self, for_ns: int) -> bool:
        """Go on counting for `for_ns` at least. Return true if the count is complete, or over a bound."""
        until_ns = time.perf_counter_ns() + for_ns
        for step, _ in enumerate(self._steps):
            if self._used > self._most_bytes or self._names > self._most_inodes:
                break
            if step % 16 == 15 and time.perf_counter_ns() > until_ns:
                return False
        self._steps.close()
        return True

    @property
    def use(self) -> tuple[int, int]:
        """Bytes and files that were counted so far."""
        return self._used, self._names

    def close(self) -> None:
        """Stop counting."""
        self._steps.close()

    def _add(self, inode: int, size: int) -> None:
        if inode not in self._seen:
            self._seen.add(inode)
            self._names += 1
            self._used += size

    def _count(self, pids: Sequence[int]) -> Generator[None]:
        """Count, a small step at a time."""
        folders = [self._root]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        status = entry.stat(follow_symlinks=False)
                        is_folder = stat.S_ISDIR(status.st_mode)
                        self._names += status.st_ino in self._seen  # another name of a file
                        size = status.st_blocks * 512
                        # Some file systems give a folder a block, others none; the number of folders is bounded. One
                        # that held many names stays as large.
                        self._add(status.st_ino, max(0, size - _FOLDER_BYTES) if is_folder else size)
                        if is_folder:
                            folders.append(entry.path)
                        yield
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed meanwhile
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    break  # the host's descriptors ran out: not the plugin's fault
                self._names = self._most_inodes + 1
                yield
        for pid in pids:
            folder = folder_of(pid)
            with contextlib.suppress(OSError):
                yield from self._count_open(f"{folder}/fd")
            with contextlib.suppress(OSError):
                yield from self._count_mapped(f"{folder}/maps")

    def _count_open(self, folder: str) -> Generator[None]:
        """Count the deleted files that a process has open, but no memory files: only the host can have made them."""
        for fd in os.listdir(folder):
            with contextlib.suppress(OSError):
                status = os.stat(f"{folder}/{fd}")
                if stat.S_ISSOCK(status.st_mode) and passes_descriptors(f"{folder}info/{fd}"):
                    self._names = self._most_inodes + 1
                is_deleted = stat.S_ISREG(status.st_mode) and not status.st_nlink
                if is_deleted and not os.readlink(f"{folder}/{fd}").startswith("/memfd:"):
                    self._add(status.st_ino, status.st_blocks * 512)
            yield

    def _count_mapped(self, path: str) -> Generator[None]:
        """Count the deleted files that a process has mapped."""
        inside, deleted, rest = os.fsencode(f" {self._path}/"), b" (deleted)", b""
        with open(path, "rb", buffering=0) as maps:
            while text := maps.read(_MAPS_BYTES):
                lines, newline, rest = (rest + text).rpartition(b"\n")
                if deleted in lines:
                    for line in lines.split(newline):
                        if line.endswith(deleted) and inside in line:
                            self._add(int(line.split(None, 5)[4]), self._most_bytes + 1)
                yield


def scratch_usage(
    root: str, pids: Sequence[int], most_bytes: int, most_inodes: int, path: str = ""
) -> tuple[int, int]:
    """Count at once, see `ScratchCount`. What can't be counted within 50 ms counts as too much."""
    count = ScratchCount(root, pids, most_bytes, most_inodes, path)
    complete = count.go_on(_MOST_NS)
    count.close()
    used, inodes = count.use
    return used, inodes if complete else most_inodes + 1


def room_used(root: str) -> tuple[int, int]:
    """Return bytes and inodes in use on the file system mounted at `root`. Raises `OSError`."""
    room = os.statvfs(root)
    return (room.f_blocks - room.f_bfree) * room.f_frsize, room.f_files - room.f_ffree - 1
