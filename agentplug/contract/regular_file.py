"""Files that somebody else may have put where they are (host): read only if they are regular ones.

A name may lead to a pipe, a terminal or a device, which keeps its reader waiting or has no end.
"""

from __future__ import annotations

import errno
import os
import stat


def read_regular(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """Return the bytes of a regular file, or `most_bytes` + 1 of it. Raises `OSError`, also for other files."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read(most_bytes + 1)
