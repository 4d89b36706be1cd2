"""Plugins that send signals, to others and to themselves, or ignore them (worker side)."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import struct
import time
from typing import Any

from agentplug.zoo._base import TargetPlugin, ZooPlugin, as_int, first_success, libc, prctl, syscall, target_pids

_F_SETOWN, _F_SETSIG = 8, 10
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


class Stopper(TargetPlugin):
    """Stops processes with SIGSTOP instead of killing them.

    Stopped by seccomp, which lets a worker signal only itself: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        os.kill(pid, signal.SIGSTOP)


class GroupKiller(ZooPlugin):
    """Kills groups of processes, with 0 or a negative process id.

    Stopped by seccomp, which refuses such ids: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Signal the groups of the processes `input_data`, or else its own group."""
        groups = [-os.getpgid(pid) for pid in target_pids(input_data)] if input_data else [0]
        return first_success(groups, lambda group: os.kill(group, signal.SIGTERM))


class ThreadKiller(TargetPlugin):
    """Signals a thread of another process, with a call that names the process twice.

    Stopped by seccomp: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        return syscall("tgkill", pid, pid, signal.SIGKILL)


class QueueKiller(TargetPlugin):
    """Queues a signal, which can have a forged sender.

    Stopped by seccomp: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        return libc("sigqueue", pid, int(signal.SIGKILL), None)


class HandleKiller(TargetPlugin):
    """Signals through a pidfd, past checks of process ids.

    Stopped by seccomp, which refuses `pidfd_open`: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)


class OwnerKiller(TargetPlugin):
    """Makes another process the owner of a pipe; the kernel then sends it any signal when there is input.

    Stopped by seccomp, which allows `fcntl` only for listed commands: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        reader, writer = os.pipe()
        fcntl.fcntl(reader, _F_SETOWN, pid)
        fcntl.fcntl(reader, _F_SETSIG, int(signal.SIGKILL))
        fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        return os.write(writer, b"x")


class Undying(ZooPlugin):
    """Clears its parent-death signal, to outlive the notebook.

    Stopped by seccomp, which allows `prctl` only for listed options: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Clear the signal."""
        return prctl(_PR_SET_PDEATHSIG, 0)


class Hider(ZooPlugin):
    """Makes itself undumpable, which hides the host's readings: its I/O, its maps, its high-water mark.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Clear the flag."""
        return prctl(_PR_SET_DUMPABLE, 0)


class SelfStopper(ZooPlugin):
    """Stops itself, until it is continued.

    Stopped by the watchdog's clock; SIGKILL also ends stopped processes: `limited:wall`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send SIGSTOP to itself."""
        os.kill(os.getpid(), signal.SIGSTOP)
        return "woken"


class Deaf(ZooPlugin):
    """Ignores and blocks every signal, SIGXCPU too, and sleeps.

    Stopped by SIGKILL, which can't be ignored: `limited:wall`.
    """

    async def process(self, input_data: Any) -> Any:
        """Ignore signals for `input_data` seconds, an hour unless a number is given."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for name in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if name < signal.SIGRTMIN:
                signal.signal(name, signal.SIG_IGN)
        until = time.monotonic() + as_int(input_data, 3600)
        while time.monotonic() < until:
            time.sleep(0.05)  # noqa: ASYNC251
        return "slept"


class SelfAccuser(ZooPlugin):
    """Sends itself the signal of the kernel's CPU limit, to forge a verdict.

    Nothing needs to stop it: the host compares the kernel's count of CPU time: `died:SIGXCPU`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send SIGXCPU to itself."""
        os.kill(os.getpid(), signal.SIGXCPU)
        time.sleep(1)  # noqa: ASYNC251


class LimitRaiser(ZooPlugin):
    """Raises its own limits on descriptors, memory and file sizes.

    Stopped by hard limits, and because a worker has no capability: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Set each limit to infinity."""
        most = struct.pack("QQ", *[resource.RLIM_INFINITY % (1 << 64)] * 2)
        which = (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_DATA)
        return first_success(which, lambda number: libc("setrlimit", number, most))
