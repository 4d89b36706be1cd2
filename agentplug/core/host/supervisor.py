"""The host's end of one worker (host): sends, receives, measures, stops.

One lock guards the state, so that the caller's thread and the watchdog can both make it go on: whoever finds a reply
takes it. The process itself is `confined`'s, what the watchdog does to it `rounds`'s.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from agentplug.contract.events import Event
from agentplug.contract.limits import MAX_STRUCTURE_BYTES
from agentplug.contract.policy import Policy
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import MOST_DESCRIPTORS, Violation, pack
from agentplug.core.boundary.frames import ZygoteNews
from agentplug.core.host import limits
from agentplug.core.host import tick as rounds
from agentplug.core.host.attempts.listener import Hearing
from agentplug.core.host.calm import Calm
from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.launcher import out_of_descriptors
from agentplug.core.host.output import Output, Sink
from agentplug.core.host.process import ConfinedProcess
from agentplug.core.host.readings import Gone

GRACE_S = 1.0
BRISK_NS = 250_000


class AlreadyEnded(Exception):
    """The worker ended between two calls; another one can take this call."""


class Worker(ConfinedProcess):
    """A confined process that takes calls, one exchange at a time."""

    def __init__(self, policy: Policy, sock: socket.socket, output: Output) -> None:
        super().__init__(policy, sock, output)
        self.limits = limits.Limits(policy)
        self.calm: Calm | None = None  # while a glance will do
        self.exchange: Exchange | None = None
        self.last: Exchange | None = None  # the one that began most recently, also once it is done
        self.barriers: Mapping[str, str] = {}  # how each stood as the plugin's code came
        self.earlier: Sequence[Event] = ()  # what was told of before: the next exchange begins with it
        self.brisk = False  # its last call took no longer than a turn of the caller's loop
        self.last_active_ns = 0
        self.eof_ns = 0

    def hear_attempts(self, readable: Callable[[str], bool]) -> bool:
        """Answer what it tries, if it sent its listener; `readable`: a path that every plugin may read."""
        self.reader.takes_descriptor = False
        if self.reader.descriptor < 0:
            return False
        with self.lock:
            fd, self.reader.descriptor = self.reader.descriptor, -1
            self.attempts = Hearing(self, fd, readable)
        return True

    @property
    def has_spoken(self) -> bool:
        """There was something to read on its channel as the watchdog began its checks."""
        return self.sock.fileno() in self.dog.readable

    @property
    def is_deaf(self) -> bool:
        """What it tries isn't answered at the moment, so much of it there was."""
        return self.attempts is not None and self.attempts.deaf

    def tick(self, crowd: int) -> float:
        """Called by the watchdog."""
        with self.lock:
            return rounds.tick(self, crowd)

    # ------------------------------------------------------------------ exchange

    def give(self, descriptors: Sequence[int]) -> None:
        """Send copies of these, before it is sent a plugin. Raises `AlreadyEnded` if it is gone."""
        for start in range(0, len(descriptors), MOST_DESCRIPTORS):
            frame = pack(wire.DESCRIPTORS, 0)
            try:
                socket.send_fds(self.sock, frame, list(descriptors[start : start + MOST_DESCRIPTORS]))
            except (BrokenPipeError, ConnectionResetError):
                raise AlreadyEnded from None
            except OSError as error:
                raise out_of_descriptors(error.strerror) from None

    def begin(self, requests: Sequence[Request], sink: Sink | None = None) -> Exchange:
        """Send `requests` as one exchange. Raises `AlreadyEnded` if it is gone: then nothing was sent."""
        exchange = Exchange(requests, self.floor_bytes)
        with self.lock:
            if self.exchange is not None:  # the loop that waited for it was closed: nobody ever takes its end
                self.stop("close")
            if self.status is not None or self.ending:
                raise AlreadyEnded
            exchange.takes_claims = self.attempts is None
            if self.policy.profile and requests and requests[0].is_process:
                exchange.takes_profile = self.policy.profile
            exchange.current.events.extend(self.earlier)
            self.earlier = ()
            self.output.begin(sink)
            if self.attempts is not None:
                self.attempts.notes = None
            self.exchange = self.last = exchange
            self.calm = None
            try:
                if self.readings is not None and requests:
                    exchange.begin(self.readings)
            except Gone as gone:
                self.vanished(gone)
            self._send(exchange)
            # From here on the worker is at it: what isn't needed before, we do beside it.
            exchange.begun()
            self.limits.begin(exchange)
            if exchange.cpu0_ns > self.limits.cpu_armed_ns and not self.ending:
                self.limits.arm_cpu(self.pid, exchange.cpu0_ns)
        self.dog.nudge(self, rounds.BUSY_TICK_S)
        return exchange

    def pump(self) -> bool:
        """Send and receive what can be, without waiting; true once the exchange is done."""
        with self.lock:
            exchange = self.exchange
            if exchange is None or exchange.done:
                return True
            if self.ending:
                return False  # whatever it says now comes too late
            self._send(exchange)
            try:
                while not exchange.done and (frame := self.reader.next()) is not None:
                    if exchange.take(frame, self.readings):
                        assert self.readings is not None
                        exchange.settle(self.readings)
                        self._check_peak(exchange)
                        self._send(exchange)
            except Violation as violation:
                self._violated(exchange, violation)
            except Gone as gone:
                self.vanished(gone)
            if exchange.done:
                self._finish(exchange, None)
            elif exchange.outgoing or self.reader.partial or self.reader.eof:
                self.calm = None
            return exchange.done

    def _send(self, exchange: Exchange) -> None:
        while exchange.outgoing:
            buffer = memoryview(exchange.outgoing[0])
            try:
                sent = self.sock.send(buffer)
            except BlockingIOError:
                return
            except OSError:
                exchange.outgoing.clear()  # it hung up: its end is on its way
                return
            if sent == buffer.nbytes:
                exchange.outgoing.pop(0)
            else:
                exchange.outgoing[0] = buffer.cast("B")[sent:]

    def _finish(self, exchange: Exchange, cpu_total_s: tuple[float, float] | None) -> None:
        ready = self.ready.poll(0)
        if cpu_total_s is None and (ready or self.reader.partial) and self._spoke_again():
            self._violated(exchange, Violation("more frames than calls"))
        if self.output.count or ready:
            exchange.stdout, exchange.stderr, exchange.output_bytes, dropped = self.output.take()
            if dropped:
                exchange.emit("dropped", {"what": "output", "count": dropped})
        exchange.close_figures(cpu_total_s)
        exchange.done = True
        self.brisk = exchange.ended_ns - exchange.started_ns < 2 * BRISK_NS and exchange.head == 1
        self.exchange = self.calm = None
        self.last_active_ns = time.perf_counter_ns()
        self.limits.enter_idle(exchange.last_cpu_ns)
        if exchange.wake is not None:
            exchange.wake()

    def _spoke_again(self) -> bool:
        """Behind the last reply, which is settled, there is more on the channel (its end isn't)."""
        if self.reader.partial:
            return True
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _violated(self, exchange: Exchange, violation: Violation) -> None:
        if violation.oversize is not None and not exchange.greeting:
            announced, allowed = violation.oversize
            if announced <= int(self.policy.memory) + self.floor_bytes + MAX_STRUCTURE_BYTES:
                exchange.emit("limit", limits.Finding("reply", announced, allowed, "bytes")._asdict())
                self.kill("reply")
                return
        exchange.emit("protocol", {"reason": str(violation)})
        self.kill("protocol")

    # ------------------------------------------------------------------ ends

    def vanished(self, gone: Gone) -> None:
        """No reading can be had: it has ended, and word of that is on its way; or it must, unmeasured as it is."""
        self.kill(f"gone: {gone}")

    def _check_peak(self, exchange: Exchange) -> None:
        """A peak that no tick saw still counts: the kernel saw it."""
        growth = exchange.peak_bytes - self.floor_bytes
        if self.floor_bytes and growth > int(self.policy.memory):
            exchange.emit("limit", limits.Finding.of("memory", growth, self.policy)._asdict())
            self.kill("memory")

    def ended(self, news: ZygoteNews) -> None:
        """Its process has ended: what it sent before still counts."""
        self.pump()
        self.status = news.status
        self.ending = True
        exchange = self.exchange
        finding = self.limits.behind(news, exchange, self.floor_bytes)
        if exchange is not None and not exchange.done:
            if finding is not None:
                exchange.emit("limit", finding._asdict())
            exchange.emit("exit", {"status": news.status})
            self._finish(exchange, (news.user_s, news.system_s))
        elif finding is not None:
            self.tell_event(Event(0.0, "limit", finding._asdict()))
        else:
            self.tell_event(Event(0.0, "exit", {"status": news.status}))

    def interrupt(self) -> None:
        """Ask the running call to stop, as Ctrl-C would; SIGKILL follows if it doesn't within the grace time."""
        with self.lock:
            exchange = self.exchange
            if exchange is None or exchange.done or exchange.grace_until_ns is not None:
                return
            exchange.emit("stop", {"by": "interrupt"})
            exchange.grace_until_ns = time.perf_counter_ns() + int(GRACE_S * 1e9)
            self.calm = None
            self.send_signal(signal.SIGINT)
        self.dog.nudge(self)

    def stop(self, by: str) -> None:
        """End it now; a call under way ends with verdict `stopped:BY`."""
        with self.lock:
            if self.exchange is not None and not self.exchange.done:
                self.exchange.emit("stop", {"by": by})
            self.kill(by)

    def ask_to_close(self) -> None:
        """Let the plugin's `shutdown` run, and its process end by itself."""
        with self.lock, contextlib.suppress(OSError):
            if self.exchange is None:
                self.limits.enter_idle(0)
                self.sock.send(pack(wire.CLOSE, 0)[0])

    def kill(self, reason: str) -> None:
        """End it at once; a call under way says so."""
        with self.lock:
            self.calm = None
            if self.status is None and self.exchange is not None and not self.exchange.done:
                self.exchange.emit("kill", {"reason": reason})
            super().kill(reason)

    def abandon(self) -> None:
        """In a forked child of the host: see `ConfinedProcess.abandon`."""
        self.exchange = self.calm = None
        super().abandon()
