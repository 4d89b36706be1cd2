"""A cgroup for the worker, if the host may write one (worker side; the zygote makes and removes it)."""

from __future__ import annotations

import os

from agentplug.core.boundary.frames import BarrierReport, Plan

NAME = "cgroup"
PROTECTS = "the machine's memory and process table"

_MISSING = (
    "no cgroup is writable here (an extra layer). Nothing else counts what the kernel remembers of names that don't "
    "exist, which it forgets when memory runs short"
)


def apply(plan: Plan) -> BarrierReport:
    """Move this process into the cgroups that the host made for it."""
    if not plan.cgroup:
        return BarrierReport(NAME, PROTECTS, "unavailable", _MISSING)
    for folder in plan.cgroup:
        with open(f"{folder}/{_entrance(folder)}", "w") as file:
            file.write("0")
    return BarrierReport(NAME, PROTECTS, "enforced", f"{len(plan.cgroup)} of memory and pids")


def _entrance(folder: str) -> str:
    """Return the file to write to. Version 1 adds a thread without the lock for processes, a wait of some 15 ms."""
    return "tasks" if os.path.exists(f"{folder}/tasks") else "cgroup.procs"
