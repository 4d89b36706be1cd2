"""The process of a zygote: started out of reach of debuggers, and watched until it is ready (host).

Debuggers replace the functions of `os`, `subprocess` and `_posixsubprocess` that start processes, so that each new
Python connects to them and perhaps waits for ever. They leave `posix` alone, which has the function itself:
posix_spawn(3). The process gets nothing of this one but its arguments and three descriptors.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence

from agentplug.contract.text import printable
from agentplug.core.boundary.child_processes import descendants
from agentplug.core.host.scratch_root import ScratchRoot

if sys.platform == "linux":  # missing elsewhere
    import fcntl

LOOK_S = 1.0
STILL_S = 20.0
"""A start may take as long as it works: this is the longest time without 1 ms of CPU in a second. A slow import on a
busy machine or a slow disk always gets that; a wait for something that never comes doesn't."""
START_CPU_S = 120.0
"""CPU time of a start; preloads take seconds."""
_WORKS_NS = 1_000_000
_CONTROL_FD, _ROOT_FD = 3, 4
_MOST_WORDS = 2_000
_BOOTSTRAP = """
import os, sys
os.chdir("/")
for fd in map(int, os.listdir("/proc/self/fd")):
    os.closerange(max(fd, 5), fd + 1)
import json
paths, prefixes, arguments = map(json.loads, sys.argv[1:4])
sys.argv[1:] = []
sys.path[:] = paths
sys.prefix, sys.exec_prefix = prefixes
from agentplug.core.worker.zygote import main
sys.dont_write_bytecode = True  # from here on: without its own, each start would compile the zygote anew
main(*arguments)
"""


class ZygoteProcess:
    """A zygote's keeper, which becomes its parent: `pid`, and `returncode` once it has ended."""

    def __init__(self, path: Sequence[str], control_fd: int, root: ScratchRoot, preload: Sequence[str]) -> None:
        """Start it, in a session of its own, with `path` as its `sys.path`. Raises `OSError`."""
        import posix  # not on every system

        zygotes = [_CONTROL_FD, _ROOT_FD, root.path, list(preload)]
        arguments = [list(path), [sys.prefix, sys.exec_prefix], zygotes]
        command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, *map(json.dumps, arguments)]
        self.returncode: int | None = None
        self._used_ns = self._still_s = 0.0
        self._words_fd = os.memfd_create("agentplug-words")
        with contextlib.ExitStack() as if_it_fails, contextlib.ExitStack() as copies:
            if_it_fails.callback(self.stop_listening)
            actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
            for fd in (0, 1):
                actions.append((os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0))
            for target, source in ((2, self._words_fd), (_CONTROL_FD, control_fd), (_ROOT_FD, root.descriptor)):
                copy = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _ROOT_FD + 1)  # no target of another
                copies.callback(os.close, copy)
                actions.append((os.POSIX_SPAWN_DUP2, copy, target))
            self.pid: int = posix.posix_spawn(
                sys.executable,
                command,
                _environment(),
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            )
            if_it_fails.pop_all()

    def reason_to_end(self) -> str:
        """Return the reason to end a start that isn't ready yet, or "". Call it every `LOOK_S` seconds."""
        used_ns = sum(map(_cpu_ns, (self.pid, *descendants(self.pid))))
        self._still_s = self._still_s + LOOK_S if used_ns - self._used_ns < _WORKS_NS else 0.0
        self._used_ns = used_ns
        if self._still_s >= STILL_S:
            return f"it stood still for {STILL_S:.0f} s before it was ready, as if it waited for something"
        if used_ns > START_CPU_S * 1e9:
            return f"it wasn't ready after {START_CPU_S:.0f} s of CPU time"
        return ""

    def words(self) -> str:
        """Return the end of what it wrote to stderr before it was ready, made printable."""
        if self._words_fd < 0:
            return ""
        size = os.fstat(self._words_fd).st_size
        text = os.pread(self._words_fd, _MOST_WORDS, max(0, size - _MOST_WORDS)).decode(errors="replace")
        return printable(text.strip(), _MOST_WORDS, lines=True)

    def stop_listening(self) -> None:
        """Forget its stderr: it is ready, or gone."""
        if self._words_fd >= 0:
            os.close(self._words_fd)
            self._words_fd = -1

    def kill(self) -> None:
        """Send SIGKILL to it."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def kill_start(self) -> None:
        """Send SIGKILL to it, and to the zygote and what that started: there is no worker yet."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for its end. Raises `TimeoutError`."""
        until_s = time.monotonic() + (timeout_s or 0.0)
        while self.returncode is None:
            try:
                ended, status = os.waitpid(self.pid, os.WNOHANG if timeout_s is not None else 0)
            except ChildProcessError:
                ended, status = self.pid, 0  # somebody else waited for it, or SIGCHLD is ignored
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until_s:
                raise TimeoutError
            else:
                select.select((), (), (), 0.002)


def _cpu_ns(pid: int) -> int:
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


def _environment() -> dict[str, str]:
    """Return the variables that the zygote needs to start and preload. It clears them before the first worker."""
    library_path = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    # One arena: RLIMIT_AS counts 64 MiB for each, and OpenBLAS threads in a zygote would not survive the fork.
    return library_path | {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "MALLOC_ARENA_MAX": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
