"""A clean environment and a directory of its own (worker side)."""

from __future__ import annotations

import os

from agentplug.contract.wire import BarrierReport, Plan

NAME = "environment"
PROTECTS = "secrets in environment variables, the host's current directory"


def apply(plan: Plan) -> BarrierReport:
    """PATH, HOME and LANG, and the scratch directory as the current one. The policy's variables come later."""
    os.environ.clear()
    os.environ.update({"PATH": os.defpath, "HOME": plan.scratch, "LANG": "C.UTF-8"})
    os.chdir(plan.scratch)
    os.umask(0o077)
    return BarrierReport(
        NAME, PROTECTS, "enforced", f"{len(os.environ) + plan.variables} variables, none of the host's"
    )
