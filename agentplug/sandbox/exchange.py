"""One exchange with a worker: a call, or the calls of a window, measured together (host).

The calls go out, the replies come back in order, and then the worker must answer a number it couldn't know before:
only so is it back in its own loop. A reply that the plugin forged counts for nothing unless that happens, so a
worker that forges one and exits has died, and one that forges one and spins runs into its limit.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentplug.contract import wire
from agentplug.contract.events import Event
from agentplug.contract.run import Sample, Usage
from agentplug.contract.wire import Frame
from agentplug.sandbox.channel import Buffer, Violation, pack
from agentplug.sandbox.kernel import Gone, Readings

_MAX_SAMPLES = 2_048
_ids = random.SystemRandom().getrandbits(64)
_draw = random.Random(_ids).getrandbits


@dataclass(slots=True)
class Request:
    """What one call sends: the frame's kind and flags, its encoded body."""

    kind: int
    flags: int = 0
    structure: Buffer = b""
    blobs: Sequence[Buffer] = ()

    @property
    def size_bytes(self) -> int:
        return len(self.structure) + sum(memoryview(blob).nbytes for blob in self.blobs)


@dataclass(slots=True)
class Record:
    """One call of an exchange: what the host saw of it."""

    call: int
    request_bytes: int
    answers: frozenset[int]
    frame: Frame | None = None
    events: list[Event] = field(default_factory=list)


_ANSWERS = {
    wire.CALL: frozenset((wire.REPLY, wire.ERROR, wire.UNSERIALIZABLE)),
    wire.LOAD: frozenset((wire.LOADED, wire.ERROR)),
}
_HELLO_ONLY = frozenset((wire.HELLO,))


