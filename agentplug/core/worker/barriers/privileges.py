"""No capabilities, and no way to gain any (worker side): capabilities(7), PR_SET_NO_NEW_PRIVS."""

from __future__ import annotations

import contextlib

from agentplug.core.boundary.frames import BarrierReport, Plan
from agentplug.core.worker.barriers import libc
from agentplug.core.worker.barriers.lifetime import die_with_parent

NAME = "privileges"
PROTECTS = "against root's powers and set-user-id programs"

_LAST_CAPABILITY = 63
_PR_CAP_AMBIENT_CLEAR_ALL = 4


def apply(plan: Plan) -> BarrierReport:
    """Empty the bounding, ambient, inheritable, permitted and effective sets; then set no_new_privs."""
    with contextlib.suppress(OSError):
        libc.prctl(libc.PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    with contextlib.suppress(OSError):  # EPERM without CAP_SETPCAP, EINVAL past the last capability
        for capability in range(_LAST_CAPABILITY + 1):
            libc.prctl(libc.PR_CAPBSET_DROP, capability)
    libc.drop_capabilities()
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent()
    return BarrierReport(NAME, PROTECTS, "enforced", "no capabilities, no_new_privs")
