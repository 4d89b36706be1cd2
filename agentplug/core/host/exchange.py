"""One exchange with a worker: a call, or the calls of a window, measured together (host).

The calls go out and the replies come back in order. Then the worker must show that it is back in its own loop: the
kernel sees it wait for the next frame, or it answers a number that it couldn't know before. No reply counts until
then. So a plugin that forges a reply and exits has died, and one that forges a reply and spins reaches its limit.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from agentplug.contract.events import Event
from agentplug.contract.record import Usage
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.bounds import CHANNEL_FD
from agentplug.core.boundary.channel import Buffer, Violation, pack
from agentplug.core.boundary.frames import Frame
from agentplug.core.host.readings import HARDLY_NS, HZ, Counters, Gone, Readings
from agentplug.core.host.refused_calls.counts import RefusedCalls
from agentplug.core.host.samples import Samples

if TYPE_CHECKING:
    from agentplug.core.host.displays import Displays, Relay
    from agentplug.core.profile import Profile

_WORTH_A_SAMPLE_NS = 1_000_000
_POLLS = 6  # of some 4 microseconds each; to ask the worker costs a round trip


def _draw() -> int:
    """Return a random number of 32 bits. A plugin sees these numbers, so earlier ones must not predict later ones."""
    return int.from_bytes(os.urandom(4))


class Request(NamedTuple):
    """The frame of one call: kind and flags, encoded body."""

    kind: int
    flags: int = 0
    structure: Buffer = b""
    blobs: Sequence[Buffer] = ()

    @property
    def size_bytes(self) -> int:
        size_bytes = len(self.structure)
        for blob in self.blobs:
            size_bytes += memoryview(blob).nbytes
        return size_bytes


@dataclass(slots=True)
class Record:
    """One call of an exchange, as the host saw it."""

    call: int
    request_bytes: int
    answers: frozenset[int]
    events: list[Event]
    frame: Frame | None = None
    profile: Profile | None = None
    refused_calls: RefusedCalls | None = None

    def take_reply(self, frame: Frame) -> None:
        """Take the worker's answer to this call."""
        self.frame = frame

    def take_profile(self, profile: Profile) -> None:
        """Take the profile that came before the reply."""
        self.profile = profile

    def count(self, kind: str, detail: dict[str, Any], emit: Callable[[str, dict[str, Any]], None]) -> None:
        """Emit a refused call, or count a repeated one."""
        if self.refused_calls is None:
            self.refused_calls = RefusedCalls(emit)
        self.refused_calls.add(kind, detail)


_ANSWERS = {
    wire.CALL: frozenset((wire.REPLY, wire.ERROR, wire.UNSERIALIZABLE)),
    wire.LOAD: frozenset((wire.LOADED, wire.ERROR)),
    wire.CLOSE: frozenset(),  # the worker exits
}
_HELLO_ONLY = frozenset((wire.HELLO,))


