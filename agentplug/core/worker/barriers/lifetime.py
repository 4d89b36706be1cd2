"""A worker ends with its parent and shares no session or terminal with the host (worker side)."""

from __future__ import annotations

import os
import signal

from agentplug.core.boundary.frames import BarrierReport, Plan
from agentplug.core.worker.barriers import libc

NAME = "lifetime"
PROTECTS = "from workers that outlive the host, and the host's terminal and interrupts"


def apply(plan: Plan) -> BarrierReport:
    """Ask for SIGKILL when the zygote ends, start a session, and exit if the zygote is gone already.

    Orphaned child processes become the worker's own children, so that they still count.
    """
    die_with_parent()
    if plan.processes:
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    os.setsid()
    if os.getppid() != plan.parent:
        os._exit(1)  # the zygote ended before prctl, so the signal will never come
    return BarrierReport(NAME, PROTECTS, "enforced", "killed with its zygote, a session of its own")


def die_with_parent() -> None:
    """Set PR_SET_PDEATHSIG. A change of credentials clears it: call this again after one."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
