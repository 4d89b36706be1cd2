"""Plugins that start processes, threads or programs (worker side)."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
from typing import Any, NoReturn

from agentplug.zoo._base import ZooPlugin, as_int


class ForkBomb(ZooPlugin):
    """Forks, and so does each child, until the machine's process table is full.

    Stopped at the first fork by seccomp, which answers EAGAIN, as a process limit does: `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fork without end, or for `input_data` generations."""
        for _ in itertools.count() if input_data is None else range(as_int(input_data, 1)):
            os.fork()
        return "forked"


class Daemon(ZooPlugin):
    """Forks twice and tries for a new session, to outlive the notebook.

    With `Policy(processes=0)` it can't fork: `limited:processes`. If processes are granted, the zygote adopts the
    processes that a dead worker leaves behind, and ends them.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave a grandchild behind that sleeps for an hour."""
        if os.fork() == 0:
            _leave_session()
            if os.fork() == 0:
                os.execv("/bin/sleep", ["sleep", "3600"])
            os._exit(0)
        return "gone"


class Changeling(ZooPlugin):
    """Becomes another program, whose code was never verified.

    Stopped by seccomp, which refuses `execve` if no process is granted: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Turn into `true`."""
        os.execv("/bin/true", ["true"])


class ShellRunner(ZooPlugin):
    """Runs a command in a shell.

    Stopped when it forks: `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Run `id` in the shell."""
        return subprocess.run(["/bin/sh", "-c", "id"], capture_output=True, text=True, check=True).stdout


class ThreadBomb(ZooPlugin):
    """Starts threads until the machine has no more.

    Stopped by the watchdog, or by the kernel if there is a cgroup: `limited:threads`.
    """

    async def process(self, input_data: Any) -> Any:
        """Start 2,000 threads that sleep."""
        threading.stack_size(1 << 16)
        for _ in range(as_int(input_data, 2000)):
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        time.sleep(0.2)  # noqa: ASYNC251
        return threading.active_count()


class Swarm(ZooPlugin):
    """A fork bomb with a few granted processes, whose children ignore all signals that can be ignored.

    Stopped by the watchdog, which counts descendants and kills them through pidfds: `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fork 40 children that only wait."""
        for _ in range(as_int(input_data, 40)):
            if os.fork() == 0:
                _wait_for_ever()
        time.sleep(5)  # noqa: ASYNC251
        return "swarming"


class Straggler(ZooPlugin):
    """Was granted a few processes and leaves one behind: orphaned, in a process group of its own, ignoring signals.

    Its answer counts: `completed`. The zygote adopts the orphan, and ends it with the worker.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave a grandchild behind that waits for ever."""
        child = os.fork()
        if child == 0:
            _leave_session()
            if os.fork() == 0:
                _wait_for_ever()
            os._exit(0)
        os.waitpid(child, 0)  # noqa: ASYNC222
        return "gone"


class ZombieKeeper(ZooPlugin):
    """Was granted a few processes and never waits for them: each stays in the process table as a zombie.

    Stopped by the watchdog, which counts zombies too: `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave 40 zombies."""
        for _ in range(as_int(input_data, 40)):
            if os.fork() == 0:
                os._exit(0)
        time.sleep(5)  # noqa: ASYNC251
        return "undead"


class ThreadingChild(ZooPlugin):
    """Was granted one process, and starts its threads there.

    Stopped because the threads of all its processes are counted together: `limited:threads`.
    """

    async def process(self, input_data: Any) -> Any:
        """Start 300 threads in a child, or `input_data` of them."""
        reader, writer = os.pipe()
        most = as_int(input_data, 300)
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
        started = int.from_bytes(os.read(reader, 4), "little")
        time.sleep(0.2)  # noqa: ASYNC251  (the child's threads are there to be seen)
        if started <= most:
            raise RuntimeError("can't start new thread")
        return most


class Hopper(ZooPlugin):
    """Was granted a few processes and lives in a chain of them: each forks the next and ends.

    Stopped by the watchdog, which counts zombies too: `limited:processes`.
    """

    async def process(self, input_data: Any) -> Any:
        """Hop for `input_data` seconds, 30 unless a number is given."""
        until = time.monotonic() + as_int(input_data, 30)
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                while time.monotonic() < until:
                    if os.fork():
                        break
                    time.sleep(0.001)  # noqa: ASYNC251
            os._exit(0)
        time.sleep(as_int(input_data, 30))  # noqa: ASYNC251
        return "hopped"


class Mayfly(ZooPlugin):
    """Was granted a few processes and works in children that live for 4 ms, whose time the kernel adds to nobody's.

    Stopped by the watchdog, which samples the children that it finds running: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Ignore SIGCHLD and use `input_data` seconds, 30 unless a number is given, in one child after the other."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        until = time.monotonic() + as_int(input_data, 30)
        while time.monotonic() < until:
            reader, writer = os.pipe()
            if os.fork() == 0:
                while time.process_time() < 0.004:
                    pass
                os._exit(0)
            os.close(writer)
            os.read(reader, 1)
            os.close(reader)
        return "unseen"


def _leave_session() -> None:
    try:
        os.setsid()
    except PermissionError:
        os.setpgid(0, 0)  # a process group of its own is not refused


def _wait_for_ever() -> NoReturn:
    for name in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(name, signal.SIG_IGN)
    while True:
        signal.pause()
