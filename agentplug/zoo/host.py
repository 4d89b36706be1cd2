"""Plugins that crash their own process, or interfere with others, the host above all (worker side)."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from agentplug.zoo._base import TargetPlugin, ZooPlugin, as_int, first_success, libc, syscall

_PTRACE_SEIZE = 0x4206
_IOPRIO_IDLE = 3 << 13
_TIOCSTI = 0x5412


class HostKiller(TargetPlugin):
    """Kills its parent, or other processes: the notebook's kernel, for example.

    Stopped by seccomp, which lets a worker signal only itself: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        os.kill(pid, signal.SIGKILL)
        return "killed"


class Quitter(ZooPlugin):
    """Ends its process at once, as a plugin in the host would end the notebook's kernel.

    Nothing needs to stop it: only the worker ends, and the host sees how: `died:exit 3`.
    """

    async def process(self, input_data: Any) -> Any:
        """Call `os._exit`, which skips every `finally` and `except`."""
        os._exit(3)


class Segfaulter(ZooPlugin):
    """Reads address zero through ctypes, as a bug in any compiled package might.

    Nothing needs to stop it: the kernel ends the worker, and the host goes on: `died:SIGSEGV`.
    """

    async def process(self, input_data: Any) -> Any:
        """Follow a null pointer."""
        return ctypes.string_at(0)


class Aborter(ZooPlugin):
    """Aborts, as a failed assertion in C does, which would leave a core dump of its memory.

    Nothing needs to stop it, and no core is written: `died:SIGABRT`.
    """

    async def process(self, input_data: Any) -> Any:
        """Call abort(3)."""
        os.abort()


class Starver(TargetPlugin):
    """Lowers another process's limit on descriptors, so that it can't open files or sockets any more.

    Stopped by seccomp, which allows no limit to be set; Landlock wouldn't stop it: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        return resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))


class Renicer(TargetPlugin):
    """Gives another process the lowest priority.

    Stopped by seccomp: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        os.setpriority(os.PRIO_PROCESS, pid, 19)


class Idler(TargetPlugin):
    """Moves another process into the scheduling class that only runs on an idle processor.

    Stopped by seccomp: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


class Pinner(TargetPlugin):
    """Pins another process to one processor, and could then keep that processor busy.

    Stopped by seccomp: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        os.sched_setaffinity(pid, {0})


class DiskStarver(TargetPlugin):
    """Makes another process's disk access wait for that of all others.

    Stopped by seccomp: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        return syscall("ioprio_set", 1, pid, _IOPRIO_IDLE)


class Scapegoater(TargetPlugin):
    """Makes another process the first to be killed when memory is short, and could then use up the memory.

    Stopped by Landlock, which opens no other process's files: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        return Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


class Tracer(TargetPlugin):
    """Traces another process as a debugger does, and could then control it.

    Stopped by seccomp, and by Landlock behind it: `failed:PermissionError`.
    """

    def attack(self, pid: int) -> Any:
        return syscall("ptrace", _PTRACE_SEIZE, pid, 0, 0)


class MemoryWriter(ZooPlugin):
    """Writes into another process's memory.

    Stopped by seccomp, and by Landlock behind it: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Overwrite the first bytes at each [process id, address] of `input_data`."""

        def write(place: list[int]) -> int:
            buffer = ctypes.create_string_buffer(b"owned")
            here = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 5)
            there = (ctypes.c_size_t * 2)(place[1], 5)
            return syscall("process_vm_writev", place[0], ctypes.addressof(here), 1, ctypes.addressof(there), 1, 0)

        return first_success(input_data or [[os.getppid(), 4096]], write)


class SelfPatcher(ZooPlugin):
    """Writes to its own code through /proc/self/mem, which ignores that pages are read-only.

    Stopped by Landlock: its own process's files can be read, not written: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Open the file to write."""
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            return memory.fileno()


class Typist(ZooPlugin):
    """Types commands into the user's terminal.

    Stopped because a worker has no terminal, and may open no device: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Type a comment into the terminal at `input_data`, or else into that of this session."""
        fd = os.open(str(input_data or "/dev/tty"), os.O_RDWR | os.O_NOCTTY)
        return fcntl.ioctl(fd, _TIOCSTI, b"#")


class Pesterer(ZooPlugin):
    """Makes refused calls again and again from many threads, to flood the host with events.

    Nothing needs to stop it: it uses its own CPU time, and the number of stored events has a bound: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make three refused calls `input_data` times, 20,000 unless a number is given, in four threads."""

        def pester() -> None:
            for _ in range(as_int(input_data, 20_000) // 4):
                with contextlib.suppress(OSError):
                    os.kill(os.getppid(), 0)
                with contextlib.suppress(OSError):
                    os.close(os.open("/etc/shadow", os.O_WRONLY))
                with contextlib.suppress(OSError):
                    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()

        threads = [threading.Thread(target=pester, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return "pestered"


class NameTaker(ZooPlugin):
    """Becomes another user: root, if it can.

    Stopped because a worker has no capability: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Change all user ids to 0, or to `input_data`."""
        libc("setresuid", *[input_data if isinstance(input_data, int) else 0] * 3)
        return os.getresuid()
