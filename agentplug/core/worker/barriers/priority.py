"""A low priority for a worker, its threads and its children (worker side): sched(7).

A session of its own has as much CPU as everything in the host's session together: the kernel shares among
autogroups first. Where the host's cgroup shares instead, nice values count. Both are lowered for good:
seccomp refuses setsid(2), which would make another autogroup, and setpriority(2).

At nice 10 a session weighs a tenth of another. That is enough for the host's loop, and a plugin still gets on where
the machine is busy; at 19 it would weigh a sixtieth, and simple calls would end at their time limits there.
"""

from __future__ import annotations

import contextlib
import os
import time

from agentplug.core.boundary.frames import BarrierReport, Plan

NAME = "priority"
PROTECTS = "the host's share of the CPU"

TURN_S = 0.1
"""The time after which the kernel lowers an autogroup again, unless root asks."""

_NICE = 10


def apply(plan: Plan) -> BarrierReport:
    """Lower this process, and the autogroup of its session."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    detail = f"nice {os.getpriority(os.PRIO_PROCESS, 0)}"
    try:
        with contextlib.suppress(BlockingIOError):  # as another was lowered just now; the zygote does this one soon
            _lower_autogroup(os.getpid())
    except FileNotFoundError:
        return BarrierReport(NAME, PROTECTS, "enforced", f"{detail}; this kernel has no scheduler autogroups")
    except OSError as error:
        return BarrierReport(NAME, PROTECTS, "partial", f"{detail}; scheduler autogroup: {error.strerror}")
    return BarrierReport(NAME, PROTECTS, "enforced", f"{detail}, scheduler autogroup {_NICE}")


def lower_in_turn(since_s: dict[int, float]) -> None:
    """Lower the autogroups of these workers, and remove them, until the kernel wants a pause (in the zygote).

    `since_s` has the time of each worker's fork: in the first moment it confines itself, and is not held up.
    """
    for pid, began_s in tuple(since_s.items()):
        if time.monotonic() - began_s < TURN_S:
            return
        try:
            _lower_autogroup(pid)
        except BlockingIOError:
            return
        except ProcessLookupError:
            continue
        except OSError:
            pass  # this kernel has none
        del since_s[pid]


def _lower_autogroup(pid: int) -> None:
    """Lower the autogroup of the session that process `pid` leads, unless that is done. Raises `OSError`:
    `BlockingIOError` if the kernel has just lowered another one, `ProcessLookupError` if it leads none yet."""
    if os.getsid(pid) != pid:
        raise ProcessLookupError
    fd = os.open(f"/proc/{pid}/autogroup", os.O_RDWR)
    try:
        if not os.read(fd, 64).endswith(b" nice %d\n" % _NICE):
            os.write(fd, b"%d" % _NICE)
    finally:
        os.close(fd)
