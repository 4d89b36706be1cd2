"""What a worker keeps in its scratch directory, counted from outside (host)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence


def scratch_usage(root: str, pids: Sequence[int], most_bytes: int, most_inodes: int) -> tuple[int, int]:
    """Bytes and inodes below `root` and in deleted files that these processes hold; stops past the bounds.

    What can't be counted counts as too much: a folder that can't be listed (a path too long, no right to read), a
    deleted file that is mapped but not open.
    """
    used = 0
    seen: set[int] = set()
    folders = [root]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    is_folder = stat.S_ISDIR(found.st_mode)
                    if found.st_ino not in seen:
                        seen.add(found.st_ino)
                        # Some file systems give a folder a block, others none; their number is bounded anyway.
                        used += 0 if is_folder else found.st_blocks * 512
                    if is_folder:
                        folders.append(entry.path)
                    if len(seen) > most_inodes:
                        return used, len(seen)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed meanwhile
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                break  # the host's own trouble, and no fault of the plugin's
            return used, most_inodes + 1
    for pid in pids:
        for inode, size in _held_by(pid, root):
            if inode not in seen:
                seen.add(inode)
                used += most_bytes + 1 if size is None else size
    return used, len(seen)


def room_used(root: str) -> tuple[int, int]:
    """Bytes and inodes in use on the file system of its own that is mounted at `root`. Raises `OSError`."""
    room = os.statvfs(root)
    return (room.f_blocks - room.f_bfree) * room.f_frsize, room.f_files - room.f_ffree - 1


def _held_by(pid: int, root: str) -> Iterator[tuple[int, int | None]]:
    """Inode and bytes of each deleted file that a process has open or mapped; None where only a map is left.

    Memory files are on no disk: what the host gave it, for a worker can't make any, memfd_create(2).
    """
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found = os.stat(f"/proc/{pid}/fd/{fd}")
                if not stat.S_ISREG(found.st_mode) or found.st_nlink:
                    continue
                if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:"):
                    yield found.st_ino, found.st_blocks * 512
    inside, deleted = os.fsencode(f" {root}/"), b" (deleted)\n"
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb") as maps:
        for line in maps:
            if line.endswith(deleted) and inside in line:
                yield int(line.split(None, 5)[4]), None
