"""The host's end of one worker (host): sends, receives, measures, holds the limits, ends it.

One lock guards the state, so that the caller's thread and the watchdog can both make it go on: whoever finds a reply
takes it. The descriptors stay open until `dispose`, which comes after the last waiter has let go of them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from agentplug.contract import wire
from agentplug.contract.events import Event
from agentplug.contract.policy import MAX_STRUCTURE_BYTES, Policy
from agentplug.contract.wire import ZygoteNews
from agentplug.errors import BarrierUnavailable
from agentplug.sandbox import limits
from agentplug.sandbox.channel import FrameReader, Violation, pack
from agentplug.sandbox.exchange import Exchange, Notes, Request
from agentplug.sandbox.kernel import Gone, Readings, arm_cpu_limit
from agentplug.sandbox.launcher import Spawned, Zygote, plan_for
from agentplug.sandbox.output import Output, Sink
from agentplug.sandbox.watchdog import watchdog

if sys.platform == "linux":  # its binding loads there alone
    from agentplug.sandbox.attempts import Attempts

GRACE_S = 1.0
BRISK_NS = 250_000
_BUSY_TICK_S = 0.010
_IDLE_TICK_S = 0.250
_WARM_NS = 100_000_000
_EOF_NS = 250_000_000
_DEAF_NS = 10_000_000
_ERROR_BYTES = 1 << 18  # an error frame is always let through, however small the policy's reply limit


_all: weakref.WeakSet[Worker] = weakref.WeakSet()


class AlreadyEnded(Exception):
    """The worker ended between two calls; another one can take this call."""


class Worker:
    """One confined process. Made by `spawn`; used by one exchange at a time."""

    def __init__(self, policy: Policy, sock: socket.socket, output: Output) -> None:
        self.policy = policy
        self.lock = threading.RLock()
        self.sock = sock
        self.output = output
        self.reader = FrameReader(sock, max(int(policy.reply), _ERROR_BYTES))
        self.ready = select.poll()
        for fd in (sock.fileno(), *output.fds):
            self.ready.register(fd, select.POLLIN)
        self.reader.takes_descriptor = True
        self.channel_ready = select.poll()
        self.channel_ready.register(sock, select.POLLIN)
        self.readings: Readings | None = None
        self._dog = watchdog()
        self.pid = 0
        self.pidfd = -1
        self.floor_bytes = 0
        self.status: str | None = None  # how it ended, once it has
        self.brisk = False  # its last call took no longer than a turn of the caller's loop
        self.ending = False  # told to end, or found dead: no exchange may begin
        self.exchange: Exchange | None = None
        self.attempts: Attempts | None = None
        self.earlier: Sequence[Event] = ()  # what was told of before: the next exchange begins with it
        self._deaf_until_ns = 0  # it tries so much that its attempts wait until then
        self._notes: Notes | None = None  # what was tried since the last call
        self.last: Exchange | None = None  # the one that began most recently, also once it is done
        self.on_event: weakref.WeakMethod[Callable[[Event], None]] | None = None
        self.scratch = ""
        self.wiped: Future[None] = Future()
        self.exited: Future[None] = Future()
        self.limits = limits.Limits(policy)
        self._last_active_ns = 0
        self._cpu_armed_ns = -1
        self._eof_ns = 0
        _all.add(self)

    # ------------------------------------------------------------------ life

    @classmethod
    def spawn(cls, policy: Policy, zygote: Zygote) -> tuple[Worker, Future[Spawned]]:
        """Ask `zygote` for a worker; `adopt` what the future brings."""
        with contextlib.ExitStack() as if_it_fails, contextlib.ExitStack() as theirs:
            try:
                ours, channel = socket.socketpair()
                theirs.callback(channel.close)
                if_it_fails.callback(ours.close)
                ends = [channel.fileno()]
                pipes = []
                for _ in ("stdout", "stderr"):
                    reader, writer = os.pipe2(os.O_CLOEXEC)
                    theirs.callback(os.close, writer)
                    if_it_fails.callback(os.close, reader)
                    os.set_blocking(reader, False)
                    ends.append(writer)
                    pipes.append(reader)
            except OSError as error:
                raise BarrierUnavailable(
                    f"No worker can be started: {error.strerror}. Each takes about ten descriptors of this process; "
                    "close plugins, or raise its limit (ulimit -n)"
                ) from None
            ours.setblocking(False)
            worker = cls(policy, ours, Output(pipes[0], pipes[1], int(policy.output)))
            future = zygote.spawn(plan_for(policy), ends, worker.hear)
            if_it_fails.pop_all()
            return worker, future

    def adopt(self, spawned: Spawned) -> None:
        """Take charge of the process that the zygote forked."""
        self.pid, self.pidfd, self.scratch = spawned
        with contextlib.suppress(Gone):
            self.readings = Readings(self.pid)
        for fd in self.output.fds:
            self._dog.listen(fd, functools.partial(self._drain, fd))
        self._dog.watch(self)

    def hear_attempts(self, readable: Callable[[str], bool]) -> bool:
        """Answer what it tries, if it sent its listener; `readable`: a path that every plugin may read."""
        self.reader.takes_descriptor = False
        if self.reader.descriptor < 0:
            return False
        with self.lock:
            fd, self.reader.descriptor = self.reader.descriptor, -1
            self.attempts = Attempts(fd, self.policy, self.scratch, readable, self._tell_tried)
            self._dog.listen(fd, self._answer)
        return True

    def _answer(self) -> None:
        with self.lock:
            if self.attempts is None:
                return
            fd = self.attempts.fd
            if not self.attempts.answer():
                self._dog.ignore(fd)
            elif self.attempts.too_many:
                self._dog.ignore(fd)
                self._deaf_until_ns = time.perf_counter_ns() + _DEAF_NS

    def _tell_tried(self, kind: str, **detail: Any) -> None:
        exchange = self.exchange
        if exchange is not None and not exchange.done:
            exchange.note(kind, detail)
            return
        if self._notes is None:
            self._notes = Notes(lambda kind, detail: self._tell_event(Event(0.0, kind, detail)))
        self._notes.add(kind, detail)

    def _drain(self, fd: int) -> None:
        if not self.output.drain(fd):
            self._dog.ignore(fd)

    def never_started(self) -> None:
        """No process came of it: let go of everything."""
        for future in (self.exited, self.wiped):
            if not future.done():
                future.set_result(None)
        self.dispose()

    def hear(self, news: ZygoteNews) -> None:
        """The zygote's word on how this worker ended (watchdog's thread)."""
        if news.what == "wiped":
            if not self.wiped.done():
                self.wiped.set_result(None)
            return
        with self.lock:
            if self.status is not None:
                return
            self.pump()  # what it sent before it ended still counts
            self.status = news.status
            self.ending = True
            finding = self._limit_behind(news)
            exchange = self.exchange
            if exchange is not None and not exchange.done:
                if finding is not None:
                    exchange.emit("limit", finding._asdict())
                exchange.emit("exit", {"status": news.status})
                self._finish(exchange, (news.user_s, news.system_s))
            elif finding is not None:
                self._tell_event(Event(0.0, "limit", finding._asdict()))
            else:
                self._tell_event(Event(0.0, "exit", {"status": news.status}))
        self._dog.forget(self)
        if not self.exited.done():
            self.exited.set_result(None)

    def dispose(self) -> None:
        """Close the descriptors. Only after it ended, and after every waiter has let go of `sock`."""
        self._dog.forget(self)
        with self.lock:
            for fd in list(self.output.fds):
                self._dog.ignore(fd)
            self.output.close()
            self.sock.close()
            self._close_attempts(self._dog.ignore)
            if self.readings is not None:
                self.readings.close()
            if self.pidfd >= 0:
                os.close(self.pidfd)
                self.pidfd = -1

    def abandon(self) -> None:
        """In a forked child of the host: let go of our copies. The process is the parent's, and must not be ended.

        Nothing may touch the watchdog's epoll here: the parent waits on the same one.
        """
        self.lock = threading.RLock()
        self.status, self.ending, self.exchange, self.on_event = "belongs to the parent process", True, None, None
        self.exited, self.wiped = Future(), Future()
        for future in (self.exited, self.wiped):
            future.set_result(None)
        self.output.abandon()
        self.sock.close()
        self._close_attempts(lambda fd: None)
        if self.readings is not None:
            self.readings.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _close_attempts(self, ignore: Callable[[int], None]) -> None:
        if self.attempts is not None:
            ignore(self.attempts.fd)
            self.attempts.close()
            self.attempts = None
        elif self.reader.descriptor >= 0:
            os.close(self.reader.descriptor)
            self.reader.descriptor = -1

    @property
    def alive(self) -> bool:
        """Fit for another exchange."""
        return self.status is None and not self.ending

    # ------------------------------------------------------------------ exchange

    def begin(self, requests: Sequence[Request], sink: Sink | None = None) -> Exchange:
        """Send `requests` as one exchange. Raises `AlreadyEnded` if it is gone: then nothing was sent."""
        exchange = Exchange(requests, self.floor_bytes)
        with self.lock:
            if self.exchange is not None:  # the loop that waited for it was closed: nobody ever takes its end
                self.stop("close")
            if self.status is not None or self.ending:
                raise AlreadyEnded
            exchange.takes_claims = self.attempts is None
            exchange.current.events.extend(self.earlier)
            self.earlier = ()
            self.output.begin(sink)
            self._notes = None
            self.exchange = self.last = exchange
            try:
                if self.readings is not None and requests:
                    exchange.begin(self.readings)
            except Gone as gone:
                self._vanished(gone)
            self._send(exchange)
            # From here on the worker is at it: what isn't needed before, we do beside it.
            exchange.begun()
            self.limits.begin(exchange)
            if exchange.cpu0_ns > self._cpu_armed_ns and not self.ending:
                self._arm_cpu(exchange.cpu0_ns)
        self._dog.nudge(_BUSY_TICK_S)
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
                self._vanished(gone)
            if exchange.done:
                self._finish(exchange, None)
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
        self.exchange = None
        self._last_active_ns = time.perf_counter_ns()
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

    def _look_for_stray_frames(self) -> None:
        """Between calls a worker has nothing to say."""
        if self.last is None or not self.ready.poll(0):
            return  # its greeting is still to be taken; or no frame is there, and no output either
        try:
            if self.reader.next() is None and not self.reader.partial:
                return
            reason = "a frame between calls"
        except Violation as violation:
            reason = str(violation)
        if self.status is None:
            self._lose(Event(0.0, "protocol", {"reason": reason}))

    # ------------------------------------------------------------------ limits and ends

    def tick(self, now_ns: int) -> float:
        """Called by the watchdog."""
        with self.lock:
            now_ns = time.perf_counter_ns()  # a call may have begun while we waited for the lock
            if self.status is not None or self.pid == 0:
                return float("inf")
            exchange = self.exchange
            if self._deaf_until_ns and now_ns > self._deaf_until_ns and self.attempts is not None:
                self._deaf_until_ns = 0
                self._dog.listen(self.attempts.fd, self._answer)
            try:
                if self.ending or self.readings is None:
                    return _IDLE_TICK_S
                if exchange is None:
                    return self._tick_idle(now_ns)
                if self.pump():
                    return _BUSY_TICK_S
                if exchange.grace_until_ns is not None and now_ns > exchange.grace_until_ns:
                    self.kill("grace")
                    return _IDLE_TICK_S
                finding, wait_s = self.limits.check(exchange, self.readings, self.reader, self, now_ns)
            except Gone as gone:
                self._vanished(gone)
                return _IDLE_TICK_S
            except Exception:
                self.kill("unwatched")  # no limit holds for it any more
                raise
            if finding is not None:
                self._over(exchange, finding)
            elif self.reader.eof:
                self._eof_ns = self._eof_ns or now_ns
                if now_ns - self._eof_ns > _EOF_NS:  # a process that is exiting closes it too, a moment earlier
                    exchange.emit("protocol", {"reason": "it closed its end of the channel"})
                    self.kill("protocol")
            return wait_s

    def _vanished(self, gone: Gone) -> None:
        """No reading can be had: it has ended, and word of that is on its way; or it must, unmeasured as it is."""
        self.kill(f"gone: {gone}")

    def _tick_idle(self, now_ns: int) -> float:
        assert self.readings is not None
        self._look_for_stray_frames()
        if not self.ending:
            finding = self.limits.check_idle(self.readings, self, now_ns)
            if finding is not None:
                self._lose(Event(0.0, "limit", finding._asdict()))
        return _BUSY_TICK_S if now_ns - self._last_active_ns < _WARM_NS else _IDLE_TICK_S

    def _over(self, exchange: Exchange, finding: limits.Finding) -> None:
        if finding.by == "protocol":
            exchange.emit("protocol", {"reason": finding.unit})
        else:
            exchange.emit("limit", finding._asdict())
        with contextlib.suppress(Gone):
            assert self.readings is not None
            exchange.measure_peak(self.readings)
        self.kill(finding.by)

    def _check_peak(self, exchange: Exchange) -> None:
        """A peak that no tick saw still counts: the kernel saw it."""
        growth = exchange.peak_bytes - self.floor_bytes
        if self.floor_bytes and growth > int(self.policy.memory):
            exchange.emit("limit", limits.Finding("memory", growth, int(self.policy.memory), "bytes")._asdict())
            self.kill("memory")

    def _limit_behind(self, news: ZygoteNews) -> limits.Finding | None:
        """The limit for which the kernel itself ended the process, if that is why."""
        if news.out_of_memory:
            return limits.Finding("memory", self._growth(), int(self.policy.memory), "bytes")
        before_ns = self.exchange.cpu0_ns if self.exchange is not None else 0
        used_s = news.user_s + news.system_s - before_ns / 1e9
        if news.status == "SIGXCPU" and used_s >= self.policy.cpu_s:  # a plugin may send it to itself
            return limits.Finding("cpu", used_s, self.policy.cpu_s, "s")
        return None

    def _growth(self) -> int:
        peak = self.exchange.peak_bytes if self.exchange is not None else 0
        return max(peak - self.floor_bytes, int(self.policy.memory))

    def _arm_cpu(self, used_ns: int) -> None:
        """Move the kernel's own CPU limit, the backstop, ahead of what this call may use."""
        slack_s = 10
        armed_s = int(used_ns / 1e9 + self.policy.cpu_s) + 1 + slack_s
        arm_cpu_limit(self.pid, armed_s)
        self._cpu_armed_ns = used_ns + slack_s * 1_000_000_000  # until then, there is room for a whole call

    def interrupt(self) -> None:
        """Ask the running call to stop, as Ctrl-C would; SIGKILL follows if it doesn't within the grace time."""
        with self.lock:
            exchange = self.exchange
            if exchange is None or exchange.done or exchange.grace_until_ns is not None:
                return
            exchange.emit("stop", {"by": "interrupt"})
            exchange.grace_until_ns = time.perf_counter_ns() + int(GRACE_S * 1e9)
            self._signal(signal.SIGINT)
        self._dog.nudge()

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
        """SIGKILL through the pidfd: it can't be caught, and can't hit another process."""
        with self.lock:
            if self.status is not None:
                return
            self.ending = True
            if self.exchange is not None and not self.exchange.done:
                self.exchange.emit("kill", {"reason": reason})
            self._signal(signal.SIGKILL)

    def _lose(self, event: Event) -> None:
        self.kill(event.kind)
        self._tell_event(event)

    def _tell_event(self, event: Event) -> None:
        tell = self.on_event() if self.on_event is not None else None
        if tell is not None:
            tell(event)

    def _signal(self, number: int) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def settle_floor(self) -> None:
        """Take the present footprint as the one that the plugin's memory is counted from."""
        with contextlib.suppress(Gone):
            if self.readings is not None:
                self.floor_bytes = self.readings.footprint_bytes()


def _abandon_in_child() -> None:
    for worker in list(_all):
        worker.abandon()
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_in_child)
