"""Find the limit behind an error that a plugin raised, from what the kernel shows the host (host).

A worker says which error a call ended with. That is a claim: a plugin may raise or forge any error. A limit decides a
verdict only if the host reads for itself that it was reached or nearly so, or that the kernel refused such a call.
The worker keeps the error until its next frame, so that what the error's stack frames hold is still there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from agentplug.contract.limits import LIMITS
from agentplug.core.boundary import syscalls as watched
from agentplug.core.boundary.bounds import PROFILER_THREADS, scratch_bytes, scratch_inodes
from agentplug.core.boundary.child_processes import descendants
from agentplug.core.boundary.frames import Failure
from agentplug.core.host.exchange import Exchange
from agentplug.core.host.scratch import room_used, scratch_usage
from agentplug.core.host.supervisor import Worker

_NEAR = 0.9
_STARTS = frozenset((*watched.FORKS, *watched.EXECS))
_Evidence = dict[str, float]
"""The use as `measured`, if that was near the bound; nothing measured, if the kernel refused more."""
_HIDDEN_MEMORY = frozenset(("memfd_create", "shmget"))


def limit_behind(failure: Failure, exchange: Exchange, worker: Worker) -> dict[str, Any]:
    """Return what an `error` event says of a limit. The worker must be idle or gone.

    That is nothing, or the `limit` with its `bound` and `unit`, and the use `measured` if that is near the bound; or
    the limit that the worker `claims`, without evidence.
    """
    check = _CHECKS.get(failure.limit)
    if check is None:
        return {}
    evidence = check(exchange, worker)
    if evidence is None:
        return {"claims": failure.limit}
    row = LIMITS[failure.limit]
    return {"limit": failure.limit, **evidence, "bound": getattr(worker.policy, row.name), "unit": row.unit}


def _memory(exchange: Exchange, worker: Worker) -> _Evidence | None:
    """Reserved address space is evidence, but no figure: the kernel's bound of it leaves room for stacks too."""
    most = exchange.peak_bytes - worker.limits.floor_bytes
    if most >= _NEAR * int(worker.policy.memory):
        return {"measured": most}
    was_refused = worker.limits.has_reserved_all(worker.process) or _asked_beyond(worker, "memory")
    return {} if was_refused or _refused(exchange, _HIDDEN_MEMORY) else None


def _threads(exchange: Exchange, worker: Worker) -> _Evidence | None:
    threads = exchange.threads - (PROFILER_THREADS if worker.policy.profile else 0)
    return {"measured": threads} if threads >= _NEAR * worker.policy.threads else None


def _processes(exchange: Exchange, worker: Worker) -> _Evidence | None:
    """Evidence are as many child processes as may be, or a refused call that shows that one was wanted."""
    most = worker.policy.processes
    if most:
        count = len(descendants(worker.process.pid))
        return {"measured": count} if count >= most else None
    return {} if _refused(exchange, _STARTS) else None


def _files(exchange: Exchange, worker: Worker) -> _Evidence | None:
    try:
        count = len(os.listdir(f"/proc/{worker.process.pid}/fd"))
    except OSError:
        return None
    return {"measured": count} if count >= _NEAR * worker.policy.open_files else None


def _disk(exchange: Exchange, worker: Worker) -> _Evidence | None:
    """Evidence is a scratch directory that is nearly full, or as much written in this call and perhaps deleted. Other
    disks have no limit of ours."""
    policy = worker.policy
    disk = scratch_bytes(int(policy.disk), policy.profile)
    most = scratch_inodes(disk)
    process = worker.process
    try:
        if worker.limits.counts_scratch:
            used, inodes = scratch_usage(process.open_scratch, (process.pid,), disk, most, process.scratch)
        else:
            used, inodes = room_used(f"/proc/{process.pid}/root{process.scratch}")
    except OSError:
        used = inodes = 0
    if disk and used >= _NEAR * disk:
        return {"measured": used}
    written = 0 if policy.write else exchange.usage.write_bytes
    near = written >= _NEAR * disk if disk else inodes > 0  # a refused write leaves an empty file
    return {} if near or inodes >= _NEAR * most or _asked_beyond(worker, "disk") else None


def _asked_beyond(worker: Worker, limit: str) -> bool:
    """Return true if the kernel reported a request beyond this limit in the last call."""
    return worker.listener is not None and limit in worker.listener.asked_beyond


def _refused(exchange: Exchange, calls: frozenset[str]) -> bool:
    """Return true if the kernel reported one of these refused calls in any record: in a window, it may report one
    before the host has read the previous reply. A worker's own report is no evidence."""
    events = (event for record in exchange.records for event in record.events if event.kind == "tried")
    return any(
        event.detail["syscall"] in calls and event.detail["source"] == "kernel" and "during" not in event.detail
        for event in events
    )


_CHECKS: dict[str, Callable[[Exchange, Worker], _Evidence | None]] = {
    "memory": _memory,
    "threads": _threads,
    "processes": _processes,
    "files": _files,
    "disk": _disk,
}
