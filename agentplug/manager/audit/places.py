"""The files of an audit log (host): the current one, the full parts beside it, and the writer's lock.

The newest lines are in `audit.jsonl`; full parts are `audit.jsonl.1`, `.2`, … in the order of writing. The lock is
flock(2) on `audit.jsonl.lock`, since it has to outlive a rotation. That empty file is never removed: otherwise two
writers could each lock a file of this name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from agentplug.contract.regular_file import leads_nowhere
from agentplug.contract.text import printable
from agentplug.errors import AuditError
from agentplug.manager.audit.lines import MAX_LINE_BYTES


def path_text(path: str) -> str:
    """Return a path as harmless text for a message."""
    return printable(path, 300)


def place(path: object) -> str:
    """Return the real path of a log. Raises `AuditError` if `path` is none."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or "\0" in os.fsdecode(path):
        raise AuditError(f"{printable(repr(path), 200)} is no path for an audit log; write one like 'audit.jsonl'")
    if leads_nowhere(written := os.path.expanduser(os.fsdecode(path))):
        fact = f"is a link to {path_text(os.readlink(written))}, which isn't there"
        raise AuditError(f"{path_text(written)} {fact}; remove the link, or make that file")
    return os.path.realpath(written)


def parts_of(path: str) -> list[tuple[int, str]]:
    """List the numbers and paths of the full parts beside `path`, oldest first."""
    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    numbers = (other.removeprefix(f"{name}.") for other in names if other.startswith(f"{name}."))
    return [(part, f"{path}.{part}") for part in sorted(int(n) for n in numbers if _is_part(n))]


def _is_part(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and not text.startswith("0")


def take_lock(path: str) -> int:
    """Lock `path` and return the lock's descriptor. Raises `AuditError` if another writer has the lock."""
    try:
        import fcntl  # missing on Windows, where only the sandbox and this log don't work
    except ImportError:
        raise AuditError("An audit log needs flock(2), which this system lacks; keep it on Linux or macOS") from None
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise unusable(path, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise unusable(path, error) from None
        raise AuditError(
            f"{path_text(path)} is being written by another audit log, here or in another process; close that one, "
            "or write another file"
        ) from None
    return lock


def release_lock(lock: int) -> None:
    """Release the lock, even if a fork of this process has a copy of the descriptor."""
    import fcntl

    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def open_to_write(path: str, *, new: bool = False) -> int:
    """Open `path` for writing; a new file is readable by its owner alone. Raises `AuditError`."""
    return _open(path, os.O_RDWR | os.O_CREAT | (os.O_EXCL if new else 0), "; an audit log needs one")


def open_to_read(path: str) -> int:
    """Open `path` for reading. Raises `AuditError`."""
    return _open(path, os.O_RDONLY, ", so no audit log either")


def _open(path: str, flags: int, otherwise: str) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise unusable(path, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AuditError(f"{path_text(path)} is no regular file{otherwise}")
    return descriptor


def unusable(path: str, error: OSError) -> AuditError:
    """Return an `AuditError` that explains an `OSError`, with a remedy."""
    remedy = {
        errno.ENOENT: "there is no such file or folder; check the path, and make the folder first",
        errno.EACCES: "this user may not; change the file's or folder's mode, or name another place",
        errno.EPERM: "this user may not; change the file's or folder's mode, or name another place",
        errno.EISDIR: "it is a folder; name a file in it",
        errno.ENOTDIR: "a part of the path is no folder",
        errno.EROFS: "the file system is read-only; name another place",
        errno.ENOSPC: "the disk is full; make room",
        errno.EDQUOT: "the quota is used up; make room",
    }.get(error.errno or 0, "check the place")
    return AuditError(f"{path_text(path)} can't be used as an audit log ({error.strerror}): {remedy}")


def last_line(descriptor: int) -> tuple[bytes, int]:
    """Return the last whole line of a file (empty if there is none), and the offset of the bytes after it."""
    end = os.fstat(descriptor).st_size
    start = max(0, end - 2 * MAX_LINE_BYTES)
    tail = os.pread(descriptor, end - start, start)
    after = tail.rfind(b"\n") + 1
    if not after:
        return b"", start
    return tail[tail.rfind(b"\n", 0, after - 1) + 1 : after], start + after


def sync_folder(path: str) -> None:
    """Call fsync on the folder of `path`, so that a new name lasts; do nothing if the file system can't."""
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
