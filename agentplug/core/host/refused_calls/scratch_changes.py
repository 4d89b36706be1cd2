"""Change modes and times of files in a scratch directory, on behalf of its worker (host): chmod(2), utimensat(2).

No barrier tells files apart for these calls: seccomp sees numbers, and Landlock has no such right. So the filter
suspends them, and the host makes the change, to a file that it has opened itself and seen to lie in the scratch
directory: what the caller alters meanwhile, path or descriptor, changes nothing. All else stays refused.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Callable

from agentplug.core.host.refused_calls.syscall_text import folder_path, memory, text_at

_O_PATH = getattr(os, "O_PATH", 0)
_NOFOLLOW, _EMPTY_PATH = 0x100, 0x1000  # AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH
_HERE = 0xFFFFFF9C  # AT_FDCWD
_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2  # UTIME_NOW, UTIME_OMIT
_PERMISSIONS, _KEPT_OPEN = 0o777, 0o700
_SECOND_NS = 1_000_000_000

Change = Callable[[str, os.stat_result], None]
"""Makes the change to the file at a path of the host's own, whose status is known."""


def change(pid: int, name: str, args: tuple[int, ...], scratch: str, root: str) -> None:
    """Make the change that the call `name` of process `pid` asks for. Raises `OSError` with the error of the call.

    `scratch` is the path of the scratch directory for the worker, `root` one for the host.
    """
    folder, path, flags, act = _request(pid, name, args)
    descriptor = _open(pid, folder, path, flags, scratch, root)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISLNK(status.st_mode):  # a link has no mode, and nobody reads its times
            act(f"/proc/self/fd/{descriptor}", status)
    finally:
        os.close(descriptor)


def _request(pid: int, name: str, args: tuple[int, ...]) -> tuple[int, str, int, Change]:
    """Return a call's folder descriptor, path (empty for the descriptor itself), flags and change."""
    low = [value & 0xFFFFFFFF for value in args]
    match name:
        case "chmod":
            return _HERE, _path(pid, args[0]), 0, _mode(low[1])
        case "fchmod":
            return low[0], "", _EMPTY_PATH, _mode(low[1])
        case "fchmodat" | "fchmodat2":
            return low[0], _path(pid, args[1]), low[3] if name == "fchmodat2" else 0, _mode(low[2])
        case "utime" | "utimes":
            return _HERE, _path(pid, args[0]), 0, _times(pid, args[1], {"utime": 0, "utimes": 1_000}[name])
        case "futimesat":
            return low[0], _path(pid, args[1]), 0, _times(pid, args[2], 1_000)
        case "utimensat":
            path, flags = (_path(pid, args[1]), low[3]) if args[1] else ("", _EMPTY_PATH)
            return low[0], path, flags, _times(pid, args[2], 1)
    raise PermissionError(errno.EPERM, "")


def _path(pid: int, at: int) -> str:
    if not (path := text_at(pid, at)):
        raise FileNotFoundError(errno.ENOENT, "")
    return path


def _mode(mode: int) -> Change:
    if mode & ~_PERMISSIONS:  # set-user-id and the like
        raise PermissionError(errno.EPERM, "")

    def act(path: str, status: os.stat_result) -> None:
        # A closed folder couldn't be counted.
        os.chmod(path, mode | _KEPT_OPEN if stat.S_ISDIR(status.st_mode) else mode)

    return act


def _times(pid: int, at: int, unit_ns: int) -> Change:
    """Return the change to the times at `at`: seconds each, and a fraction in `unit_ns` if there is any."""
    layout = "=qq" if unit_ns == 0 else "=qqqq"
    raw = memory(pid, at, struct.calcsize(layout)) if at else b""
    if at and len(raw) < struct.calcsize(layout):
        raise OSError(errno.EFAULT, "")
    words = struct.unpack(layout, raw) if at else (0, _NOW, 0, _NOW)
    times = [(word, 0) for word in words] if unit_ns == 0 else [words[:2], words[2:]]
    special = unit_ns == 1 or not at

    def act(path: str, status: os.stat_result) -> None:
        now_ns, old_ns = time.time_ns(), (status.st_atime_ns, status.st_mtime_ns)
        new_ns = []
        for (seconds, fraction), old in zip(times, old_ns, strict=True):
            if special and fraction in (_NOW, _OMIT):
                new_ns.append(now_ns if fraction == _NOW else old)
            elif 0 <= fraction * unit_ns < _SECOND_NS and abs(seconds) < 1 << 33:
                new_ns.append(seconds * _SECOND_NS + fraction * unit_ns)
            else:
                raise OSError(errno.EINVAL, "")
        os.utime(path, ns=(new_ns[0], new_ns[1]))

    return act


def _open(pid: int, folder: int, path: str, flags: int, scratch: str, root: str) -> int:
    """Open what a call names, if it lies in the scratch directory. Raises `PermissionError` if it doesn't."""
    if not path:
        if not flags & _EMPTY_PATH:
            raise FileNotFoundError(errno.ENOENT, "")
        return _open_descriptor(pid, folder, scratch)
    if not path.startswith("/"):
        path = f"{folder_path(pid, folder)}/{path}"
    path = os.path.normpath(path)
    if path != scratch and not path.startswith(f"{scratch}/"):
        raise PermissionError(errno.EPERM, "")
    descriptor = os.open(root, _O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for part in filter(None, path[len(scratch) :].split("/")):
            _refuse_link(descriptor)
            below = os.open(part, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        if not flags & _NOFOLLOW:
            _refuse_link(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_link(descriptor: int) -> None:
    if stat.S_ISLNK(os.fstat(descriptor).st_mode):
        raise PermissionError(errno.EPERM, "")  # it may lead out, and may have changed meanwhile


def _open_descriptor(pid: int, number: int, scratch: str) -> int:
    """Open the file of another process's descriptor, if it lies in the scratch directory."""
    descriptor = os.open(f"/proc/{pid}/fd/{number}", _O_PATH | os.O_CLOEXEC)
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path != scratch and not path.startswith(f"{scratch}/"):
            raise PermissionError(errno.EPERM, "")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
