"""A clean environment and a directory of its own (worker side)."""

from __future__ import annotations

import ctypes
import os

from agentplug.core.boundary.frames import BarrierReport, Plan

NAME = "environment"
PROTECTS = "secrets in environment variables, the host's current directory"
_PLAIN = {"PATH": os.defpath, "LANG": "C.UTF-8"}
_ENV_START, _ENV_END = 47, 48  # of /proc/PID/stat, counted from the state: see proc(5)


def forget() -> None:
    """Clear the variables that this process was started with, also from /proc/self/environ: LD_LIBRARY_PATH is the
    host's. Runs in the zygote, once nothing reads them any more."""
    os.environ.clear()
    os.environ.update(_PLAIN)  # elsewhere in memory
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    if start:
        ctypes.memset(start, 0, end - start)


def apply(plan: Plan) -> BarrierReport:
    """Set PATH, HOME and LANG, and change to the scratch directory, from the folder around it: a longer path could
    have come to lead elsewhere. The policy's variables come later."""
    os.environ.clear()
    os.environ.update(_PLAIN | {"HOME": plan.scratch})
    os.chdir(os.path.basename(plan.scratch))
    os.umask(0o077)
    return BarrierReport(
        NAME, PROTECTS, "enforced", f"{len(os.environ) + plan.variables} variables, none of the host's"
    )
