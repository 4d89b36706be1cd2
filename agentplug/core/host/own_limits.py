"""This process's own resource limits, as far as they bear on starting workers (host): getrlimit(2), setrlimit(2)."""

from __future__ import annotations

import contextlib
import errno
import os

from agentplug.core.boundary.bounds import least_limit

_ROOM = 64  # descriptors: of some workers that start at once, and of the user's own
_ULIMIT = {"NOFILE": "n", "NPROC": "u", "AS": "v", "DATA": "d", "FSIZE": "f", "STACK": "s", "CPU": "t"}
_AMPLE = {
    "NOFILE": 256,
    "NPROC": 1_000,
    "AS": 4 << 30,
    "DATA": 1 << 30,
    "FSIZE": 1 << 20,
    "STACK": 1 << 20,
    "CPU": 60,
}


def make_room() -> None:
    """Double the soft limit of descriptors, as far as the hard one allows, if few more can be opened.

    The soft limit is 1,024 at most places for the sake of select(2), which knows no descriptors beyond: who calls
    `select.select` in this process on what was opened after eighty workers gets a `ValueError`; poll(2) and epoll(7)
    don't mind. So the limit stays as the user set it until so many workers are there.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest_free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.close(lowest_free)
    except OSError as error:
        if error.errno != errno.EMFILE:
            return
        lowest_free = soft
    if lowest_free + _ROOM > soft != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError, ValueError):
            more = least_limit(max(2 * soft, lowest_free + 2 * _ROOM), hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))


def low_limits() -> str:
    """Describe the limits that are so low that a start may fail for them, with the remedy; else return ""."""
    with contextlib.suppress(ImportError):  # another system than Linux
        import resource

        low = []
        for name, ample in _AMPLE.items():
            soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
            if 0 <= soft < ample:
                low.append(f"{name} {soft} (ulimit -{_ULIMIT[name]}{', a hard limit' if soft == hard else ''})")
        if low:
            return f". This process's own limits are low: {', '.join(low)}; raise them"
    return ""
