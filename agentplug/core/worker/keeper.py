"""The keeper: the zygote's parent, which ends the processes that a killed zygote leaves (trusted, unconfined).

PDEATHSIG ends workers with their zygote, but isn't inherited, so a plugin's child processes would live on. The keeper
is the next subreaper above and becomes their parent, whatever their session or group. It does nothing else, and reads
nothing. If the keeper is killed, the zygote ends and cleans up. Only if both are killed at once do those children
live on.
"""

from __future__ import annotations

import contextlib
import os
import signal

from agentplug.core.boundary import cgroups
from agentplug.core.boundary.remove_tree import remove_root
from agentplug.core.worker.barriers import libc

_LOOK_S = 1.0  # poll for the host's end: PDEATHSIG would come when the thread ends that started us


def fork_below_a_keeper(control_fd: int, root_fd: int) -> int:
    """Fork the zygote, and return the keeper's pid there. The calling process becomes the keeper and never returns.

    Raises `OSError` if it can't fork.
    """
    host, keeper = os.getppid(), os.getpid()
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    zygote = os.fork()
    if zygote == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        return keeper
    try:
        os.close(control_fd)  # the host must see the zygote's end, not ours
        if _outlasts(zygote, host):
            end_children()
            cgroups.remove(cgroups.of(zygote))
            remove_root(root_fd)
    finally:
        os._exit(0)


def _outlasts(zygote: int, host: int) -> bool:
    """Wait for the end of either. Return false if the host ends first: then we exit, and the zygote notices."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                if pid == zygote:
                    return True
        if os.getppid() != host:
            return False
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_S)


def end_children() -> None:
    """Kill and reap all children of this subreaper, until none is left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
                children = [int(pid) for pid in file.read().split()]
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.wait()
