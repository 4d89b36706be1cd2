"""Hints of one sentence each on what to do about a failed call (host): the end of its explanation.

An exception's type and text are claims. They choose a hint, and decide nothing.
"""

from __future__ import annotations

from agentplug.contract.limits import LIMITS
from agentplug.contract.record import DECIDING, RunRecord


def hints(run: RunRecord) -> list[str]:
    """Return the hints for a run whose plugin raised: clauses without a capital or a full stop, safe to print."""
    deciding = next((event for event in run.events if event.kind in DECIDING), None)
    if deciding is None or deciding.kind != "error" or deciding.detail.get("limit"):
        return []
    if (row := LIMITS.get(str(deciding.detail.get("claims")))) is not None:
        return [f"such an error may come from {row.noun} limit, but nothing was seen near it"]
    if run.error is not None and run.error.type == "PermissionError":
        return ["what a policy can grant are paths and network: Policy(read=…, write=…, network=…)"]
    return []
