"""A cgroup of its own, where the machine lets the host write one (worker side; the host makes and removes it)."""

from __future__ import annotations

import os

from agentplug.core.boundary.frames import BarrierReport, Plan

NAME = "cgroup"
PROTECTS = "the machine's memory and process table"


def apply(plan: Plan) -> BarrierReport:
    """Move this process into the cgroups that the host made for it."""
    if not plan.cgroup:
        return BarrierReport(NAME, PROTECTS, "unavailable", "no cgroup is writable here (an extra layer)")
    for folder in plan.cgroup:
        with open(f"{folder}/{_entrance(folder)}", "w") as file:
            file.write("0")
    return BarrierReport(NAME, PROTECTS, "enforced", f"{len(plan.cgroup)} of memory and pids")


def _entrance(folder: str) -> str:
    """Version 1 lets our one thread in as a thread, without the lock for which processes wait some 15 ms."""
    return "tasks" if os.path.exists(f"{folder}/tasks") else "cgroup.procs"
