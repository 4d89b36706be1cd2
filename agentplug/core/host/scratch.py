"""Measure a worker's scratch directory from outside the worker (host)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence


def scratch_usage(
    root: str, pids: Sequence[int], most_bytes: int, most_inodes: int, path: str = ""
) -> tuple[int, int]:
    """Count bytes and inodes below `root` and in deleted files that these processes have open, up to the bounds.

    `path` is the one that the kernel shows for `root` in maps, if `root` leads through a descriptor.

    What can't be counted counts as too much: a folder that can't be listed (its path is too long, or it may not be
    read), a deleted file that is mapped but not open.
    """
    used = 0
    seen: set[int] = set()
    folders = [root]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    is_folder = stat.S_ISDIR(status.st_mode)
                    if status.st_ino not in seen:
                        seen.add(status.st_ino)
                        # Some file systems give a folder a block, others none; the number of folders is bounded.
                        used += 0 if is_folder else status.st_blocks * 512
                    if is_folder:
                        folders.append(entry.path)
                    if len(seen) > most_inodes:
                        return used, len(seen)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed meanwhile
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                break  # the host's descriptors ran out: not the plugin's fault
            return used, most_inodes + 1
    for pid in pids:
        for inode, size in _deleted_files(pid, path or root):
            if inode not in seen:
                seen.add(inode)
                used += most_bytes + 1 if size is None else size
    return used, len(seen)


def room_used(root: str) -> tuple[int, int]:
    """Return bytes and inodes in use on the file system mounted at `root`. Raises `OSError`."""
    room = os.statvfs(root)
    return (room.f_blocks - room.f_bfree) * room.f_frsize, room.f_files - room.f_ffree - 1


def _deleted_files(pid: int, root: str) -> Iterator[tuple[int, int | None]]:
    """Yield inode and bytes of each deleted file that a process has open or mapped; None for bytes if only mapped.

    Memory files are skipped: they are on no disk, and only the host can have made them.
    """
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{fd}")
                if not stat.S_ISREG(status.st_mode) or status.st_nlink:
                    continue
                if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:"):
                    yield status.st_ino, status.st_blocks * 512
    inside, deleted = os.fsencode(f" {root}/"), b" (deleted)\n"
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb") as maps:
        for line in maps:
            if line.endswith(deleted) and inside in line:
                yield int(line.split(None, 5)[4]), None
