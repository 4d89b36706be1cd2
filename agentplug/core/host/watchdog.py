"""The watchdog: the one thread that checks every worker (host).

It waits on registered descriptors (zygotes' news, workers' output) and lets each worker check its limits as often as
that worker asks. It needs neither the user's loop nor the user's main thread, so limits are enforced while those are
busy or blocked. Without workers it sleeps.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Protocol

_NEVER = float("inf")
BUSY_S = 0.050
"""The longest wait between two checks of a busy worker."""
_SOON_S = 0.003  # a check due so soon is done now: to wake up costs more than to check
_ON_THE_BEAT_S = 0.020  # longer waits join a beat: they may be checked early, together with others
_SELDOM_S = 0.0005  # the shortest wait between two checks
_REST_S = 0.005
_RESTING_AT_ONCE = 8


class Watched(Protocol):
    """An object that checks its own limits."""

    def tick(self, crowd: int) -> float:
        """Check the limits now. Return seconds until the next check (infinite when nothing is left to check).

        `crowd` is the number of objects that are checked about as often as busy workers.
        """


class _Beat:
    """Objects with equal waits, checked together at multiples of it: to wake up costs more than to check."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        self.members: dict[Watched, None] = {}
        self.due_s = 0.0
        self.move_on(time.monotonic())

    def move_on(self, now_s: float) -> None:
        """Set the next due time: a multiple of the wait, unless that is too soon."""
        due_s = now_s + self.wait_s
        even_s = due_s - due_s % self.wait_s
        self.due_s = even_s if even_s > now_s + _SOON_S else due_s

    def join(self, watched: Watched) -> None:
        """Add a member."""
        self.members[watched] = None

    def leave(self, watched: Watched) -> None:
        """Remove a member."""
        del self.members[watched]


