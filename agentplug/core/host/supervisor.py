"""The host's end of one worker (host): sends, receives, measures, stops.

One lock guards the state, so that the caller's thread and the watchdog can both take a reply. The parts of a worker
each write their own state, under that lock: `process`, `limits` (with the use counted against them), `checks` (the
watchdog's) and `listener` (to its refused calls).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Self

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import Violation
from agentplug.core.boundary.frames import Frame, ZygoteNews
from agentplug.core.host.checks import BUSY_TICK_S, Checks
from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.launcher import Spawned, Zygote
from agentplug.core.host.limits import Finding, Limits
from agentplug.core.host.output import Sink
from agentplug.core.host.plans import plan_for
from agentplug.core.host.process import AlreadyEnded, Process, resolve
from agentplug.core.host.readings import Gone
from agentplug.core.host.refused_calls.listener import Listener

if TYPE_CHECKING:
    from agentplug.core.host.displays import Relay

RelayMaker = Callable[[Sink | None], "Relay"]
"""Makes the relay of an exchange that displays something: to the sink of its output, if any."""

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
        self.last: Exchange | None = None  # the most recent one, also once it is done
        self.barriers: Mapping[str, str] = {}  # status of each before the plugin was loaded
        self._earlier: Sequence[Event] = ()
        self._relay_maker: RelayMaker | None = None
        self.brisk = False  # its last call took about as long as a turn of the caller's loop
        self._on_event: weakref.WeakMethod[Callable[[Event], None]] | None = None
        self._watchdog = process.watchdog
        process.output.read_channel_with(weakref.WeakMethod(self.pump))
        _all.add(self)

    # ------------------------------------------------------------------ its beginning

    @classmethod
    def spawn(cls, policy: Policy, zygote: Zygote, extra_files: int = 0) -> tuple[Self, Future[Spawned]]:
        """Request a process from `zygote`, with room for `extra_files` descriptors; `adopt` the future's result."""
        with Process.prepare(policy) as (process, ends):
            worker = cls(policy, process)
            return worker, zygote.spawn(plan_for(policy, extra_files), ends, worker.take_news)

    def adopt(self, spawned: Spawned) -> None:
        """Take over the process that the zygote forked."""
        self.process.adopt(spawned)
        self._watchdog.watch(self)

    def accept_barriers(self, barriers: Mapping[str, str]) -> None:
        """Store the barriers' status, listen to refused calls if the worker sent a listener, begin to count use."""
        assert self.process.readings is not None
        with self.lock:
            self.barriers = barriers
            if (fd := self.process.reader.take_descriptor()) >= 0:
                self.listener = Listener(
                    self, fd, self.policy, self.checks.require_full_check, self.limits.hidden.shared
                )
            self.limits.start_counting(self.process.readings, counts_scratch=barriers.get("namespaces") != "enforced")

    def begin_next_with(self, events: Sequence[Event]) -> None:
        """Begin the next exchange with these events, which came before it."""
        self._earlier = events

    def report_to(self, method: Callable[[Event], None] | None) -> None:
        """Report events between calls to `method` for as long as its object lives, or to nobody."""
        self._on_event = None if method is None else weakref.WeakMethod(method)

    def report(self, event: Event) -> None:
        """Report an event between calls."""
        method = on_event() if (on_event := self._on_event) is not None else None
        if method is not None:
            method(event)

    def tick(self, crowd: int) -> float:
        """Check the limits now. For the watchdog."""
        if wait_s := self.checks.stands_still():
            return wait_s
        with self.lock:
            return self.checks.tick(self, self.listener, crowd)

    # ------------------------------------------------------------------ exchange

    def begin(
        self, requests: Sequence[Request], sink: Sink | None = None, relay: RelayMaker | None = None
    ) -> Exchange:
        """Send `requests` as one exchange. Without a `relay` nothing may be displayed.

        Raises `AlreadyEnded` if the worker is gone: then nothing was sent.
        """
        exchange = Exchange(
            requests,
            self.limits.floor_bytes,
            earlier=self._earlier,
            takes_claims=self.listener is None,
            profile=self.policy.profile,
            on_display=self._take_display if relay is not None else None,
        )
        self._relay_maker = relay
        process = self.process
        with self.lock:
            if self.exchange is not None:  # the loop that waited for it was closed
                self.stop("close")
            if process.ending:
                raise AlreadyEnded
            self._earlier = ()
            last, self.exchange = self.last, exchange
            try:
                if process.readings is not None and requests:
                    self._end_if_over(exchange.begin(process.readings, last))
            except Gone as gone:
                self.kill(f"gone: {gone}")
            self.last = exchange
            process.output.begin(sink)
            if self.listener is not None:
                self.listener.begin_call()
            self.checks.require_full_check()
            exchange.send(process.sock)
            # The worker is at work now; what can wait is done meanwhile.
            exchange.take_first_sample()
            self.limits.begin(exchange, process)
        self._watchdog.nudge(self, BUSY_TICK_S)
        return exchange

    def _end_if_over(self, between_bytes: int) -> None:
        """End the worker if it had this footprint, beyond its limit, between two calls and between two checks."""
        if between_bytes and (finding := self.limits.over_memory(between_bytes)) is not None:
            self.exchange = None
            self.lose(Event(0.0, "limit", finding.detail()))
            raise AlreadyEnded

    def pump(self) -> bool:
        """Send and receive without waiting. Return true once the exchange is done."""
        with self.lock:
            exchange, process = self.exchange, self.process
            if exchange is None or exchange.done:
                return True
            if process.ending:
                return False  # a reply comes too late now
            exchange.send(process.sock)
            reader, readings = process.reader, process.readings
            try:
                while not exchange.done and (frame := reader.next()) is not None:
                    if exchange.take(frame, readings):
                        assert readings is not None
                        exchange.settle(readings)
                        if (finding := self.limits.over_peak(exchange, readings)) is not None:
                            self.exceed(
                                exchange, finding
                            )  # a peak between two checks, in the kernel's high-water mark
                        exchange.send(process.sock)
            except Violation as violation:
                self.exceed(exchange, self.limits.finding_for(exchange, violation))
            except Gone as gone:
                self.kill(f"gone: {gone}")
            if exchange.displays is not None:
                process.output.show_rest()
            if exchange.done:
                self._finish(exchange, None)
            elif exchange.outgoing or reader.partial or reader.eof:
                self.checks.require_full_check()
            return exchange.done

    def _take_display(self, frame: Frame, at: int) -> None:
        """Pass a display on, after the output that was written before it. Raises `Violation`."""
        exchange, output = self.exchange, self.process.output
        assert exchange is not None
        if (displays := exchange.displays) is None:
            assert self._relay_maker is not None
            displays = exchange.begin_displays(output.pass_on_to(self._relay_maker))
        raw, written = displays.take(frame, at)
        if raw is not None:
            output.place(raw, written)

    def _finish(self, exchange: Exchange, cpu_total_s: tuple[float, float] | None) -> None:
        process = self.process
        ready = process.ready.poll(0)
        if cpu_total_s is None and (ready or process.reader.partial) and process.has_more():
            self.exceed(exchange, self.limits.finding_for(exchange, Violation("more frames than calls")))
        if process.output.count or ready:
            exchange.take_output(*process.output.take())
        if exchange.displays is not None:
            exchange.displays.relay.finish()
        self._relay_maker = None
        exchange.close(cpu_total_s)
        self.brisk = exchange.ended_ns - exchange.started_ns < 2 * BRISK_NS and exchange.head == 1
        self.exchange = None
        self.checks.end_call(exchange)
        exchange.wake()

    # ------------------------------------------------------------------ ends

    def exceed(self, exchange: Exchange, finding: Finding) -> None:
        """End the call and the worker because a limit was reached."""
        if finding.by == "protocol":
            exchange.emit("protocol", {"reason": finding.unit})
        else:
            exchange.emit("limit", finding.detail())
        self.kill(finding.by)

    def lose(self, event: Event) -> None:
        """End the worker because of an event between calls, which is the last one reported."""
        self.kill(event.kind)
        self.report(event)
        self.report_to(None)  # not its exit as well

    def take_news(self, news: ZygoteNews) -> None:
        """Take the zygote's news that the process ended, or its directory is wiped. On the watchdog's thread."""
        if news.what == "wiped":
            resolve(self.process.wiped)
            return
        with self.lock:
            if self.process.status is not None:
                return
            self.pump()  # what it sent before it ended still counts
            self.process.end(news.status)
            exchange = self.exchange
            finding = self.limits.limit_of_exit(news, exchange)
            if exchange is not None and not exchange.done:
                if finding is not None:
                    exchange.emit("limit", finding.detail())
                exchange.emit("exit", {"status": news.status})
                self._finish(exchange, (news.user_s, news.system_s))
            elif finding is not None:
                self.report(Event(0.0, "limit", finding.detail()))
            else:
                self.report(Event(0.0, "exit", {"status": news.status}))
        self._watchdog.forget(self)
        resolve(self.process.exited)

    def interrupt(self) -> None:
        """Interrupt the running call as Ctrl-C does; SIGKILL follows after the grace time."""
        with self.lock:
            exchange = self.exchange
            if exchange is None or exchange.done or exchange.grace_until_ns is not None:
                return
            exchange.emit("stop", {"by": "interrupt"})
            exchange.begin_grace(GRACE_S)
            self.checks.require_full_check()
            self.process.send_signal(signal.SIGINT)
        self._watchdog.nudge(self)

    def stop(self, by: str) -> None:
        """End the worker now; the current call gets the verdict `stopped:BY`."""
        with self.lock:
            if self.exchange is not None and not self.exchange.done:
                self.exchange.emit("stop", {"by": by})
            self.kill(by)

    def ask_to_close(self) -> Exchange | None:
        """Ask the worker to run the plugin's `shutdown` and exit: an exchange under the limits of a call.

        Returns None if a call is under way, or the worker is gone.
        """
        with self.lock, contextlib.suppress(AlreadyEnded):
            if self.exchange is None:
                return self.begin([Request(wire.CLOSE)])
        return None

    def kill(self, reason: str) -> None:
        """End the worker now; the current call gets a kill event."""
        with self.lock:
            self.checks.require_full_check()
            if self.process.status is None and self.exchange is not None and not self.exchange.done:
                self.exchange.emit("kill", {"reason": reason})
            self.process.kill()

    # ------------------------------------------------------------------ closing

    def never_started(self) -> None:
        """Close everything: no process was started."""
        resolve(self.process.exited)
        resolve(self.process.wiped)
        self.dispose()

    def release(self) -> None:
        """End the worker of a plugin that was garbage collected. For finalizers: takes no lock, in any thread."""
        self.report_to(None)
        self._watchdog.soon(self._end_unseen)

    def _end_unseen(self) -> None:
        self.kill("close")
        self.process.exited.add_done_callback(lambda _: self.dispose())

    def dispose(self) -> None:
        """Close the descriptors. Call it after the process ended and no waiter uses its socket any more."""
        self._watchdog.forget(self)
        with self.lock:
            if self.listener is not None:
                self.listener.dispose()
                self.listener = None
            self.limits.stop_counting()
            self.process.dispose()

    def abandon(self) -> None:
        """Close our copies, in a forked child of the host: see `Process.abandon`."""
        self.lock = threading.RLock()  # a thread may have held it at the fork
        self.exchange = self._on_event = None
        self.checks.require_full_check()
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
