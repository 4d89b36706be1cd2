"""The host's end of one worker (host): sends, receives, measures, stops.

One lock guards the state, so that the caller's thread and the watchdog can both make it go on: whoever finds a reply
takes it. A worker is made of parts that each alone write their state, under that lock: `process`, `limits` (with what
counts against them), `checks` (what the watchdog remembers of it) and `listener` (to its refused calls).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Self

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import Violation, pack
from agentplug.core.boundary.frames import ZygoteNews
from agentplug.core.host.checks import BUSY_TICK_S, Checks
from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.launcher import Spawned, Zygote
from agentplug.core.host.limits import Finding, Limits
from agentplug.core.host.output import Sink
from agentplug.core.host.plans import plan_for
from agentplug.core.host.process import AlreadyEnded, Process, resolve
from agentplug.core.host.readings import Gone
from agentplug.core.host.refused_calls.listener import Listener

GRACE_S = 1.0
BRISK_NS = 250_000
_all: weakref.WeakSet[Worker] = weakref.WeakSet()


class Worker:
    """A confined process that takes calls, one exchange at a time. Made by `spawn`."""

    def __init__(self, policy: Policy, process: Process) -> None:
        self.policy = policy
        self.lock = threading.RLock()
        self.process = process
        self.limits = Limits(policy)
        self.checks = Checks(self.limits)
        self.listener: Listener | None = None
        self.exchange: Exchange | None = None
        self.last: Exchange | None = None  # the one that began most recently, also once it is done
        self.barriers: Mapping[str, str] = {}  # how each stood as the plugin's code came
        self._earlier: Sequence[Event] = ()
        self.brisk = False  # its last call took no longer than a turn of the caller's loop
        self._on_event: weakref.WeakMethod[Callable[[Event], None]] | None = None
        self._dog = process.dog
        _all.add(self)

    # ------------------------------------------------------------------ its beginning

    @classmethod
    def spawn(cls, policy: Policy, zygote: Zygote, given_files: int = 0) -> tuple[Self, Future[Spawned]]:
        """Ask `zygote` for a process that can take so many given files; `adopt` the outcome of the future."""
        with Process.prepare(policy) as (process, ends):
            worker = cls(policy, process)
            return worker, zygote.spawn(plan_for(policy, given_files), ends, worker.take_news)

    def adopt(self, spawned: Spawned) -> None:
        """Take charge of the process that the zygote forked."""
        self.process.adopt(spawned)
        self._dog.watch(self)

    def accept_barriers(self, barriers: Mapping[str, str]) -> None:
        """Go on with these barriers, each with its status: answer refused calls, if the worker sent a listener, and
        count from here on what the plugin uses.
        """
        assert self.process.readings is not None
        with self.lock:
            self.barriers = barriers
            if (fd := self.process.reader.take_descriptor()) >= 0:
                self.listener = Listener(self, fd, self.policy, self.checks.look_closely)
            self.limits.start_counting(self.process.readings, counts_scratch=barriers.get("namespaces") != "enforced")

    def begin_next_with(self, events: Sequence[Event]) -> None:
        """Begin the next exchange with these events, which came before it."""
        self._earlier = events

    def report_to(self, method: Callable[[Event], None] | None) -> None:
        """Report events between calls to `method` for as long as its object lives, or to nobody."""
        self._on_event = None if method is None else weakref.WeakMethod(method)

    def report(self, event: Event) -> None:
        """Report an event between calls to whoever has the plugin."""
        tell = on_event() if (on_event := self._on_event) is not None else None
        if tell is not None:
            tell(event)

    def tick(self, crowd: int) -> float:
        """Check the limits now: called by the watchdog."""
        with self.lock:
            return self.checks.tick(self, self.listener, crowd)

    # ------------------------------------------------------------------ exchange

    def begin(self, requests: Sequence[Request], sink: Sink | None = None) -> Exchange:
        """Send `requests` as one exchange. Raises `AlreadyEnded` if the worker is gone: then nothing was sent."""
        exchange = Exchange(
            requests,
            self.limits.floor_bytes,
            earlier=self._earlier,
            takes_claims=self.listener is None,
            profile=self.policy.profile,
        )
        process = self.process
        with self.lock:
            if self.exchange is not None:  # the loop that waited for it was closed: nobody ever takes its end
                self.stop("close")
            if process.ending:
                raise AlreadyEnded
            self._earlier = ()
            process.output.begin(sink)
            if self.listener is not None:
                self.listener.begin_call()
            self.exchange = self.last = exchange
            self.checks.look_closely()
            try:
                if process.readings is not None and requests:
                    exchange.begin(process.readings)
            except Gone as gone:
                self.kill(f"gone: {gone}")
            exchange.send(process.sock)
            # From here on the worker is at work: what isn't needed before, we do meanwhile.
            exchange.take_first_sample()
            self.limits.begin(exchange, process)
        self._dog.nudge(self, BUSY_TICK_S)
        return exchange

    def pump(self) -> bool:
        """Send and receive what can be, without waiting; true once the exchange is done."""
        with self.lock:
            exchange, process = self.exchange, self.process
            if exchange is None or exchange.done:
                return True
            if process.ending:
                return False  # whatever it says now comes too late
            exchange.send(process.sock)
            reader, readings = process.reader, process.readings
            try:
                while not exchange.done and (frame := reader.next()) is not None:
                    if exchange.take(frame, readings):
                        assert readings is not None
                        exchange.settle(readings)
                        if (finding := self.limits.over_memory(exchange.peak_bytes)) is not None:
                            self.exceed(exchange, finding)  # a peak that no check saw: the kernel did
                        exchange.send(process.sock)
            except Violation as violation:
                self.exceed(exchange, self.limits.finding_for(exchange, violation))
            except Gone as gone:
                self.kill(f"gone: {gone}")
            if exchange.done:
                self._finish(exchange, None)
            elif exchange.outgoing or reader.partial or reader.eof:
                self.checks.look_closely()
            return exchange.done

    def _finish(self, exchange: Exchange, cpu_total_s: tuple[float, float] | None) -> None:
        process = self.process
        ready = process.ready.poll(0)
        if cpu_total_s is None and (ready or process.reader.partial) and process.has_more():
            self.exceed(exchange, self.limits.finding_for(exchange, Violation("more frames than calls")))
        if process.output.count or ready:
            exchange.take_output(*process.output.take())
        exchange.close(cpu_total_s)
        self.brisk = exchange.ended_ns - exchange.started_ns < 2 * BRISK_NS and exchange.head == 1
        self.exchange = None
        self.checks.end_call(exchange)
        exchange.wake()

    # ------------------------------------------------------------------ ends

    def exceed(self, exchange: Exchange, finding: Finding) -> None:
        """End the call and the worker for a limit that was reached."""
        if finding.by == "protocol":
            exchange.emit("protocol", {"reason": finding.unit})
        else:
            exchange.emit("limit", finding._asdict())
        self.kill(finding.by)

    def lose(self, event: Event) -> None:
        """End the worker for what it did between calls."""
        self.kill(event.kind)
        self.report(event)

    def take_news(self, news: ZygoteNews) -> None:
        """Take the zygote's word on how the process ended (watchdog's thread)."""
        if news.what == "wiped":
            resolve(self.process.wiped)
            return
        with self.lock:
            if self.process.status is not None:
                return
            self.pump()  # what it sent before still counts
            self.process.end(news.status)
            exchange = self.exchange
            finding = self.limits.behind(news, exchange)
            if exchange is not None and not exchange.done:
                if finding is not None:
                    exchange.emit("limit", finding._asdict())
                exchange.emit("exit", {"status": news.status})
                self._finish(exchange, (news.user_s, news.system_s))
            elif finding is not None:
                self.report(Event(0.0, "limit", finding._asdict()))
            else:
                self.report(Event(0.0, "exit", {"status": news.status}))
        self._dog.forget(self)
        resolve(self.process.exited)

    def interrupt(self) -> None:
        """Ask the running call to stop, as Ctrl-C would; SIGKILL follows if it doesn't within the grace time."""
        with self.lock:
            exchange = self.exchange
            if exchange is None or exchange.done or exchange.grace_until_ns is not None:
                return
            exchange.emit("stop", {"by": "interrupt"})
            exchange.begin_grace(GRACE_S)
            self.checks.look_closely()
            self.process.send_signal(signal.SIGINT)
        self._dog.nudge(self)

    def stop(self, by: str) -> None:
        """End the worker now; a call under way ends with verdict `stopped:BY`."""
        with self.lock:
            if self.exchange is not None and not self.exchange.done:
                self.exchange.emit("stop", {"by": by})
            self.kill(by)

    def ask_to_close(self) -> None:
        """Let the plugin's `shutdown` run, and its process end by itself."""
        with self.lock, contextlib.suppress(OSError):
            if self.exchange is None:
                self.limits.enter_idle(0)
                self.process.sock.send(pack(wire.CLOSE, 0)[0])

    def kill(self, reason: str) -> None:
        """End the worker at once; a call under way says so."""
        with self.lock:
            self.checks.look_closely()
            if self.process.status is None and self.exchange is not None and not self.exchange.done:
                self.exchange.emit("kill", {"reason": reason})
            self.process.kill()

    # ------------------------------------------------------------------ letting go

    def never_started(self) -> None:
        """Let go of everything: no process was started."""
        resolve(self.process.exited)
        resolve(self.process.wiped)
        self.dispose()

    def release(self) -> None:
        """End the worker of a plugin that nobody holds any more. For finalizers, in whatever thread and lock."""
        self.report_to(None)
        self._dog.soon(self._end_unseen)

    def _end_unseen(self) -> None:
        self.kill("close")
        self.process.exited.add_done_callback(lambda _: self.dispose())

    def dispose(self) -> None:
        """Close the descriptors. Only after the process ended and every waiter has let go of its socket."""
        self._dog.forget(self)
        with self.lock:
            if self.listener is not None:
                self.listener.dispose()
                self.listener = None
            self.process.dispose()

    def abandon(self) -> None:
        """Let go of our copies, in a forked child of the host: see `Process.abandon`."""
        self.lock = threading.RLock()  # whoever held it when it was forked
        self.exchange = self._on_event = None
        self.checks.look_closely()
        if self.listener is not None:
            self.listener.abandon()
            self.listener = None
        self.process.abandon()


def _abandon_in_child() -> None:
    for worker in list(_all):
        worker.abandon()
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_in_child)