class Watchdog:
    """The watchdog's thread. All methods may be called from any thread."""

    def __init__(self) -> None:
        self.readable: frozenset[int] = frozenset()
        """Followed descriptors that were readable when the present checks began."""
        self._handlers: dict[int, Callable[[], None]] = {}
        self._resters: set[int] = set()  # the descriptors that rest after each call
        self._resting: set[int] = set()  # those that rest now, until `_rested_s`
        self._rested_s = _NEVER
        self._rest_s = _REST_S
        self._calls: deque[Callable[[], None]] = deque()
        self._due_s: dict[Watched, float] = {}  # of objects on no beat
        self._beats: dict[float, _Beat] = {}
        self._lock = threading.Lock()  # guards all of these, and `_asleep_until_s`
        self._asleep_until_s = -_NEVER  # while awake
        with contextlib.ExitStack() as if_it_fails:
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            if_it_fails.callback(os.close, self._wake)
            self._epoll = select.epoll()
            if_it_fails.callback(self._epoll.close)
            self._followed = select.epoll()
            if_it_fails.callback(self._followed.close)
            self._epoll.register(self._wake, select.EPOLLIN)
            threading.Thread(target=self._run, name="agentplug-watchdog", daemon=True).start()
            if_it_fails.pop_all()

    def watch(self, watched: Watched) -> None:
        """Begin to call `watched.tick`."""
        with self._lock:
            self._due_s[watched] = _NEVER
        self.nudge(watched)

    def forget(self, watched: Watched) -> None:
        """Stop calling `watched.tick` (a running call ends normally)."""
        with self._lock:
            self._due_s.pop(watched, None)
            self._leave_beat(watched)

    def listen(self, fd: int, handler: Callable[[], None], *, rests: bool = False) -> None:
        """Call `handler` whenever `fd` is readable or hung up. Call `ignore` before closing it.

        With `rests`, a descriptor isn't listened to for some milliseconds after each call, so that whoever writes a
        byte at a time costs no more than whoever writes much; for longer while many rest, so that their number
        doesn't matter.
        """
        with self._lock:
            self._handlers[fd] = handler
            if rests:
                self._resters.add(fd)
            self._epoll.register(fd, select.EPOLLIN | (select.EPOLLONESHOT if rests else 0))

    def ignore(self, fd: int) -> None:
        """Stop listening to `fd`."""
        with self._lock:
            if self._handlers.pop(fd, None) is not None:
                self._resters.discard(fd)
                self._resting.discard(fd)
                with contextlib.suppress(OSError):
                    self._epoll.unregister(fd)

    def follow(self, fd: int) -> None:
        """Include `fd` in `readable`: one poll for all, since a poll for each would cost as much as a check."""
        self._followed.register(fd, select.EPOLLIN)

    def abandon(self) -> None:
        """Renew the lock, in a forked child of the host: the watchdog's thread may have held it at the fork.

        Workers that are abandoned there still take it.
        """
        self._lock = threading.Lock()

    def unfollow(self, fd: int) -> None:
        """Stop following `fd`, which may be unknown or closed (-1)."""
        with contextlib.suppress(OSError, ValueError):
            self._followed.unregister(fd)

    def nudge(self, watched: Watched, within_s: float = 0.0) -> None:
        """Check `watched` within `within_s` seconds from now."""
        due_s = time.monotonic() + within_s
        with self._lock:
            if self._due_at_s(watched) <= due_s:
                return  # due early enough, or not watched
            self._leave_beat(watched)
            self._due_s[watched] = due_s
            if self._asleep_until_s <= due_s:
                return
            self._asleep_until_s = due_s
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def soon(self, call: Callable[[], None]) -> None:
        """Have the watchdog's thread call `call`. Takes no lock: finalizers may run at any point."""
        self._calls.append(call)
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _due_at_s(self, watched: Watched) -> float:
        for beat in self._beats.values():
            if watched in beat.members:
                return beat.due_s
        return self._due_s.get(watched, -_NEVER)

    def _leave_beat(self, watched: Watched) -> bool:
        for beat in self._beats.values():
            if watched in beat.members:
                beat.leave(watched)
                if not beat.members:
                    del self._beats[beat.wait_s]
                return True
        return False

    def _run(self) -> None:
        while True:
            with self._lock:
                due_s = [*self._due_s.values(), *(beat.due_s for beat in self._beats.values())]
                until_s = min(due_s, default=_NEVER)
                self._asleep_until_s = until_s
            until_s = min(until_s, self._rested_s)
            events = self._epoll.poll(None if until_s == _NEVER else max(0.0, until_s - time.monotonic()))
            self._turn([fd for fd, _ in events])

    def _turn(self, readable: list[int]) -> None:
        """Handle what is readable, and check what is due. Nothing here refers to a worker while the thread sleeps:
        its policy holds descriptors."""
        for fd in readable:
            if fd == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            elif (handler := self._handlers.get(fd)) is not None:
                self._guard(handler)
                self._rest(fd)
        if self._rested_s <= time.monotonic():
            self._listen_again()
        while self._calls:
            self._guard(self._calls.popleft())
        beats, due, crowd = self._take_due()
        if beats or due:
            self.readable = frozenset([fd for fd, _ in self._followed.poll(0)])
        for wait_s, members in beats:
            self._place([(m, w) for m in members if (w := self._tick(m, crowd)) != wait_s])
        if due:
            self._place([(watched, self._tick(watched, crowd)) for watched in due])

    def _rest(self, fd: int) -> None:
        """Let `fd` rest after its handler was called, if it rests."""
        with self._lock:
            if fd in self._resters:
                self._resting.add(fd)
                self._rested_s = min(self._rested_s, time.monotonic() + self._rest_s)

    def _listen_again(self) -> None:
        """Listen again to all that rest. The more there are, the longer do the next ones."""
        with self._lock:
            self._rest_s = _REST_S * max(1.0, len(self._resting) / _RESTING_AT_ONCE)
            for fd in self._resting:
                with contextlib.suppress(OSError):
                    self._epoll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
            self._resting.clear()
            self._rested_s = _NEVER

    def _take_due(self) -> tuple[list[tuple[float, list[Watched]]], list[Watched], int]:
        """Take what is due: beats as wait and members, other objects, and the size of the crowd.

        A nudge from now on concerns the next check.
        """
        now_s = time.monotonic()
        soon_s = now_s + _SOON_S
        with self._lock:
            self._asleep_until_s = -_NEVER
            beats = []
            crowd = 0
            for beat in self._beats.values():
                if beat.wait_s <= BUSY_S:
                    crowd += len(beat.members)
                if beat.due_s <= soon_s:
                    beats.append((beat.wait_s, list(beat.members)))
                    beat.move_on(now_s)
            due = []
            for watched, due_s in self._due_s.items():
                if due_s <= soon_s + BUSY_S:
                    crowd += 1
                    if due_s <= soon_s:
                        due.append(watched)
                        self._due_s[watched] = _NEVER
        return beats, due, crowd

    def _place(self, waits: list[tuple[Watched, float]]) -> None:
        """Schedule the next checks, except of objects that were nudged or forgotten meanwhile."""
        now_s = time.monotonic()
        with self._lock:
            for watched, wait_s in waits:
                due_s = now_s + max(wait_s, _SELDOM_S)
                if not self._leave_beat(watched) and due_s >= self._due_s.get(watched, -_NEVER):
                    continue
                self._due_s.pop(watched, None)
                if _ON_THE_BEAT_S < wait_s < _NEVER:
                    if wait_s not in self._beats:
                        self._beats[wait_s] = _Beat(wait_s)
                    self._beats[wait_s].join(watched)
                else:
                    self._due_s[watched] = due_s

    def _tick(self, watched: Watched, crowd: int) -> float:
        try:
            return watched.tick(crowd)
        except Exception:
            traceback.print_exc()  # a defect of ours; the others are watched all the same
            return 0.1

    def _guard(self, handler: Callable[[], None]) -> None:
        try:
            handler()
        except Exception:
            traceback.print_exc()


_lock = threading.Lock()
_instance: Watchdog | None = None


def watchdog() -> Watchdog:
    """Return the process's watchdog; start it on first use."""
    global _instance
    with _lock:
        if _instance is None:
            _instance = Watchdog()
        return _instance


def _forget_in_child() -> None:
    global _instance, _lock
    if _instance is not None:
        _instance.abandon()
    _instance, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
