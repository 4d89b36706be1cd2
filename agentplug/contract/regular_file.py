"""Files in places where a plugin may write too (host).

What is there may be a pipe, a terminal or a device, which keeps its reader waiting or has no end; or a link, through
which the host would write to a file that the plugin can't reach.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path


def read_regular(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """Return the bytes of a regular file, or `most_bytes` + 1 of it. Raises `OSError`, also for other files."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read(most_bytes + 1)


def leads_nowhere(path: str) -> bool:
    """True for a link to what isn't there: to make a file by this name would make it there."""
    return os.path.islink(path) and not os.path.exists(path)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` for a new file, which takes its place if the block ends well. A link gives way to
    the file, and is not followed. Raises `OSError`."""
    new = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
    try:
        yield new
        os.replace(new, target)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new)
