"""Measure a worker's memory that no footprint shows (host).

Callers hold the worker's lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from agentplug.contract.policy import Policy
from agentplug.core.host.readings import Gone
from agentplug.core.host.shared_memory import SharedMemory


class HiddenMemory:
    """The hidden memory of one worker and its children."""

    def __init__(self, policy: Policy) -> None:
        self.shared = SharedMemory(int(policy.memory))
        self.size_bytes = 0  # as measured last

    @property
    def possible(self) -> bool:
        """True if there may be any, so that it is worth the time to measure."""
        return self.shared.used

    def measure(self, pid: int, children: Collection[int], room_bytes: int, now_ns: int) -> int:
        """Measure it in bytes, with care if it is more than `room_bytes`. Raises `Gone`."""
        pids = (pid, *children)
        resident_bytes = _status_bytes(pid, b"RssShmem")
        for child in children:
            with contextlib.suppress(Gone):
                resident_bytes += _status_bytes(child, b"RssShmem")
        self.size_bytes = self.shared.hidden_bytes(pids, resident_bytes, room_bytes, now_ns)
        return self.size_bytes


def _status_bytes(pid: int, name: bytes) -> int:
    """Read a size in /proc/PID/status. The process's name can't hold a line break: the kernel escapes it."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            text = file.read(8192)
        return int(text.partition(b"\n%b:\t" % name)[2].split(b" kB", 1)[0]) << 10
    except (OSError, ValueError):
        raise Gone("status") from None
