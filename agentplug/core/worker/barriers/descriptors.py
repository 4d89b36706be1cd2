"""No descriptor of the zygote or the host stays open (worker side)."""

from __future__ import annotations

import os

from agentplug.core.boundary.bounds import CHANNEL_FD
from agentplug.core.boundary.frames import BarrierReport, Plan

NAME = "descriptors"
PROTECTS = "open files and sockets of the host"


def apply(plan: Plan) -> BarrierReport:
    """Close everything above the channel; 0 is /dev/null, 1 and 2 are capped pipes."""
    os.closerange(CHANNEL_FD + 1, os.sysconf("SC_OPEN_MAX"))
    return BarrierReport(NAME, PROTECTS, "enforced", "only the channel and two pipes are open")
