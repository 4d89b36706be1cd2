"""The watchdog: the host's one thread that looks after every worker (host).

It waits on the descriptors that others register (zygotes' news, workers' output) and lets each worker check its
limits as often as that worker asks for. It needs neither the user's loop nor the user's main thread, so limits hold
while those are busy or blocked. Without workers it sleeps.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import traceback
from collections.abc import Callable
from typing import Protocol

_NEVER = float("inf")


class Watched(Protocol):
    """Something with limits to hold."""

    def tick(self, now_ns: int) -> float:
        """Check the limits now; seconds until the next check is due (infinite when nothing is left to check)."""


class Watchdog:
    """Owns the thread; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._epoll = select.epoll()
        except OSError:
            os.close(self._wake)
            raise
        self._epoll.register(self._wake, select.EPOLLIN)
        self._handlers: dict[int, Callable[[], None]] = {}
        self._watched: dict[Watched, None] = {}
        self._next_wake_s = 0.0
        self._thread = threading.Thread(target=self._run, name="agentplug-watchdog", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread can be started
            self._epoll.close()
            os.close(self._wake)
            raise

    def watch(self, watched: Watched) -> None:
        """Begin to call its `tick`."""
        self._watched[watched] = None
        self.nudge()

    def forget(self, watched: Watched) -> None:
        """Never call its `tick` again (one that is under way may still end)."""
        self._watched.pop(watched, None)

    def listen(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `fd` is readable or hung up. Call `ignore` before closing it."""
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def ignore(self, fd: int) -> None:
        """Stop listening to `fd`."""
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def nudge(self, within_s: float = 0.0) -> None:
        """Make sure that the next check comes no later than `within_s` seconds from now."""
        if self._next_wake_s > time.monotonic() + within_s:
            with contextlib.suppress(OSError):
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        wait = _NEVER
        while True:
            self._next_wake_s = time.monotonic() + wait
            events = self._epoll.poll(None if wait == _NEVER else wait)
            self._next_wake_s = _NEVER  # from here on until the next line above, a nudge writes to be safe
            for fd, _ in events:
                if fd == self._wake:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                elif (handler := self._handlers.get(fd)) is not None:
                    self._guard(handler)
            wait = _NEVER
            for watched in list(self._watched):
                wait = min(wait, self._tick(watched))
            wait = max(wait, 0.0005)

    def _tick(self, watched: Watched) -> float:
        try:
            return watched.tick(time.perf_counter_ns())
        except Exception:
            traceback.print_exc()  # a defect of ours: seen, and no reason to stop watching the others
            return 0.1

    def _guard(self, handler: Callable[[], None]) -> None:
        try:
            handler()
        except Exception:
            traceback.print_exc()


_lock = threading.Lock()
_instance: Watchdog | None = None


def watchdog() -> Watchdog:
    """The process's watchdog, started on first use."""
    global _instance
    with _lock:
        if _instance is None:
            _instance = Watchdog()
        return _instance


def _forget_in_child() -> None:
    global _instance, _lock
    _instance, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
