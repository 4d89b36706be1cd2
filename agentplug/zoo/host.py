"""Plugins that take down the process they run in, or lay hands on others: the host first (worker side)."""

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

from agentplug.zoo._beast import Beast, libc, number, on_one, processes, syscall

_PTRACE_SEIZE = 0x4206
_IOPRIO_IDLE = 3 << 13
_TIOCSTI = 0x5412


class HostKiller(Beast):
    """Kills its parent, or the processes whose ids it is given: the notebook's kernel, say.

    Stopped by seccomp, which lets a worker's signals reach that worker alone: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send SIGKILL to the processes `input_data`, or else to the parent."""
        on_one(processes(input_data), lambda pid: os.kill(pid, signal.SIGKILL))
        return "killed"


class Quitter(Beast):
    """Ends its process at once, without a word, as a plugin in the host would end the notebook's kernel.

    Nothing needs to stop it: the worker is its own, and the host sees how it ended: `died:exit 3`.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave through `os._exit`, past every `finally` and `except`."""
        os._exit(3)


class Segfaulter(Beast):
    """Reads address zero through ctypes, as a defect in any compiled package might.

    Nothing needs to stop it: the kernel ends the worker, and the host goes on: `died:SIGSEGV`.
    """

    async def process(self, input_data: Any) -> Any:
        """Follow a null pointer."""
        return ctypes.string_at(0)


class Aborter(Beast):
    """Aborts, as a failed assertion in C does, and would leave a core of all it held in memory.

    Nothing needs to stop it, and no core is written: `died:SIGABRT`.
    """

    async def process(self, input_data: Any) -> Any:
        """Call abort(3)."""
        os.abort()


class Starver(Beast):
    """Takes the descriptors away from a process, so that it can't open a file or a socket any more.

    Stopped by seccomp, which lets nobody's limits be set; Landlock wouldn't: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Limit each process of `input_data`, or else the parent, to three."""
        return on_one(processes(input_data), lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3)))


class Renicer(Beast):
    """Gives another process the lowest priority there is.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Renice each process of `input_data`, or else the parent."""
        return on_one(processes(input_data), lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19))


class Idler(Beast):
    """Moves another process into the class that runs when nobody else wants to.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Do so to each process of `input_data`, or else to the parent."""
        nothing = os.sched_param(0)
        return on_one(processes(input_data), lambda pid: os.sched_setscheduler(pid, os.SCHED_IDLE, nothing))


class Pinner(Beast):
    """Pins another process to one processor, and could then keep that one busy.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Pin each process of `input_data`, or else the parent, to the first processor."""
        return on_one(processes(input_data), lambda pid: os.sched_setaffinity(pid, {0}))


class DiskStarver(Beast):
    """Lets another process's reads and writes wait until nobody else has any.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Do so to each process of `input_data`, or else to the parent."""
        return on_one(processes(input_data), lambda pid: syscall("ioprio_set", 1, pid, _IOPRIO_IDLE))


class Scapegoater(Beast):
    """Makes another process the first to be killed when memory is short, and then there is its own hunger.

    Stopped by Landlock, which opens no other process's files: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write to each process of `input_data`, or else to the parent."""
        return on_one(processes(input_data), lambda pid: Path(f"/proc/{pid}/oom_score_adj").write_text("1000"))


class Tracer(Beast):
    """Traces another process as a debugger does, and could then do anything in its name.

    Stopped by seccomp, and by Landlock behind it: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Seize each process of `input_data`, or else the parent."""
        return on_one(processes(input_data), lambda pid: syscall("ptrace", _PTRACE_SEIZE, pid, 0, 0))


class MemoryWriter(Beast):
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

        return on_one(input_data or [[os.getppid(), 4096]], write)


class SelfPatcher(Beast):
    """Writes to its own code through /proc/self/mem, for which no page is read-only.

    Stopped by Landlock, which lets it read its own process's files and not write: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Open it to write."""
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            return memory.fileno()


class Typist(Beast):
    """Types commands into the user's terminal, as if they sat there.

    Stopped because a worker has none, and may open no device: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Type a comment into the terminal at `input_data`, or else into that of this session."""
        fd = os.open(str(input_data or "/dev/tty"), os.O_RDWR | os.O_NOCTTY)
        return fcntl.ioctl(fd, _TIOCSTI, b"#")


class Pesterer(Beast):
    """Asks for what it can't have, again and again from many threads: each refusal might be an event to keep.

    Nothing needs to stop it: it spends its own time on that, and what is kept of refusals has a bound: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Try three forbidden things `input_data` times, 20,000 unless a number is given, in four threads."""

        def pester() -> None:
            for _ in range(number(input_data, 20_000) // 4):
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


class NameTaker(Beast):
    """Becomes another user: root, if it can.

    Stopped by having no capability: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Change all user ids to 0, or to `input_data`."""
        libc("setresuid", *[input_data if isinstance(input_data, int) else 0] * 3)
        return os.getresuid()
