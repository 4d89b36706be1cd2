"""Start zygotes, ask them for workers, and pass on their news (host).

There is one zygote for each set of preloaded modules, from its first use until the host ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import socket
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import msgspec

from agentplug.contract.text import printable
from agentplug.core.boundary.bounds import MAX_MESSAGE_BYTES
from agentplug.core.boundary.frames import Plan, SpawnRequest, ZygoteNews
from agentplug.core.host.own_limits import low_limits, make_room
from agentplug.core.host.plans import worker_path
from agentplug.core.host.scratch_root import ScratchRoot
from agentplug.core.host.watchdog import watchdog
from agentplug.core.host.zygote_process import LOOK_S, ZygoteProcess
from agentplug.core.sources.names import modules_in, near_match
from agentplug.errors import BarrierUnavailable, PolicyError

_AT_ONCE = 8
_NO_MODULE = re.compile(r"preload: '(\w+)' can't be imported: ModuleNotFoundError: No module named '\1'")


class Spawned(NamedTuple):
    """A new worker: its pid, a pidfd that names it for good, the path of its scratch directory, and another path to
    it that leads through the root's descriptor."""

    pid: int
    pidfd: int
    scratch: str
    open_scratch: str


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
        self._ends_unused = False
        self._ready: Future[int] = Future()
        with contextlib.ExitStack() as if_it_fails:
            try:
                self._start(preload, if_it_fails)
            except (OSError, RuntimeError) as error:  # RuntimeError: the watchdog's thread can't be started
                raise BarrierUnavailable(
                    f"No worker can be started: its zygote can't: {error}{low_limits()}"
                ) from None
            if_it_fails.pop_all()

    def _start(self, preload: tuple[str, ...], if_it_fails: contextlib.ExitStack) -> None:
        dog = watchdog()
        self._root = ScratchRoot()
        if_it_fails.callback(self._root.remove)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if_it_fails.callback(self._control.close)
        with theirs:
            self.process = ZygoteProcess(worker_path(), theirs.fileno(), self._root, preload)
        if_it_fails.callback(self.process.stop_listening)
        if_it_fails.callback(self.process.wait)
        if_it_fails.callback(self.process.kill)
        self._control.setblocking(False)
        dog.listen(self._control.fileno(), self._take_news)
        dog.watch(self)

    def tick(self, crowd: int) -> float:
        """End a zygote that doesn't become ready. For the watchdog."""
        if self._ready.done():
            return float("inf")
        if reason := self.process.reason_to_end():
            self.process.kill_start()
            self._lost(reason)
        return LOOK_S

    @property
    def pid(self) -> int:
        """The zygote's own pid. Waits until the zygote is ready; raises `BarrierUnavailable` if it can't start."""
        return self._ready.result()

    @property
    def scratch_root(self) -> str:
        """The path of the folder around its workers' scratch directories."""
        return self._root.path

    def spawn(self, plan: Plan, fds: list[int], listener: Callable[[ZygoteNews], None]) -> Future[Spawned]:
        """Request a worker with `fds` as channel, stdout and stderr. `listener` gets the news of its end.

        Raises `PolicyError` if the plan grants the scratch root.
        """
        for field, grants in (("read", plan.read), ("write", plan.write)):
            for granted in grants:
                if (granted.device, granted.inode) in self._root.around:
                    raise PolicyError(
                        f"{field}: {printable(repr(granted.path), 300)} holds the scratch directories of plugins, "
                        f"{printable(self._root.path, 300)}; grant the folders in it that are needed"
                    )
        future: Future[Spawned] = Future()
        with self._lock:
            if self.gone is not None:
                future.set_exception(_zygote_gone(self.preload, self.gone))
                return future
            self._ends_unused = False
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
            self.process.stop_listening()
            watchdog().forget(self)
        elif news.what == "failed":
            self._lost(news.status)
        elif news.what in ("spawned", "refused"):
            if news.what == "spawned":
                if future is None or not future.set_running_or_notify_cancel():
                    for fd in fds:
                        os.close(fd)
                elif fds:
                    name = str(news.token)
                    scratch = f"{self._root.path}/{name}"
                    future.set_result(Spawned(news.pid, fds[0], scratch, self._root.scratch_of(name)))
                else:  # recvmsg(2) drops what doesn't fit; the worker ends when its channel closes
                    future.set_exception(out_of_descriptors("Too many open files"))
            elif future is not None and future.set_running_or_notify_cancel():
                with self._lock:
                    self._listeners.pop(news.token, None)
                future.set_exception(BarrierUnavailable(f"No worker can be started: {news.status}{low_limits()}"))
        elif news.what in ("exited", "wiped"):
            with self._lock:
                listener = self._listeners.get(news.token)
                if news.what == "wiped":
                    self._listeners.pop(news.token, None)
                    self._end_if_unused()
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
        watchdog().forget(self)
        watchdog().ignore(self._control.fileno())
        self._control.close()
        with _registry_lock:
            if _registry.get(self.preload) is self:
                del _registry[self.preload]
        self._reap()
        if (words := self.process.words()) and not reason.startswith("preload"):
            reason = f"{reason}; it said: {words}"
        self.process.stop_listening()
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
        except TimeoutError:
            self.process.kill()
            self.process.wait()
        self._root.remove()  # if it was killed, its workers' folders may be deep or unreadable

    def close(self) -> None:
        """End the zygote and its workers, and wait for their end."""
        self._lost("closed")

    def close_unused(self) -> None:
        """End the zygote now if it has no worker, else after its last one; but not if another is asked for before."""
        with self._lock:
            self._ends_unused = True
            if self._listeners:
                return
        self.close()

    def _end_if_unused(self) -> None:
        """Hang up after the last worker; the zygote then ends. Callers hold the lock."""
        if self._ends_unused and not self._listeners:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Close our copy of its socket, in a forked child: else the zygote wouldn't notice the host's end."""
        with contextlib.suppress(OSError):
            self._control.close()
        self._root.abandon()
        self.gone = "belongs to the parent process"
        self.process.returncode = 0  # it isn't our child
        self.process.stop_listening()


def out_of_descriptors(reason: str | None) -> BarrierUnavailable:
    """Build the error for a host that has no descriptors left for a worker."""
    return BarrierUnavailable(
        f"No worker can be started: {reason}. Each takes about ten descriptors of this process; "
        f"close plugins, or raise its limit (ulimit -n){low_limits()}"
    )


def _zygote_gone(preload: tuple[str, ...], reason: str) -> Exception:
    if preload and reason.startswith("preload"):
        match = _NO_MODULE.match(reason)
        return PolicyError(reason + (near_match(match[1], modules_in(worker_path())) if match else ""))
    fact = f"No worker can be started: the zygote is gone ({reason}); the next start makes one"
    return BarrierUnavailable(fact + low_limits())


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
    make_room()  # for the worker that will be asked for
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


def close_unused() -> None:
    """End every zygote that has no worker now, and every other one after its last worker."""
    with _registry_lock:
        zygotes = list(_registry.values())
    for zygote in zygotes:
        zygote.close_unused()


def _after_fork() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()
    for zygote in list(_all):
        zygote.abandon()
    _registry.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
