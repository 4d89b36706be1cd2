"""Figures that host and worker share (both sides). No imports, so that every system can load this module."""

from __future__ import annotations

CHANNEL_FD = 3
"""The worker's descriptor of its channel; 0 is /dev/null, 1 and 2 are capped pipes."""

SPARE_NAME = "agentplug-spare"
"""The name of a process that a zygote forked ahead of its need."""

STACK_BYTES = 8 << 20

ROOMY_BYTES = 4 << 30
"""Address space beyond a plugin's memory, for shared maps of libraries and arenas."""

PIPE_BYTES = 1 << 16
"""The most that a plugin's pipe holds, the kernel's usual size: pipe(7)."""

MAX_MESSAGE_BYTES = 1 << 18
"""The longest message between the host and a zygote."""

PROFILER_THREADS = 1
PROFILER_DISK_BYTES = 64 << 20
"""A profiler's own needs: a thread, and a memory profiler's file in the scratch directory."""


def data_allowance_bytes(memory_bytes: int, threads: int) -> int:
    """Return the private address space that a plugin may reserve: its memory, and stacks for its threads."""
    return memory_bytes + threads * STACK_BYTES


def scratch_inodes(disk_bytes: int) -> int:
    """Return the most files and directories in a scratch directory of `disk_bytes`."""
    return min(64 + disk_bytes // 4096, 65_536)


def scratch_bytes(disk_bytes: int, profile: str) -> int:
    """Return the most bytes in a scratch directory: those of the plugin, and a memory profiler's file."""
    return disk_bytes + (PROFILER_DISK_BYTES if profile == "memory" else 0)


def least_limit(wanted: int, hard: int) -> int:
    """Return the limit that may be set where the hard one is `hard`: setrlimit(2). -1 is no limit."""
    return wanted if hard == -1 else hard if wanted == -1 else min(wanted, hard)


def least_cpu_limit(seconds: int, hard: int) -> int:
    """Return the soft RLIMIT_CPU below `hard`: SIGXCPU, which names the limit, comes before SIGKILL."""
    return seconds if hard == -1 else max(1, min(seconds, hard - 1))