class Exchange:
    """State and figures of one exchange, guarded by its worker's lock. A finished exchange doesn't change."""

    head = 0
    nonce: int | None = None
    done = False
    _claimed: Record | None = None
    displays: Displays | None = None  # since the first one
    _wake: Callable[[], None] | None = None
    grace_until_ns: int | None = None
    stdout = stderr = ""
    output_bytes = 0
    usage = Usage()
    ended_ns = 0
    cpu0_ns = head_cpu_ns = last_cpu_ns = 0  # the worker's own clock
    children_ns = 0  # CPU time of its child processes in this exchange
    baseline_bytes = peak_bytes = threads = _threads0 = 0
    _uncounted_bytes = 0  # the part of the first footprint that the high-water mark missed: see `Counters`
    _counters0 = counters = Counters(0, 0, 0, 0, 0, 0, 0)

    def __init__(
        self,
        requests: Sequence[Request],
        floor_bytes: int = 0,
        *,
        earlier: Sequence[Event] = (),
        takes_claims: bool = False,
        profile: str = "",
        on_display: Callable[[Frame, int], None] | None = None,
    ) -> None:
        self.greeting = not requests  # the first exchange only waits for the worker's greeting
        self._takes_profile = ""
        start = Event(0.0, "start", {"floor_bytes": floor_bytes})
        if requests:
            self.records = [Record(_draw(), r.size_bytes, _ANSWERS[r.kind], [start]) for r in requests]
            if requests[0].kind == wire.CALL and requests[0].flags & wire.METHOD_MASK == wire.PROCESS:
                self._takes_profile = profile
        else:
            self.records = [Record(0, 0, _HELLO_ONLY, [start])]
        self.records[0].events.extend(earlier)
        self._on_display = on_display
        self._takes_claims = takes_claims  # the kernel doesn't report refused calls, so the worker does
        self.outgoing: list[Buffer] = []
        for request, record in zip(requests, self.records, strict=False):
            self.outgoing += pack(request.kind, record.call, request.structure, request.blobs, request.flags)
        self.samples = Samples()
        self.started_ns = self.head_ns = time.perf_counter_ns()

    # ------------------------------------------------------------------ measuring

    def begin(self, readings: Readings, last: Exchange | None) -> int:
        """Read the figures at the start. Return the high-water mark since the `last` exchange, 0 if nothing grew.

        Raises `Gone`.
        """
        self.cpu0_ns = self.head_cpu_ns = self.last_cpu_ns = cpu_ns = readings.cpu_ns()
        self._counters0 = self.counters = counters = readings.counters(cpu_ns, hardly_ns=HARDLY_NS)
        self._threads0 = counters.threads  # maybe with threads of the last call that were still ending
        between_bytes = 0
        if last is not None and not last.greeting and counters.faults != last.counters.faults:
            between_bytes = readings.memory().peak_bytes
        readings.reset_peak()
        self.baseline_bytes = self.peak_bytes = readings.footprint_bytes()
        self._uncounted_bytes = max(0, self.baseline_bytes - counters.counted_bytes)
        self.started_ns = self.head_ns = time.perf_counter_ns()
        return between_bytes

    def add_hidden(self, hidden_bytes: int) -> None:
        """Add memory that no footprint shows to the figures at the start."""
        self.baseline_bytes += hidden_bytes
        self.peak_bytes = self.baseline_bytes

    def take_first_sample(self) -> None:
        """Store the figures at the start as a sample, once the requests are sent."""
        if self.baseline_bytes:
            self.samples.append((0, self.baseline_bytes, 0, self._threads0))

    def sample(self, now_ns: int, rss_bytes: int, cpu_ns: int, threads: int, children_ns: int) -> None:
        """Store one reading as a sample. `children_ns` is its child processes' share of its CPU time."""
        self.children_ns = children_ns
        self.last_cpu_ns = max(self.last_cpu_ns, cpu_ns - children_ns)
        self.peak_bytes = max(self.peak_bytes, rss_bytes)
        self.threads = max(self.threads, threads)
        self.samples.thin()
        self.samples.append((now_ns - self.started_ns, rss_bytes, cpu_ns - self.cpu0_ns, threads))

    def raise_peak(self, rss_bytes: int) -> None:
        """Raise the peak to the footprint that a quick check read."""
        self.peak_bytes = max(self.peak_bytes, rss_bytes)

    def measure_peak(self, readings: Readings) -> None:
        """Read the high-water mark, which no sample can miss. Raises `Gone`."""
        memory = readings.memory()
        peak_bytes = memory.peak_bytes
        if peak_bytes > memory.footprint_bytes:  # else the mark is the footprint, to the page
            peak_bytes += self._uncounted_bytes
        self.peak_bytes = max(self.peak_bytes, peak_bytes)
        self.threads = max(self.threads, memory.threads)

    def measure_end(self, readings: Readings) -> None:
        """Read the figures after the last reply. Raises `Gone`."""
        cpu_ns = self.last_cpu_ns = readings.cpu_ns()
        counters = self.counters = readings.counters(cpu_ns)
        if counters.faults != self._counters0.faults:  # without a page fault the footprint can't have grown
            self.measure_peak(readings)
        self.threads = max(self.threads, counters.threads)
        t_ns = self.ended_ns - self.started_ns
        if t_ns > _WORTH_A_SAMPLE_NS:
            used_ns = cpu_ns - self.cpu0_ns + self.children_ns
            self.samples.append((t_ns, readings.footprint_bytes(), used_ns, counters.threads))

    def take_output(self, stdout: str, stderr: str, output_bytes: int, dropped_bytes: int) -> None:
        """Store what the worker printed during the exchange."""
        self.stdout, self.stderr, self.output_bytes = stdout, stderr, output_bytes
        if dropped_bytes:
            self.emit("dropped", {"what": "output", "count": dropped_bytes})

    def close(self, cpu_total_s: tuple[float, float] | None = None) -> None:
        """Compute `usage`, and be done. `cpu_total_s`: user and system time of a worker that ended, from wait4(2)."""
        if not (self.done and self.ended_ns):  # else `settle` has set it
            self.ended_ns = time.perf_counter_ns()
        cpu_ns = self.last_cpu_ns - self.cpu0_ns + self.children_ns
        if (latest := self.samples.latest) is not None:
            cpu_ns = max(cpu_ns, latest.cpu_ns)
        before, after = self._counters0, self.counters
        if cpu_total_s is not None:
            cpu_ns = max(cpu_ns, int(sum(cpu_total_s) * 1e9) - self.cpu0_ns)
            after = after._replace(user_ticks=int(cpu_total_s[0] * HZ), system_ticks=int(cpu_total_s[1] * HZ))
        user, system = after.user_ticks - before.user_ticks, after.system_ticks - before.system_ticks
        share = user / (user + system) if system > 0 <= user else 1.0
        cpu_s = cpu_ns / 1e9 if cpu_ns > 0 else 0.0
        request_bytes = reply_bytes = 0
        for record in self.records:
            request_bytes += record.request_bytes
            if (frame := record.frame) is not None:
                reply_bytes += len(frame.structure) + len(frame.blobs)
        read_bytes, write_bytes = after.read_bytes - before.read_bytes, after.write_bytes - before.write_bytes
        self.usage = Usage(
            (self.ended_ns - self.started_ns) / 1e9,
            cpu_s,
            cpu_s * share,
            cpu_s * (1 - share),
            self.peak_bytes,
            self.baseline_bytes,
            len(self.records),
            request_bytes,
            reply_bytes,
            self.output_bytes,
            read_bytes,
            max(0, write_bytes - self.output_bytes) if write_bytes else 0,
            self.threads or self._threads0,
        )
        self._on_display = None
        self.done = True

    def begin_displays(self, relay: Relay) -> Displays:
        """Take displays from now on, for `relay`."""
        from agentplug.core.host.displays import Displays  # loaded with the first display

        self.displays = Displays(relay)
        return self.displays

    def begin_grace(self, grace_s: float) -> None:
        """Give the call `grace_s` seconds to stop by itself."""
        self.grace_until_ns = time.perf_counter_ns() + int(grace_s * 1e9)

    def wake_with(self, wake: Callable[[], None] | None) -> None:
        """Set the function that is called once the exchange is done."""
        self._wake = wake

    def wake(self) -> None:
        """Wake the waiter; it may have left."""
        if (wake := self._wake) is not None:
            wake()

    # ------------------------------------------------------------------ frames and events

    @property
    def current(self) -> Record:
        """The call that the worker works on (the last one once all are answered)."""
        return self.records[min(self.head, len(self.records) - 1)]

    def emit(self, kind: str, detail: dict[str, Any]) -> None:
        """Add an event to the current call."""
        t_s = (time.perf_counter_ns() - self.started_ns) / 1e9
        self.current.events.append(Event(t_s, kind, detail))

    def emit_counted(self, kind: str, detail: dict[str, Any]) -> None:
        """Add a refused call to the current call, or count a repeated one."""
        self.current.count(kind, detail, self.emit)

    def take(self, frame: Frame, readings: Readings | None) -> bool:
        """Take one frame; return true if it was the last one expected, so `settle` is due.

        Raises `Violation`, `Gone`.
        """
        if self.nonce is not None:
            if frame.kind != wire.SETTLED or frame.call != self.nonce:
                raise Violation("a second reply to a call that was answered already")
            self.nonce = None
            return True
        record = self.current
        if self.greeting and frame.kind == wire.LISTENER:
            return False
        if frame.call != record.call:
            raise Violation("a reply to a call that was never made, or not yet")
        if frame.kind == wire.DISPLAY and self._on_display is not None and wire.REPLY in record.answers:
            self._on_display(frame, self.head)
            return False
        if frame.kind == wire.CLAIMS and self._takes_claims and self._claimed is not record:
            from agentplug.core.host.claims import claimed_events

            self._claimed = record
            for kind, detail in claimed_events(frame):
                self.emit(kind, detail)
            return False
        if frame.kind == wire.PROFILE and self._takes_profile and record.profile is None:
            from agentplug.core.host.claims import claimed_profile

            record.take_profile(claimed_profile(frame, self._takes_profile))
            return False
        if frame.kind not in record.answers:
            raise Violation(f"a frame of kind {frame.kind} where none belongs")
        record.take_reply(frame)
        self.head += 1
        if self.greeting:
            self.done = True  # no plugin has run yet, so there is nothing to settle
            return False
        if readings is None:
            raise Gone("no readings")
        if self.head == len(self.records):
            return True  # the last call goes on, and its limits with it, until the worker is back in its own loop
        self.head_ns = time.perf_counter_ns()
        with contextlib.suppress(Gone):  # if it has ended, the replies that it sent before still count
            self.head_cpu_ns = readings.cpu_ns()
        return False

    def send(self, sock: socket.socket) -> None:
        """Send as much of the requests as fits without waiting."""
        while self.outgoing:
            buffer = memoryview(self.outgoing[0])
            try:
                sent = sock.send(buffer)
            except BlockingIOError:
                return
            except OSError:
                self.outgoing.clear()  # it hung up; the watchdog will report its end
                return
            if sent == buffer.nbytes:
                self.outgoing.pop(0)
            else:
                self.outgoing[0] = buffer.cast("B")[sent:]

    def settle(self, readings: Readings) -> None:
        """Read the last figures, and check that the worker is back in its own loop: the kernel sees its main thread
        wait for the next frame, or it must answer a number. Raises `Gone`."""
        settled = self.ended_ns != 0  # it has answered the number
        self.ended_ns = time.perf_counter_ns()
        for _ in range(_POLLS):  # before the figures: only a sleeping process's CPU clock is up to date
            self.done = readings.receives_on(CHANNEL_FD)
            if self.done:
                break
            os.sched_yield()  # its reply may have woken us on its own processor
        self.measure_end(readings)
        if settled:
            self.done = True
        if not self.done:
            self.nonce = _draw()
            self.outgoing += pack(wire.SETTLE, self.nonce)
