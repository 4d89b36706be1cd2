"""Threads that decode replies (host): one reply at a time, in fair turns between plugins, each within a time budget.

A reply that costs little is decoded where it arrives. Any other goes to a thread, where the decoder pauses every half
millisecond: a plugin that took more time lately lets the others go first. Modules are imported between turns, so a
first table keeps nobody waiting who doesn't need the module too.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from agentplug.core.boundary.codec import Costly, DecodeError

T = TypeVar("T")
BUDGET_S = 1.0
BUDGET_BYTES_PER_S = 16 << 20
"""A reply may cost a second of this process's CPU time, and one more for so many of its bytes."""
_FORGET_S = 1.0
_SLICE_S, _REST_S = 0.0005, 0.0001
_PAUSES_AT_ONCE = 32
_MOST_THREADS = 128
_loaded: set[str] = set()


class Share:
    """One plugin's CPU time on the decoding threads, of which half is forgotten every second."""

    def __init__(self) -> None:
        self._used_s = 0.0
        self._at_s = 0.0

    @property
    def used_s(self) -> float:
        """The time used lately, in seconds."""
        return float(self._used_s * 0.5 ** ((time.monotonic() - self._at_s) / _FORGET_S))

    def add(self, used_s: float) -> None:
        """Count time that was used."""
        self._used_s, self._at_s = self.used_s + used_s, time.monotonic()


class _Turns:
    """Turns of the decoding threads, one at a time: of those that wait, the share that used the least goes next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: list[tuple[Share, threading.Event]] = []

    def take(self, share: Share) -> None:
        """Wait for a turn."""
        with self._lock:
            if not self._busy:
                self._busy = True
                return
            go = threading.Event()
            self._waiting.append((share, go))
        go.wait()

    def give_back(self) -> None:
        """End a turn."""
        with self._lock:
            if not self._waiting:
                self._busy = False
                return
            next_one = min(self._waiting, key=lambda waiting: waiting[0].used_s)
            self._waiting.remove(next_one)
        next_one[1].set()

    def let_in(self, share: Share) -> None:
        """Let another go first, if one waits that used less than `share`."""
        with self._lock:
            if not any(other.used_s < share.used_s for other, _ in self._waiting):
                return
        self.give_back()
        self.take(share)


class AtOnce:
    """The pace of a decoding on an event loop: a few milliseconds, or an import, end it. Raises `Costly`."""

    def __init__(self) -> None:
        self._left = _PAUSES_AT_ONCE

    def pause(self) -> None:
        """Go on for a while, without a pause."""
        self._left -= 1
        if self._left < 0:
            raise Costly

    def load(self, module: str) -> None:
        """Refuse a module that no decoding has imported yet."""
        if module not in _loaded:
            raise Costly


class InTurns:
    """The pace of a decoding on a thread. A context manager: one turn, and those after each pause."""

    def __init__(self, turns: _Turns, share: Share, budget_s: float) -> None:
        self._turns = turns
        self._share = share
        self._budget_s = self._left_s = budget_s
        self._since_s = 0.0
        self._slice_ends_s = 0.0

    def __enter__(self) -> InTurns:
        self._turns.take(self._share)
        self._since_s = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._count()
        self._turns.give_back()

    def _count(self) -> None:
        now_s = time.thread_time()
        used_s, self._since_s = now_s - self._since_s, now_s
        self._left_s -= used_s
        self._share.add(used_s)

    def without_budget(self) -> InTurns:
        """Return this pace for what isn't the reply's own cost."""
        self._left_s = math.inf
        return self

    def pause(self) -> None:
        """Let others go on, if half a millisecond has passed. Raises `DecodeError` if the budget is used up.

        A busy thread gives Python's lock away after 5 ms, but a loop asks for it after each of its system calls,
        some forty for one call of a plugin: so this thread rests.
        """
        if time.perf_counter() < self._slice_ends_s:
            return
        self._count()
        if self._left_s < 0:
            raise DecodeError(
                f"it took over {self._budget_s:.1f} s of the host's CPU time; send arrays, or fewer values"
            )
        self._turns.let_in(self._share)
        time.sleep(_REST_S)
        self._slice_ends_s = time.perf_counter() + _SLICE_S

    def load(self, module: str) -> None:
        """Import a module between two turns. Its time isn't the reply's."""
        if module not in _loaded:
            self.__exit__()
            try:
                importlib.import_module(module)
                _loaded.add(module)
            finally:
                self.__enter__()


def in_turns(share: Share, reply_bytes: int, work: Callable[[InTurns], T]) -> Future[T]:
    """Call `work` on a decoding thread, with its pace. Raises `RuntimeError` if no thread can be started."""
    pool, turns = _pool()
    outcome: Future[T] = Future()

    def run() -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            with InTurns(turns, share, BUDGET_S + reply_bytes / BUDGET_BYTES_PER_S) as pace:
                made = work(pace)
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(made)

    try:
        pool.submit(run)
    except RuntimeError:
        if not pool._threads:  # else one of the threads that are there takes it
            raise
    return outcome


@functools.cache
def _pool() -> tuple[ThreadPoolExecutor, _Turns]:
    return ThreadPoolExecutor(_MOST_THREADS, "agentplug-decoder"), _Turns()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child lacks the threads
