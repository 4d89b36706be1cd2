"""Plugins that multiply, or turn into something else (worker side)."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
from typing import Any, NoReturn

from agentplug.zoo._beast import Beast, number


class ForkBomb(Beast):
    """Forks, and so does every child of it, until the machine's process table is full.

    Stopped at the first fork by seccomp, which answers as a process limit does: `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fork without end, or `input_data` generations, each twice as many as the one before."""
        for _ in itertools.count() if input_data is None else range(number(input_data, 1)):
            os.fork()
        return "forked"


class Daemon(Beast):
    """Forks twice and starts a new session, to live on after the notebook is closed.

    With `Policy(processes=0)` it can't fork at all: `limited:processes`. Where processes are granted, the zygote
    adopts what the dead worker left behind, and ends it.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave a grandchild behind that sleeps for an hour."""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv("/bin/sleep", ["sleep", "3600"])
            os._exit(0)
        return "gone"


class Changeling(Beast):
    """Becomes another program, whose code nobody has verified.

    Stopped by seccomp, which doesn't know `execve` where no process is granted: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Turn into `true`."""
        os.execv("/bin/true", ["true"])


class ShellRunner(Beast):
    """Runs a command in a shell, as half of all attacks begin.

    Stopped where a shell would be forked off: `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Ask the shell who we are."""
        return subprocess.run(["/bin/sh", "-c", "id"], capture_output=True, text=True, check=True).stdout


class ThreadBomb(Beast):
    """Starts threads until the machine has no more.

    Stopped by the watchdog, or by the kernel where it counts them in a cgroup: `limited:threads`.
    """

    async def process(self, input_data: Any) -> Any:
        """Start 2,000 threads that sleep."""
        threading.stack_size(1 << 16)
        for _ in range(number(input_data, 2000)):
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        time.sleep(0.2)  # noqa: ASYNC251
        return threading.active_count()


class Swarm(Beast):
    """A fork bomb that was granted a few processes, and whose children ignore every signal that they can.

    Stopped by the watchdog, which counts descendants, and ended by the kernel's pidfd, which none can ignore:
    `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fork 40 children that only wait."""
        for _ in range(number(input_data, 40)):
            if os.fork() == 0:
                _wait_for_ever()
        time.sleep(5)  # noqa: ASYNC251
        return "swarming"


class Straggler(Beast):
    """Was granted a few processes and leaves one behind: orphaned, in a session of its own, deaf to signals.

    Its answer counts: `completed`. The orphan ends with its worker, because it comes to the zygote, which ends it.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave a grandchild behind that waits for ever."""
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                _wait_for_ever()
            os._exit(0)
        os.waitpid(child, 0)  # noqa: ASYNC222
        return "gone"


class ZombieKeeper(Beast):
    """Was granted a few processes and never asks how they ended: each keeps its place in the process table.

    Stopped by the watchdog; the dead count too: `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Let 40 children die unburied."""
        for _ in range(number(input_data, 40)):
            if os.fork() == 0:
                os._exit(0)
        time.sleep(5)  # noqa: ASYNC251
        return "undead"


class ThreadingChild(Beast):
    """Was granted one process, and starts its threads there, where nobody counts its own.

    Stopped because the threads of all its processes count together: `limited:threads`.
    """

    async def process(self, input_data: Any) -> Any:
        """Start 300 threads in a child; as many as it could."""
        reader, writer = os.pipe()
        most = number(input_data, 300)
        if os.fork() == 0:
            started = 0
            with contextlib.suppress(RuntimeError):
                threading.stack_size(1 << 16)
                for started in range(1, most + 1):  # noqa: B007
                    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
                started += 1
            os.write(writer, started.to_bytes(4, "little"))
            time.sleep(0.3)  # noqa: ASYNC251
            os._exit(0)
        if int.from_bytes(os.read(reader, 4), "little") <= most:
            raise RuntimeError("can't start new thread")
        time.sleep(0.2)  # noqa: ASYNC251
        return most


class Hopper(Beast):
    """Was granted a few processes and lives in a chain of them, in which each ends once it has forked the next.

    Stopped by the watchdog: those that have ended and were never asked how count too: `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Hop for `input_data` seconds, 30 unless a number is given."""
        until = time.monotonic() + number(input_data, 30)
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                while time.monotonic() < until:
                    if os.fork():
                        break
                    time.sleep(0.001)  # noqa: ASYNC251
            os._exit(0)
        time.sleep(number(input_data, 30))  # noqa: ASYNC251
        return "hopped"


def _wait_for_ever() -> NoReturn:
    for name in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(name, signal.SIG_IGN)
    while True:
        signal.pause()
