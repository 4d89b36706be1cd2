"""Plugins that send signals, to others and to themselves, or refuse to hear them (worker side)."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import struct
import time
from typing import Any

from agentplug.zoo._beast import Beast, libc, number, on_one, prctl, processes, syscall

_F_SETOWN, _F_SETSIG = 8, 10
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


class Stopper(Beast):
    """Stops processes instead of killing them: they don't die, they just never go on.

    Stopped by seccomp, which lets a worker's signals reach that worker alone: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send SIGSTOP to each process of `input_data`, or else to the parent."""
        return on_one(processes(input_data), lambda pid: os.kill(pid, signal.SIGSTOP))


class GroupKiller(Beast):
    """Kills whole groups of processes, which needs no process id but 0 or a negative one.

    Stopped by seccomp, for which those are the ids of others: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Signal the groups of the processes `input_data`, or else its own; nobody needs -1 for a demonstration."""
        groups = [-os.getpgid(pid) for pid in processes(input_data)] if input_data else [0]
        return on_one(groups, lambda group: os.kill(group, signal.SIGTERM))


class ThreadKiller(Beast):
    """Signals a thread of another process, with a call that names the process twice.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send SIGKILL to the first thread of each process of `input_data`, or else of the parent."""
        return on_one(processes(input_data), lambda pid: syscall("tgkill", pid, pid, signal.SIGKILL))


class QueueKiller(Beast):
    """Queues a signal with a forged sender, as if it came from the kernel.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Queue SIGKILL for each process of `input_data`, or else for the parent."""
        return on_one(processes(input_data), lambda pid: libc("sigqueue", pid, int(signal.SIGKILL), None))


class HandleKiller(Beast):
    """Signals through a pidfd, for which no process id is looked at.

    Stopped by seccomp, which opens none: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send SIGKILL to each process of `input_data`, or else to the parent."""
        return on_one(processes(input_data), lambda pid: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL))


class OwnerKiller(Beast):
    """Makes another process the owner of a pipe, whom the kernel sends any signal it likes when there is input.

    Stopped by seccomp, which knows `fcntl` by its commands: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Have SIGKILL sent to each process of `input_data`, or else to the parent."""

        def kill(pid: int) -> int:
            reader, writer = os.pipe()
            fcntl.fcntl(reader, _F_SETOWN, pid)
            fcntl.fcntl(reader, _F_SETSIG, int(signal.SIGKILL))
            fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
            return os.write(writer, b"x")

        return on_one(processes(input_data), kill)


class Undying(Beast):
    """Takes back the order to die with its parent, so as to outlive the notebook.

    Stopped by seccomp, which knows `prctl` by its options: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Clear the signal that the parent's death sends."""
        return prctl(_PR_SET_PDEATHSIG, 0)


class Hider(Beast):
    """Makes itself undumpable, which hides what the host measures: its I/O, its maps, its high-water mark.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Clear the flag."""
        return prctl(_PR_SET_DUMPABLE, 0)


class SelfStopper(Beast):
    """Stops itself, and would lie there until somebody wakes it.

    Stopped by the watchdog's clock; SIGKILL also reaches who is stopped: `limited:wall`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send SIGSTOP to itself."""
        os.kill(os.getpid(), signal.SIGSTOP)
        return "woken"


class Deaf(Beast):
    """Ignores and blocks every signal, SIGXCPU too, and sleeps through all of it.

    Stopped by SIGKILL, which can't be ignored: `limited:wall`.
    """

    async def process(self, input_data: Any) -> Any:
        """Be deaf for `input_data` seconds, an hour unless a number is given."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for name in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if name < signal.SIGRTMIN:
                signal.signal(name, signal.SIG_IGN)
        until = time.monotonic() + number(input_data, 3600)
        while time.monotonic() < until:
            time.sleep(0.05)  # noqa: ASYNC251
        return "slept"


class SelfAccuser(Beast):
    """Sends itself the signal of the kernel's CPU limit, to make the host believe that it reached one.

    Stopped nowhere, and believed by nobody: the kernel's own count says otherwise: `died:SIGXCPU`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send SIGXCPU to itself."""
        os.kill(os.getpid(), signal.SIGXCPU)
        time.sleep(1)  # noqa: ASYNC251


class LimitRaiser(Beast):
    """Raises its own limits, on descriptors, on memory, on the size of files.

    Stopped by hard limits and by having no capability: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Ask for the highest limit that `input_data` or the present hard ones allow."""
        most = struct.pack("QQ", *[resource.RLIM_INFINITY % (1 << 64)] * 2)
        which = (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_DATA)
        return on_one(which, lambda number: libc("setrlimit", number, most))
