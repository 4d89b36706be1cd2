"""Start zygotes, ask them for workers, and pass on their news (host).

There is one zygote for each set of preloaded modules, from its first use until the host ends.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import msgspec

from agentplug.core.boundary.bounds import MAX_MESSAGE_BYTES
from agentplug.core.boundary.frames import Plan, SpawnRequest, ZygoteNews
from agentplug.core.boundary.remove_tree import remove_tree
from agentplug.core.host.plans import worker_path
from agentplug.core.host.watchdog import watchdog
from agentplug.errors import BarrierUnavailable, PolicyError

_AT_ONCE = 8
_BOOTSTRAP = """
import json, sys
paths, prefixes, arguments = map(json.loads, sys.argv[1:4])
sys.argv[1:] = []
sys.path[:] = paths
sys.prefix, sys.exec_prefix = prefixes
from agentplug.core.worker.zygote import main
sys.dont_write_bytecode = True  # from here on: without its own, each start would compile the zygote anew
main(*arguments)
"""


class Spawned(NamedTuple):
    """A new worker: its pid, a pidfd that names it for good, and its scratch directory."""

    pid: int
    pidfd: int
    scratch: str


class Zygote:
    """One zygote process and its workers. `process` is its parent, the keeper."""

    def __init__(self, preload: tuple[str, ...]) -> None:
        self.preload = preload
        self._lock = threading.Lock()
        self._serial = 0
        self._pending: dict[int, Future[Spawned]] = {}
        self._listeners: dict[int, Callable[[ZygoteNews], None]] = {}
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        self.gone: str | None = None
        self._ready: Future[int] = Future()
        with contextlib.ExitStack() as if_it_fails:
            try:
                self._start(preload, if_it_fails)
            except (OSError, RuntimeError) as error:  # RuntimeError: the watchdog's thread can't be started
                raise BarrierUnavailable(f"No worker can be started: its zygote can't: {error}") from None
            if_it_fails.pop_all()

    def _start(self, preload: tuple[str, ...], if_it_fails: contextlib.ExitStack) -> None:
        dog = watchdog()
        self.scratch_root = tempfile.mkdtemp(prefix="agentplug-")
        if_it_fails.callback(os.rmdir, self.scratch_root)  # it is empty, and `remove_tree` would need a descriptor
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if_it_fails.callback(self._control.close)
        arguments = [theirs.fileno(), self.scratch_root, list(preload)]
        prefixes = [sys.prefix, sys.exec_prefix]
        command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP]
        with theirs:
            self.process = subprocess.Popen(
                [*command, json.dumps(worker_path()), json.dumps(prefixes), json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_zygote_environment(),
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        if_it_fails.callback(self.process.wait)
        if_it_fails.callback(self.process.kill)
        self._control.setblocking(False)
        dog.listen(self._control.fileno(), self._take_news)

    @property
    def pid(self) -> int:
        """The zygote's own pid. Waits until the zygote is ready; raises `BarrierUnavailable` if it can't start."""
        return self._ready.result()

    def spawn(self, plan: Plan, fds: list[int], listener: Callable[[ZygoteNews], None]) -> Future[Spawned]:
        """Request a worker with `fds` as channel, stdout and stderr. `listener` gets the news of its end."""
        future: Future[Spawned] = Future()
        with self._lock:
            if self.gone is not None:
                future.set_exception(_zygote_gone(self.preload, self.gone))
                return future
            self._serial += 1
            token = self._serial
            self._pending[token] = future
            self._listeners[token] = listener
            message = msgspec.msgpack.encode(SpawnRequest(token, plan))
            if len(message) > MAX_MESSAGE_BYTES:
                del self._pending[token], self._listeners[token]
                future.set_exception(
                    PolicyError(f"read and write hold {len(message)} bytes in all; at most {MAX_MESSAGE_BYTES}")
                )
                return future
            copies: list[int] = []
            try:
                for fd in fds:
                    copies.append(os.dup(fd))
            except OSError as error:
                for fd in copies:
                    os.close(fd)
                del self._pending[token], self._listeners[token]
                future.set_exception(out_of_descriptors(error.strerror))
                return future
            self._outbox.append((message, copies))
            self._send()
        return future

    def _send(self) -> None:
        """Send requests without waiting; the zygote's next news calls this again.

        The zygote gets a few requests at a time: the kernel bounds the descriptors of a user that are in transit, and
        for a worker, which sends one too, this bound is its own low limit.
        """
        while self._outbox and len(self._pending) - len(self._outbox) < _AT_ONCE:
            message, fds = self._outbox[0]
            try:
                socket.send_fds(self._control, [message], fds)
            except BlockingIOError:
                return
            except OSError:
                pass  # the zygote is gone: `_lost` answers every request
            self._outbox.popleft()
            for fd in fds:
                os.close(fd)

    def _take_news(self) -> None:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it ended with requests unread; its last news follow this error
            except OSError:
                data, fds = b"", []
            if not data:
                self._lost("its process ended")
                return
            news = msgspec.msgpack.decode(data, type=ZygoteNews)
            self._pass_on(news, fds)

    def _pass_on(self, news: ZygoteNews, fds: list[int]) -> None:
        with self._lock:
            future = self._pending.pop(news.token, None) if news.what in ("spawned", "refused") else None
            self._send()
        if news.what == "ready":
            self._ready.set_result(news.pid)
        elif news.what == "failed":
            self._lost(news.status)
        elif news.what in ("spawned", "refused"):
            if news.what == "spawned":
                if future is None or not future.set_running_or_notify_cancel():
                    for fd in fds:
                        os.close(fd)
                elif fds:
                    future.set_result(Spawned(news.pid, fds[0], f"{self.scratch_root}/{news.token}"))
                else:  # recvmsg(2) drops what doesn't fit; the worker ends when its channel closes
                    future.set_exception(out_of_descriptors("Too many open files"))
            elif future is not None and future.set_running_or_notify_cancel():
                with self._lock:
                    self._listeners.pop(news.token, None)
                future.set_exception(BarrierUnavailable(f"No worker can be started: {news.status}"))
        elif news.what in ("exited", "wiped"):
            with self._lock:
                listener = self._listeners.get(news.token)
                if news.what == "wiped":
                    self._listeners.pop(news.token, None)
            if listener is not None:
                listener(news)

    def _lost(self, reason: str) -> None:
        with self._lock:
            if self.gone is not None:
                return
            self.gone = reason
            pending, self._pending = list(self._pending.values()), {}
            listeners, self._listeners = list(self._listeners.values()), {}
            for _, fds in self._outbox:
                for fd in fds:
                    os.close(fd)
            self._outbox.clear()
        watchdog().ignore(self._control.fileno())
        self._control.close()
        with _registry_lock:
            if _registry.get(self.preload) is self:
                del _registry[self.preload]
        self._reap()
        if not self._ready.done():
            self._ready.set_exception(_zygote_gone(self.preload, reason))
        for future in pending:
            if future.set_running_or_notify_cancel():
                future.set_exception(_zygote_gone(self.preload, reason))
        for listener in listeners:  # PDEATHSIG killed its workers with it
            listener(ZygoteNews("exited", status="SIGKILL"))
            listener(ZygoteNews("wiped"))

    def _reap(self) -> None:
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            os.rmdir(self.scratch_root)
        if os.path.exists(self.scratch_root):  # it was killed; its workers' folders may be deep or unreadable
            remove_tree(self.scratch_root)

    def close(self) -> None:
        """End the zygote and its workers, and wait for their end."""
        self._lost("closed")

    def abandon(self) -> None:
        """Close our copy of its socket, in a forked child: else the zygote wouldn't notice the host's end."""
        with contextlib.suppress(OSError):
            self._control.close()
        self.gone = "belongs to the parent process"
        self.process.returncode = 0  # it isn't our child


def out_of_descriptors(reason: str | None) -> BarrierUnavailable:
    """Build the error for a host that has no descriptors left for a worker."""
    return BarrierUnavailable(
        f"No worker can be started: {reason}. Each takes about ten descriptors of this process; "
        "close plugins, or raise its limit (ulimit -n)"
    )


def _zygote_gone(preload: tuple[str, ...], reason: str) -> Exception:
    if preload and reason.startswith("preload"):
        return PolicyError(reason)
    return BarrierUnavailable(f"No worker can be started: the zygote is gone ({reason}); the next start makes one")


_registry: dict[tuple[str, ...], Zygote] = {}
_registry_lock = threading.RLock()
_all: weakref.WeakSet[Zygote] = weakref.WeakSet()


def zygote_for(preload: tuple[str, ...] = ()) -> Zygote:
    """Return the zygote with the modules `preload`, started if need be. Raises `BarrierUnavailable` off Linux."""
    if sys.platform != "linux":
        raise BarrierUnavailable(
            f"Confined workers need Linux (Landlock, seccomp, pidfds); this is {sys.platform}. "
            "Use a Linux machine, a container or Binder"
        )
    with _registry_lock:
        zygote = _registry.get(preload)
        if zygote is None:
            if not _registry:
                atexit.register(close_all)
            zygote = _registry[preload] = Zygote(preload)
            _all.add(zygote)
        return zygote


def close_all() -> None:
    """End every zygote and every worker."""
    with _registry_lock:
        zygotes = list(_registry.values())
        _registry.clear()
    for zygote in zygotes:
        zygote.close()


def _after_fork() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()
    for zygote in list(_all):
        zygote.abandon()
    _registry.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _zygote_environment() -> dict[str, str]:
    """Return the variables that the zygote needs to start and preload. It clears them before the first worker."""
    library_path = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    # One arena: RLIMIT_AS counts 64 MiB for each, and OpenBLAS threads in a zygote would not survive the fork.
    return library_path | {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "MALLOC_ARENA_MAX": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
