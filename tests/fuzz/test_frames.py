"""A worker may say anything: the host's side of the channel answers with a verdict, soon, and in bounded memory.

The short form plays some 60,000 spoiled frames. `AGENTPLUG_FUZZ_FRAMES=1000000` asks for more, and
`python -m tests.fuzz` is the same from a shell. A problem is told with the case that makes it happen again.
"""

from __future__ import annotations

import os
import resource
import tracemalloc
from collections import Counter

import pytest

from agentplug.core.boundary import frames as wire
from tests.fuzz.corpus import Seed, seeds
from tests.fuzz.mutations import CALL, Case, Mutator, parse
from tests.fuzz.runner import SLOW_S, best_of, case_of, fuzz
from tests.fuzz.shard import cases_of, literal
from tests.fuzz.target import play

FRAMES = int(os.environ.get("AGENTPLUG_FUZZ_FRAMES", "60000"))
BASE_BYTES, TIMES = 2 << 20, 100
"""What one frame may make the host hold at most: this much, and this many times its own length."""


def whole(seed: Seed) -> Case:
    """The seed as it is."""
    head = wire.HEADER.pack(wire.MAGIC, seed.kind, 0, CALL, len(seed.structure), len(seed.blobs))
    return Case(head + seed.structure + seed.blobs, calls=0 if seed.kind == wire.HELLO else 1)


@pytest.mark.parametrize("seed", seeds(), ids=lambda seed: seed.name.replace(" ", "-"))
def test_unspoiled_frame_is_taken_for_what_it_is(seed: Seed) -> None:
    """The corpus is one of good frames: without this, spoiled ones would prove nothing."""
    outcome = play(whole(seed), look=True)

    if seed.kind == wire.REPLY:
        assert outcome == "completed"
    elif seed.kind in (wire.LOADED, wire.HELLO):
        assert outcome in ("completed", "greeted")
    elif seed.kind == wire.ERROR:
        assert outcome.startswith(("failed:", "limited:"))
    elif seed.kind == wire.UNSERIALIZABLE:
        assert outcome == "broken:unserializable"
    elif seed.kind in (wire.CLAIMS, wire.PROFILE, wire.DISPLAY):
        assert outcome == "waiting"  # for the answer that it goes before
    else:
        assert outcome == "violation"  # not asked for, or what only a host may send


def test_spoiled_frames_end_in_verdicts_within_bounds() -> None:
    """No exception but the protocol's own, no hang, no crash; CPU time a frame and memory in all stay bounded."""
    report = fuzz(FRAMES, seconds=max(60.0, FRAMES / 1000))

    print(f"\n{report}")
    assert report.problems == []
    assert report.frames >= FRAMES
    for outcome in ("completed", "broken", "violation", "failed", "limited", "waiting", "ended"):
        assert report.outcomes[outcome] > 0, f"mutations never came to {outcome}"
    assert report.slowest_s < SLOW_S or best_of(report.slowest) < SLOW_S


def test_memory_of_a_frame_is_bounded_by_its_length() -> None:
    """While one spoiled frame is read and judged, the host holds no more than a multiple of what came in."""
    mutator = Mutator(seeds())
    for case in cases_of(mutator, 0, 0):  # what is imported, compiled and cached on first use
        play(case, look=True)
    most = Counter[str]()
    tracemalloc.start()
    try:
        for batch in (1, 2, 3):
            for case in cases_of(mutator, 0, batch):
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                play(case)
                peak = tracemalloc.get_traced_memory()[1] - before
                announced = (
                    case.reply_bytes if case.reply_bytes > 1 << 18 else 0
                )  # a body is promised before it comes
                if peak > BASE_BYTES + announced + TIMES * len(case.data):
                    most[literal(case)] = peak
    finally:
        tracemalloc.stop()
    assert most == {}


def test_a_promise_of_bytes_costs_nothing() -> None:
    """A header alone, of a frame as large as any policy may allow, takes neither the host's memory nor its time."""
    case = Case(wire.HEADER.pack(wire.MAGIC, wire.REPLY, 0, CALL, 10, (1 << 30) - 10), reply_bytes=1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    assert play(case) == "waiting"
    assert best_of(literal(case)) < 0.02
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before < 64 << 20


def test_a_seed_stands_for_the_same_cases_everywhere() -> None:
    """What a report names by its seed can be played again, and a case is told as Python that makes it."""
    first, second = (cases_of(Mutator(seeds()), 7, 3) for _ in range(2))

    assert first == second
    assert len(set(first)) > 900
    assert all(case_of(literal(case)) == case for case in first[:100])


def test_mutations_understand_msgpack() -> None:
    """The parser that edits trees reads every seed, and writes it back byte by byte."""
    for seed in seeds():
        if seed.structure:
            tree = parse(seed.structure)
            assert tree is not None
            assert tree.raw == seed.structure
