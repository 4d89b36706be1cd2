"""The lowest priority for a worker, its threads and its children (worker side): sched(7).

A session of its own would have as much CPU as everything in the host's session together: the kernel shares among
autogroups first. Where the host's cgroup shares instead, nice values count. Both are the worst there are, for good:
seccomp refuses setsid(2), which would make another autogroup, and setpriority(2).
"""

from __future__ import annotations

import contextlib
import os

from agentplug.core.boundary.frames import BarrierReport, Plan

NAME = "priority"
PROTECTS = "the host's share of the CPU"

TURN_MS = 100
"""The time after which the kernel lowers an autogroup again, unless root asks."""

_LOWEST = 19


def apply(plan: Plan) -> BarrierReport:
    """Lower this process, and the autogroup of its session."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _LOWEST)
    detail = f"nice {os.getpriority(os.PRIO_PROCESS, 0)}"
    try:
        _lower_autogroup(os.getpid())
    except FileNotFoundError:
        return BarrierReport(NAME, PROTECTS, "enforced", f"{detail}; this kernel has no scheduler autogroups")
    except BlockingIOError:  # as another was lowered just now; the zygote does this one
        return BarrierReport(NAME, PROTECTS, "enforced", f"{detail}; its scheduler autogroup is lowered in its turn")
    except OSError as error:
        return BarrierReport(NAME, PROTECTS, "partial", f"{detail}; scheduler autogroup: {error.strerror}")
    return BarrierReport(NAME, PROTECTS, "enforced", f"{detail}, scheduler autogroup {_LOWEST}")


def lower_in_turn(pids: set[int]) -> None:
    """Lower the autogroups of these workers, and remove them from `pids`, until the kernel wants a pause (in the
    zygote)."""
    for pid in tuple(pids):
        try:
            _lower_autogroup(pid)
        except BlockingIOError:
            return
        except ProcessLookupError:
            continue
        except OSError:
            pass  # this kernel has none
        pids.discard(pid)


def _lower_autogroup(pid: int) -> None:
    """Lower the autogroup of the session that process `pid` leads, unless that is done. Raises `OSError`:
    `BlockingIOError` if the kernel has just lowered another one, `ProcessLookupError` if it leads none yet."""
    if os.getsid(pid) != pid:
        raise ProcessLookupError
    fd = os.open(f"/proc/{pid}/autogroup", os.O_RDWR)
    try:
        if not os.read(fd, 64).endswith(b" nice %d\n" % _LOWEST):
            os.write(fd, b"%d" % _LOWEST)
    finally:
        os.close(fd)
