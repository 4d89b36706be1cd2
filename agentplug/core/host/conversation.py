"""Wait for a worker's replies in asyncio (host), and outside asyncio through one loop of our own.

The caller's loop takes a reply as soon as it comes; if that loop is blocked, the watchdog takes it at its next tick.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import time
import weakref
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future, wait
from typing import Any, TypeVar

from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.fair_lock import BlockedLoop, blocked_loop
from agentplug.core.host.output import Sink
from agentplug.core.host.own_limits import low_limits
from agentplug.core.host.supervisor import BRISK_NS, RelayMaker, Worker
from agentplug.errors import BarrierUnavailable

T = TypeVar("T")
_TURN_OVER_S = 0.25
_TURN_EVERY_NS = 5_000_000


class _Turns(threading.local):
    """The time at which this thread's loop last ran its other tasks."""

    _last_ns = 0

    def is_due(self) -> bool:
        """Return true, and note the time, if the last turn was long enough ago."""
        now_ns = time.perf_counter_ns()
        if now_ns - self._last_ns <= _TURN_EVERY_NS:
            return False
        self._last_ns = now_ns
        return True


_turns = _Turns()


class _Sleeper:
    """Wakes a loop four times a second while calls wait in it: a sleeping loop doesn't notice what a signal handler
    queued, so ipykernel would lose interrupts."""

    def __init__(self) -> None:
        self._calls = 0
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count one more call that waits."""
        self._calls += 1
        if self._timer is None:
            self._turn(loop)

    def leave(self) -> None:
        """Count one call less; stop with the last."""
        self._calls -= 1
        if self._calls == 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_TURN_OVER_S, self._turn, loop)


_sleepers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Sleeper] = weakref.WeakKeyDictionary()


async def converse(
    worker: Worker, requests: Sequence[Request], sink: Sink | None = None, relay: RelayMaker | None = None
) -> Exchange:
    """Make one exchange and wait for its end. Cancelling interrupts the worker, then waits at most the grace time."""
    exchange = worker.begin(requests, sink, relay)
    try:
        if worker.brisk and _at_once(worker):
            await _let_others_in()
            return exchange
        await _until_done(worker, exchange)
    except asyncio.CancelledError as cancellation:
        _shorten(cancellation)
        worker.interrupt()
        await _stopped(worker, exchange)
        raise
    return exchange


async def _let_others_in() -> None:
    """Let the loop run other tasks now and then: quick calls in a row would starve them."""
    if _turns.is_due():
        await asyncio.sleep(0)


def _at_once(worker: Worker) -> bool:
    """Poll for the reply of a worker whose calls take microseconds: sleeping and waking would take longer."""
    process = worker.process
    ready = process.channel_ready.poll
    until_ns = time.perf_counter_ns() + BRISK_NS
    while True:
        if ready(0):
            if worker.pump():
                return True
            if process.ending or process.reader.eof:
                return False
        elif time.perf_counter_ns() > until_ns:
            return False
        else:
            os.sched_yield()  # the worker may wait for this processor


async def _stopped(worker: Worker, exchange: Exchange) -> None:
    try:
        await _until_done(worker, exchange)
    except asyncio.CancelledError:  # cancelled twice: end the worker now
        worker.stop("interrupt")
        with contextlib.suppress(asyncio.CancelledError):
            await _until_done(worker, exchange)


async def _until_done(worker: Worker, exchange: Exchange) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    process = worker.process
    fd = process.sock.fileno()
    here = threading.get_ident()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def wake() -> None:
        if threading.get_ident() == here:
            finish()
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(finish)

    def readable() -> None:
        if worker.pump():
            finish()
        elif process.reader.eof or process.ending:
            loop.remove_reader(fd)  # the watchdog will report its end

    def writable() -> None:
        worker.pump()
        if not exchange.outgoing:
            loop.remove_writer(fd)

    with worker.lock:
        if exchange.done:
            return
        exchange.wake_with(wake)
        if not process.reader.eof:
            loop.add_reader(fd, readable)
        if exchange.outgoing:
            loop.add_writer(fd, writable)
    sleeper = _sleepers.setdefault(loop, _Sleeper())
    sleeper.enter(loop)
    try:
        await done
    finally:
        sleeper.leave()
        exchange.wake_with(None)
        if fd == process.sock.fileno():
            loop.remove_reader(fd)
            loop.remove_writer(fd)


_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()


def our_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of our daemon thread, for callers that have none or can't use theirs.

    Raises `BarrierUnavailable` if it can't be started.
    """
    global _loop
    with _loop_lock:
        if _loop is None:
            try:
                loop = asyncio.new_event_loop()
                try:
                    threading.Thread(target=loop.run_forever, name="agentplug-loop", daemon=True).start()
                except RuntimeError:
                    loop.close()
                    raise
            except (OSError, RuntimeError) as error:
                fact = f"No worker can be started: no loop to wait for it: {error}{low_limits()}"
                raise BarrierUnavailable(fact) from None
            _loop = loop
        return _loop


def on_our_loop(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Start `coroutine` on our loop without waiting for it."""
    contextvars.Context().run(asyncio.run_coroutine_threadsafe, coroutine, our_loop())


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on our loop and wait for it. Ctrl-C cancels it, waits for its end, and is raised again.

    Raises `WaitsForItself` if the wait could never end.
    """
    try:
        loop = our_loop()
    except BaseException:
        coroutine.close()
        raise
    here = asyncio._get_running_loop()
    if here is loop:
        coroutine.close()
        raise RuntimeError("run_sync and close_sync can't wait on agentplug's own loop; await run or close here")
    outcome: Future[T] = Future()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        task = loop.create_task(coroutine)
        tasks.append(task)
        task.add_done_callback(lambda done: _hand_over(done, outcome))

    blocked = BlockedLoop(here)
    before = blocked_loop.set(blocked)
    loop.call_soon_threadsafe(start)  # in a copy of this context
    blocked_loop.reset(before)
    try:
        return outcome.result()
    except KeyboardInterrupt as interrupt:
        _shorten(interrupt)
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
        wait([outcome], timeout=5)
        raise
    finally:
        blocked.end()


def _shorten(error: BaseException) -> None:
    """Let IPython show an interrupt of a call in one line."""
    error._render_traceback_ = lambda: [f"{type(error).__name__}: the call was stopped"]  # type: ignore[attr-defined]


def _hand_over(done: asyncio.Task[T], outcome: Future[T]) -> None:
    if done.cancelled():
        outcome.set_exception(CancelledError())
    elif (error := done.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(done.result())


def _forget_in_child() -> None:
    global _loop, _loop_lock
    _loop, _loop_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
