"""Figures that host and worker agree on (both sides; imports nothing, so that it loads on every system)."""

from __future__ import annotations

CHANNEL_FD = 3
"""The worker's descriptor of its channel; 0 is /dev/null, 1 and 2 are capped pipes."""

SPARE_NAME = "agentplug-spare"
"""What a process is called that a zygote forked ahead of its need."""

STACK_BYTES = 8 << 20

MAX_MESSAGE_BYTES = 1 << 18
"""The longest message between the host and a zygote."""

PROFILER_THREADS = 1
PROFILER_DISK_BYTES = 64 << 20
"""What a profiler takes beside the plugin: a thread, and for memory a file in the scratch directory."""


def data_allowance_bytes(memory_bytes: int, threads: int) -> int:
    """How much private address space a plugin may reserve: its memory, and stacks for its threads."""
    return memory_bytes + threads * STACK_BYTES


def scratch_inodes(disk_bytes: int) -> int:
    """How many files and directories a scratch directory of `disk_bytes` may hold."""
    return min(64 + disk_bytes // 4096, 65_536)


def scratch_bytes(disk_bytes: int, profile: str) -> int:
    """How large a scratch directory may grow: a memory profiler's file comes on top of what the plugin may write."""
    return disk_bytes + (PROFILER_DISK_BYTES if profile == "memory" else 0)
