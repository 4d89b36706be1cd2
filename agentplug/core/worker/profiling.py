"""Profile a call's memory or CPU time inside the plugin's process (worker side).

The host doesn't trust a profile: the plugin may change it. Memory is what memray records at the peak. CPU time is
sampled by a thread of ours, which reads the clock and the current line of every thread; one that sleeps or waits adds
nothing. A profiler that fails says why, and the call goes on.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import CodeType, FrameType
from typing import Any

from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.frames import Plan, Profile, Site, Stack

SAMPLE_S = 0.001
"""The shortest interval between two samples: each needs the interpreter's lock."""

_RUNTIME = os.path.abspath(__file__).rpartition("/worker/")[0] + os.sep
_LIBRARY = os.path.dirname(threading.__file__)
_BOTTOMS = (threading.__file__, f"{_LIBRARY}/asyncio/", f"{_LIBRARY}/concurrent/futures/")
_SKIPPED = "<frozen importlib"
_MOST_STACKS = 2_000
_MOST_STACKS_SENT = 2 * wire.MAX_STACKS  # some of them merge, or don't fit
_DEEPEST = 5_000
_INNER = wire.MAX_DEPTH // 4
_OUTER = wire.MAX_DEPTH - _INNER - 1
_ROOM_BYTES = wire.MAX_PROFILE_BYTES - 4_096

Place = tuple[str, str, int]  # function, file, line
_GAP: Place = ("… more calls …", "", 0)


class Profiling:
    """The profiles of one worker's calls."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._profiler: Allocations | Sampler | None = None
        self._missing = ""

    def start(self) -> None:
        """Begin to profile a call."""
        self._missing = ""
        try:
            memory = self._plan.profile == "memory"
            self._profiler = Allocations(self._plan.scratch) if memory else Sampler()
            # Called here: memray loses one call of every stack for each stack frame that returns after its start.
            self._profiler.begin()
        except Exception as error:
            self._fail(error)

    def stop(self) -> None:
        """Stop profiling: the call has ended."""
        if self._profiler is not None:
            try:
                self._profiler.stop()
            except Exception as error:
                self._fail(error)

    def take(self) -> Profile | None:
        """Return the profile since `start`, or None if there was no start since the last `take`."""
        profiler, self._profiler = self._profiler, None
        missing, self._missing = self._missing, ""
        kind = self._plan.profile
        if profiler is not None:
            try:
                if not missing:
                    return _bounded(kind, *profiler.stacks())
            except Exception as error:
                missing = _message(error)
            finally:
                profiler.close()
        return Profile(kind, missing=missing) if missing else None

    def _fail(self, error: Exception) -> None:
        self._missing = self._missing or _message(error)


class Allocations:
    """A profiler of memory: memray, which writes to a file in the scratch directory."""

    def __init__(self, scratch: str) -> None:
        memray: Any = importlib.import_module("memray")  # the zygote imported it, before any limit counted

        self._path = os.path.join(scratch, f".agentplug-{time.monotonic_ns()}")
        self._reader = memray.FileReader
        memray.set_log_level(logging.ERROR)  # stderr is the plugin's
        # Aggregated: the file holds stacks instead of allocations, so it doesn't grow with time.
        self._tracker: Any = memray.Tracker(
            destination=memray.FileDestination(self._path, overwrite=True, compress_on_exit=False),
            file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS,
        )
        self.begin: Callable[..., Any] = self._tracker.__enter__

    def stop(self) -> None:
        """End the measurement; a second call does nothing."""
        if self._tracker is not None:
            self._tracker.__exit__(None, None, None)
            self._tracker = None

    def stacks(self) -> tuple[list[tuple[int, int, list[Place]]], int]:
        """Return weight (bytes), count (allocations) and places of each stack at the peak, and the omitted weight."""
        with self._reader(self._path) as reader:
            records = list(reader.get_high_watermark_allocation_records(merge_threads=True))
            records.sort(key=lambda record: record.size, reverse=True)
            first, others = records[:_MOST_STACKS_SENT], records[_MOST_STACKS_SENT:]
            stacks = [(record.size, record.n_allocations, _visible(record.stack_trace())) for record in first]
        return stacks, sum(record.size for record in others)

    def close(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)


class Sampler:
    """A profiler of CPU time: adds each thread's CPU time to its current line, for threads that `threading` knows."""

    def __init__(self) -> None:
        self._totals: dict[tuple[tuple[CodeType | None, int], ...], list[int]] = {}
        self._dropped_ns = 0
        self._failed: Exception | None = None
        self._ending = _thread.allocate_lock()
        self._ended = _thread.allocate_lock()
        self._seen_ns: dict[int, int] = {}
        self._samples = False
        self._interval_s = sys.getswitchinterval()

    def begin(self) -> None:
        """Start the thread that samples."""
        self._seen_ns = {number: _cpu_ns(number) for number, _ in _threads()}
        self._ending.acquire()
        self._ended.acquire()
        _thread.start_new_thread(self._sample, ())
        self._samples = True
        # A computing thread keeps the interpreter's lock for this long when another one asks for it.
        sys.setswitchinterval(SAMPLE_S / 2)

    def stop(self) -> None:
        """End the measurement; a second call does nothing."""
        if self._samples:
            self._samples = False
            sys.setswitchinterval(self._interval_s)
            self._ending.release()
            self._ended.acquire()

    def stacks(self) -> tuple[list[tuple[int, int, list[Place]]], int]:
        """Return weight (CPU nanoseconds), count (samples) and places of each stack, and the omitted weight.

        Places are outermost first. Raises the sampler's own error.
        """
        if self._failed is not None:
            raise self._failed
        totals = sorted(self._totals.items(), key=lambda item: item[1][0], reverse=True)
        stacks = []
        for stack, (weight, count) in totals[:_MOST_STACKS_SENT]:
            places = [(code.co_qualname, code.co_filename, line) if code else _GAP for code, line in stack]
            stacks.append((weight, count, _visible(places)))
        return stacks, self._dropped_ns + sum(weight for _, (weight, _) in totals[_MOST_STACKS_SENT:])

    def close(self) -> None:
        """Do nothing: there is no file."""

    def _sample(self) -> None:
        try:
            while not self._ending.acquire(timeout=SAMPLE_S):
                self._look()
        except Exception as error:
            self._failed = error
        finally:
            self._ended.release()

    def _look(self) -> None:
        frames = sys._current_frames()
        for number, ident in _threads():
            used_ns = _cpu_ns(number)
            ran_ns = used_ns - self._seen_ns.get(number, 0)
            self._seen_ns[number] = used_ns
            frame = frames.get(ident)
            if ran_ns > 0 and frame is not None:
                self._add(frame, ran_ns)

    def _add(self, frame: FrameType | None, ran_ns: int) -> None:
        stack: list[tuple[CodeType | None, int]] = []
        while frame is not None and len(stack) < _DEEPEST and not frame.f_code.co_filename.startswith(_RUNTIME):
            stack.append((frame.f_code, frame.f_lineno or 0))
            frame = frame.f_back
        if len(stack) > wire.MAX_DEPTH:
            stack[_INNER:-_OUTER] = [(None, 0)]
        if not stack:
            return  # the worker's own code
        counts = self._totals.get(key := tuple(stack))
        if counts is not None:
            counts[0] += ran_ns
            counts[1] += 1
        elif len(self._totals) < _MOST_STACKS:
            self._totals[key] = [ran_ns, 1]
        else:
            self._dropped_ns += ran_ns