class Exchange:
    """State and figures of one exchange. Its worker's lock guards it; `done` and what follows it are final."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.greeting = not requests  # the first exchange: it only waits for what the worker says of itself
        self.records = [
            Record(_draw(32), request.size_bytes, _ANSWERS[request.kind]) for request in requests
        ] or [Record(0, 0, _HELLO_ONLY)]
        self.outgoing: list[Buffer] = []
        for request, record in zip(requests, self.records, strict=False):
            self.outgoing += pack(request.kind, record.call, request.structure, request.blobs, request.flags)
        self.head = 0
        self.nonce: int | None = None
        self.done = False
        self.wake: Callable[[], None] | None = None
        self.finished = threading.Event()
        self.grace_until_ns: int | None = None
        self.stdout = self.stderr = ""
        self.output_bytes = 0
        self.samples: list[Sample] = []
        self.usage = Usage()
        self.started_ns = self.head_ns = time.perf_counter_ns()
        self.cpu0_ns = self.head_cpu_ns = self.last_cpu_ns = 0
        self.ended_ns = 0
        self.baseline_bytes = self.peak_bytes = self.threads = 0
        self._ticks0 = (0, 0)
        self._io0 = (0, 0)
        self._io = (0, 0)
        self._ticks = (0, 0)
        self._stride = 1
        self._skipped = 0

    # ------------------------------------------------------------------ measuring

    def begin(self, readings: Readings) -> None:
        """Take the figures that this exchange starts from. Raises `Gone`."""
        self._io0 = self._io = readings.io_bytes()
        user, system, self.threads = readings.cpu_ticks()
        self._ticks0 = self._ticks = (user, system)
        readings.reset_peak()
        self.baseline_bytes = self.peak_bytes = readings.footprint_bytes()
        self.started_ns = self.head_ns = time.perf_counter_ns()
        self.cpu0_ns = self.head_cpu_ns = self.last_cpu_ns = readings.cpu_ns()
        self.samples.append(Sample(0, self.baseline_bytes, 0, self.threads))

    def sample(self, now_ns: int, rss_bytes: int, cpu_ns: int, threads: int) -> None:
        """Keep one reading; past the bound every second one goes, and from then on every second is kept."""
        self.last_cpu_ns = max(self.last_cpu_ns, cpu_ns)
        self.peak_bytes = max(self.peak_bytes, rss_bytes)
        self.threads = max(self.threads, threads)
        self._skipped += 1
        if self._skipped < self._stride:
            return
        self._skipped = 0
        self.samples.append(Sample(now_ns - self.started_ns, rss_bytes, cpu_ns - self.cpu0_ns, threads))
        if len(self.samples) > _MAX_SAMPLES:
            self.samples[:] = self.samples[::2]
            self._stride *= 2

    def measure_peak(self, readings: Readings) -> None:
        """Read the high-water mark, which no sample can miss. Raises `Gone`."""
        memory = readings.memory()
        self.peak_bytes = max(self.peak_bytes, memory.peak_bytes)
        self.threads = max(self.threads, memory.threads)

    def measure_end(self, readings: Readings) -> None:
        """The figures once the last reply is here. Raises `Gone`."""
        self.ended_ns = time.perf_counter_ns()
        self.last_cpu_ns = readings.cpu_ns()
        memory = readings.memory()
        user, system, threads = readings.cpu_ticks()
        self._ticks = (user, system)
        self._io = readings.io_bytes()
        self.peak_bytes = max(self.peak_bytes, memory.peak_bytes)
        self.threads = max(self.threads, memory.threads, threads)
        t_ns, cpu_ns = self.ended_ns - self.started_ns, self.last_cpu_ns - self.cpu0_ns
        self.samples.append(Sample(t_ns, memory.footprint_bytes, cpu_ns, memory.threads))

    def close_figures(self, cpu_total_s: tuple[float, float] | None = None) -> None:
        """Make `usage`. `cpu_total_s` is a dead worker's whole user and system time, from its parent's wait4(2)."""
        if not self.ended_ns:
            self.ended_ns = time.perf_counter_ns()
        cpu_ns = self.last_cpu_ns - self.cpu0_ns
        user, system = (b - a for a, b in zip(self._ticks0, self._ticks, strict=True))
        if cpu_total_s is not None:
            cpu_ns = max(cpu_ns, int(sum(cpu_total_s) * 1e9) - self.cpu0_ns)
            user, system = (int(s * 100) - t for s, t in zip(cpu_total_s, self._ticks0, strict=True))
        share = user / (user + system) if user + system > 0 and user >= 0 <= system else 1.0
        cpu_s = max(cpu_ns, 0) / 1e9
        replies = sum(len(r.frame.structure) + len(r.frame.blobs) for r in self.records if r.frame is not None)
        written = self._io[1] - self._io0[1] - self.output_bytes
        self.usage = Usage(
            wall_s=(self.ended_ns - self.started_ns) / 1e9,
            cpu_s=cpu_s,
            cpu_user_s=cpu_s * share,
            cpu_system_s=cpu_s * (1 - share),
            peak_memory_bytes=max(self.peak_bytes, self.baseline_bytes),
            baseline_memory_bytes=self.baseline_bytes,
            calls=len(self.records),
            request_bytes=sum(record.request_bytes for record in self.records),
            reply_bytes=replies,
            output_bytes=self.output_bytes,
            read_bytes=max(0, self._io[0] - self._io0[0]),
            write_bytes=max(0, written),
            threads=self.threads,
        )

    # ------------------------------------------------------------------ frames and events

    @property
    def current(self) -> Record:
        """The call that the worker works on (the last one once all have been answered)."""
        return self.records[min(self.head, len(self.records) - 1)]

    def emit(self, kind: str, **detail: Any) -> None:
        """Write down what the host saw, for the call that is under way."""
        t_s = (time.perf_counter_ns() - self.started_ns) / 1e9
        self.current.events.append(Event(t_s, kind, detail))

    def take(self, frame: Frame, readings: Readings | None) -> bytes | None:
        """Accept one frame, and answer what to send next, if anything. Raises `Violation`, or `Gone`."""
        if self.nonce is not None:
            if frame.kind != wire.SETTLED or frame.call != self.nonce:
                raise Violation("a second reply to a call that was answered already")
            self.nonce = None
            self.done = True
            return None
        record = self.current
        if frame.call != record.call:
            raise Violation("a reply to a call that was never made, or not yet")
        if frame.kind not in record.answers:
            raise Violation(f"a frame of kind {frame.kind} where none belongs")
        record.frame = frame
        self.head += 1
        self.head_ns = time.perf_counter_ns()
        if self.greeting:
            self.done = True  # nothing to settle before the plugin is there
            return None
        if readings is None:
            raise Gone("no readings")
        self.head_cpu_ns = readings.cpu_ns()
        if self.head < len(self.records):
            return None
        self.nonce = _draw(32)
        return bytes(pack(wire.SETTLE, self.nonce)[0])
