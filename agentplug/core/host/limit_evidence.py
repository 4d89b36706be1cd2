"""Find the limit behind an error that a plugin raised, from evidence that the host itself reads (host).

A worker reports an error's number, and whether a call failed with it or a raise statement made it. Neither proves a
limit: EAGAIN comes from a pipe too, ENOSPC from a granted path's own disk. They count only where the host can't look.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from agentplug.core.boundary import syscalls as watched
from agentplug.core.boundary.bounds import scratch_bytes, scratch_inodes
from agentplug.core.boundary.child_processes import descendants
from agentplug.core.boundary.frames import Failure
from agentplug.core.host.exchange import Exchange
from agentplug.core.host.scratch import room_used, scratch_usage
from agentplug.core.host.supervisor import Worker

_NEAR = 0.9
_STARTS = frozenset((*watched.FORKS, *watched.EXECS))  # a worker's own report names the start of a program
_HIDDEN_MEMORY = frozenset(("memfd_create", "shmget"))


def limit_behind(failure: Failure, exchange: Exchange, worker: Worker) -> str:
    """Return the limit behind `failure`, named as in verdicts, or "". The worker must be idle or gone."""
    check = _CHECKS.get(failure.limit)
    if check is None or not failure.number:
        return failure.limit  # a MemoryError, or a thread that couldn't start
    return failure.limit if check(failure, exchange, worker) else ""


def _memory(failure: Failure, exchange: Exchange, worker: Worker) -> bool:
    """Believe a failed call, since a map that is too large leaves no trace; for a raise statement, check the peak."""
    if not failure.by_hand or worker.listener is None or _refused(exchange, _HIDDEN_MEMORY):
        return True
    return exchange.peak_bytes - worker.limits.floor_bytes >= _NEAR * int(worker.policy.memory)


def _processes(failure: Failure, exchange: Exchange, worker: Worker) -> bool:
    """Return true if a process could not be started, or the process limit is reached."""
    if worker.policy.processes:
        return len(descendants(worker.process.pid)) >= worker.policy.processes
    return _refused(exchange, _STARTS)


def _files(failure: Failure, exchange: Exchange, worker: Worker) -> bool:
    """Believe a failed call, since files may be closed again; for a raise statement, count the open files."""
    try:
        return (
            not failure.by_hand
            or len(os.listdir(f"/proc/{worker.process.pid}/fd")) >= _NEAR * worker.policy.open_files
        )
    except OSError:
        return True


def _disk(failure: Failure, exchange: Exchange, worker: Worker) -> bool:
    """Check the scratch directory, the only disk with a limit of ours. It must be nearly full if the policy grants
    other paths to write. Else believe a failed call; a raise statement needs a file (a refused write leaves one)."""
    policy = worker.policy
    disk = scratch_bytes(int(policy.disk), policy.profile)
    most = scratch_inodes(disk)
    if not failure.by_hand and not policy.write:
        return True
    try:
        pid, scratch = worker.process.pid, worker.process.scratch
        if worker.limits.counts_scratch:
            used, inodes = scratch_usage(scratch, (pid,), disk, most)
        else:
            used, inodes = room_used(f"/proc/{pid}/root{scratch}")
    except OSError:
        return True
    if not policy.write:
        return inodes > 0
    return inodes >= _NEAR * most or used >= max(1, _NEAR * disk)


def _refused(exchange: Exchange, calls: frozenset[str]) -> bool:
    """Return true if any record has one of these refused calls: in a window, the kernel may report one before the
    host has read the previous reply."""
    events = (event for record in exchange.records for event in record.events if event.kind == "tried")
    return any(event.detail["syscall"] in calls and "during" not in event.detail for event in events)


_CHECKS: dict[str, Callable[[Failure, Exchange, Worker], Any]] = {
    "memory": _memory,
    "processes": _processes,
    "files": _files,
    "disk": _disk,
}
