"""The machine on which a trace was measured: read once, JSON-safe, without the name of a user or a host (host)."""

from __future__ import annotations

import functools
import os
import platform
from importlib import metadata
from typing import Any

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@functools.cache
def machine() -> dict[str, Any]:
    """Return `system`, `machine`, `cpus`, `memory_bytes`, `python`, `agentplug`.

    `cpus` counts those that this process may use. `memory_bytes` is the limit of its cgroup, or the whole memory.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": cpus,
        "memory_bytes": _memory_bytes(),
        "python": platform.python_version(),
        "agentplug": metadata.version("agentplug"),
    }


def _memory_bytes() -> int:
    import psutil

    least = int(psutil.virtual_memory().total)
    for path in _CGROUP_LIMITS:
        try:
            with open(path) as file:
                least = min(least, int(file.read()))
        except (OSError, ValueError):  # there is no such cgroup, or it says "max"
            continue
    return least
