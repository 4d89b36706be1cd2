"""The barriers of a worker (worker side), raised in this order before it sees a byte of the plugin.

Each module has one barrier: `NAME`, `PROTECTS`, and `apply(plan)`, which raises it and reports `enforced`, `partial`
or `unavailable`, the reason, and the promises of the policy that are lost. The host decides by the reports whether
the plugin may start. To add a barrier, write such a module and put it into `ORDER`.
"""

from __future__ import annotations

from typing import Protocol

from agentplug.core.boundary.frames import BarrierReport, Plan
from agentplug.core.worker.barriers import (
    cgroup,
    descriptors,
    environment,
    landlock,
    lifetime,
    limits,
    namespaces,
    priority,
    privileges,
    seccomp,
)


class Barrier(Protocol):
    """The interface of each module here."""

    NAME: str
    PROTECTS: str

    def apply(self, plan: Plan) -> BarrierReport:
        """Raise the barrier in this process, for good."""


ORDER: tuple[Barrier, ...] = (
    cgroup,  # needs the host's file system view and rights
    lifetime,
    descriptors,
    namespaces,  # needs to mount, which Landlock forbids
    environment,  # its directory is the namespace's scratch
    limits,
    privileges,
    priority,  # its file is in /proc; what comes before isn't held up
    landlock,  # its system calls are forbidden by seccomp
    seccomp,
)


def confine(plan: Plan) -> list[BarrierReport]:
    """Raise every barrier in order; then the process may run the plugin's code."""
    reports = []
    for barrier in ORDER:
        try:
            report = barrier.apply(plan)
        except OSError as error:  # unexpected: every promise is lost
            reason = f"{type(error).__name__}: {error}"
            report = BarrierReport(barrier.NAME, barrier.PROTECTS, "unavailable", reason, [barrier.NAME])
        reports.append(report)
    return reports