def _threads() -> list[tuple[int, int]]:
    """Return the kernel's and Python's number of each thread. Python's main thread object has the zygote's."""
    main, pid = threading.main_thread(), os.getpid()
    numbers = [(pid if thread is main else thread.native_id, thread.ident) for thread in threading.enumerate()]
    return [(number, ident) for number, ident in numbers if number and ident]


def _cpu_ns(number: int) -> int:
    """Return a thread's CPU time, by number: for an ended thread that is an error, while its handle would crash."""
    try:
        return _clock_ns((~number << 3) | 6)
    except OSError:
        return 0


_clock_ns = time.clock_gettime_ns


def _visible(places: Sequence[Place]) -> list[Place]:
    """Reverse `places` to outermost first, and drop the lines that run a plugin or an import."""
    visible: list[Place] = []
    for place in places:
        if place[1].startswith(_RUNTIME):
            break
        if not place[1].startswith(_SKIPPED):
            visible.append(place)
    while len(visible) > 1 and visible[-1][1].startswith(_BOTTOMS):
        visible.pop()
    return visible[::-1]


def _bounded(kind: str, measurements: Iterable[tuple[int, int, list[Place]]], dropped: int) -> Profile:
    """Build a profile within the host's bounds, heaviest stacks first; `dropped` sums the rest."""
    numbers: dict[Place, int] = {}
    sites: list[Site] = []
    stacks: list[Stack] = []
    room = _ROOM_BYTES
    full = False
    for weight, count, places in sorted(measurements, key=lambda stack: stack[0], reverse=True):
        if len(places) > wire.MAX_DEPTH:
            places[_OUTER:-_INNER] = [_GAP]
        cut = [_cut(place) for place in places]
        new = [place for place in dict.fromkeys(cut) if place not in numbers]
        size = 32 + 3 * len(cut) + sum(16 + len(p[0].encode()) + len(p[1].encode()) for p in new)
        full = full or len(stacks) == wire.MAX_STACKS or len(sites) + len(new) > wire.MAX_SITES or size > room
        if full or not cut:
            dropped += weight
            continue
        room -= size
        for place in new:
            numbers[place] = len(sites)
            sites.append(Site(*place))
        stacks.append(Stack(weight, count, [numbers[place] for place in cut]))
    return Profile(kind, sites, stacks, dropped)


def _cut(place: Place) -> Place:
    function, file, line = place
    file = _text(file)
    if len(file) > wire.MAX_FILE:
        file = f"…{file[1 - wire.MAX_FILE :]}"
    return _text(function)[: wire.MAX_FUNCTION], file, max(0, line)


def _text(text: str) -> str:
    """Make `text` encodable: a name that isn't UTF-8 has lone surrogates."""
    return text[:10_000].encode("utf-8", "backslashreplace").decode()


def _message(error: Exception) -> str:
    return _text(f"{type(error).__name__}: {error}")[: wire.MAX_MISSING]
