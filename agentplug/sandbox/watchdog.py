"""The watchdog: the host's one thread that looks after every worker (host).

It waits on the descriptors that others register (zygotes' news, workers' output) and lets each worker check its
limits as often as that worker asks for, whatever the others ask for. It needs neither the user's loop nor the user's
main thread, so limits hold while those are busy or blocked. Without workers it sleeps.
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
BUSY_S = 0.050
"""Busy workers are checked at least as often."""
_SOON_S = 0.003  # what is due so soon is done now: to wake up costs more than to check
_ON_THE_BEAT_S = 0.020  # who waits for longer may be checked sooner than it asked, together with others
_SELDOM_S = 0.0005  # nobody is asked more often


class Watched(Protocol):
    """Something with limits to hold."""

    def tick(self, crowd: int) -> float:
        """Check the limits now; seconds until the next check is due (infinite when nothing is left to check).

        `crowd` is how many ask for a check about as often as busy workers do.
        """


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
        self._due_s: dict[Watched, float] = {}
        self._lock = threading.Lock()  # of `_due_s` and `_asleep_until_s`
        self._asleep_until_s = -_NEVER  # while awake
        self._thread = threading.Thread(target=self._run, name="agentplug-watchdog", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread can be started
            self._epoll.close()
            os.close(self._wake)
            raise

    def watch(self, watched: Watched) -> None:
        """Begin to call its `tick`."""
        with self._lock:
            self._due_s[watched] = _NEVER
        self.nudge(watched)

    def forget(self, watched: Watched) -> None:
        """Never call its `tick` again (one that is under way may still end)."""
        with self._lock:
            self._due_s.pop(watched, None)

    def listen(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `fd` is readable or hung up. Call `ignore` before closing it."""
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def ignore(self, fd: int) -> None:
        """Stop listening to `fd`."""
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def nudge(self, watched: Watched, within_s: float = 0.0) -> None:
        """Make sure that its next check comes no later than `within_s` seconds from now."""
        due_s = time.monotonic() + within_s
        with self._lock:
            if self._due_s.get(watched, -_NEVER) <= due_s:
                return  # soon enough; or nobody watches it
            self._due_s[watched] = due_s
            if self._asleep_until_s <= due_s:
                return
            self._asleep_until_s = due_s
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while True:
            with self._lock:
                until_s = self._asleep_until_s = min(self._due_s.values(), default=_NEVER)
            events = self._epoll.poll(None if until_s == _NEVER else max(0.0, until_s - time.monotonic()))
            for fd, _ in events:
                if fd == self._wake:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                elif (handler := self._handlers.get(fd)) is not None:
                    self._guard(handler)
            ripe, crowd = self._ripe()
            if ripe:
                self._checked([(watched, self._tick(watched, crowd)) for watched in ripe])

    def _ripe(self) -> tuple[list[Watched], int]:
        """Those whose check is due, whoever nudges from now on asks for the next one; and the size of the crowd."""
        now_s = time.monotonic() + _SOON_S
        with self._lock:
            self._asleep_until_s = -_NEVER
            crowd = 0
            ripe = []
            for watched, due_s in self._due_s.items():
                if due_s <= now_s + BUSY_S:
                    crowd += 1
                    if due_s <= now_s:
                        ripe.append(watched)
                        self._due_s[watched] = _NEVER
        return ripe, crowd

    def _checked(self, waits: list[tuple[Watched, float]]) -> None:
        now_s = time.monotonic()
        with self._lock:
            for watched, wait_s in waits:
                due_s = now_s + max(wait_s, _SELDOM_S)
                if _ON_THE_BEAT_S < wait_s < _NEVER:  # all who ask for the same wait are checked in one go
                    beat_s = due_s - due_s % wait_s
                    due_s = beat_s if beat_s > now_s + _SOON_S else due_s
                if due_s < self._due_s.get(watched, -_NEVER):  # else it was nudged, or let go of
                    self._due_s[watched] = due_s

    def _tick(self, watched: Watched, crowd: int) -> float:
        try:
            return watched.tick(crowd)
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
    if _instance is not None:
        _instance._lock = threading.Lock()  # of workers that are let go of; the watchdog's thread may have held it
    _instance, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
