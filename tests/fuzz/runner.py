"""Running the fuzzer on every processor, and judging what it found: `fuzz` for tests, `__main__` for people.

Each process plays every Nth batch. Blame needs proof: a slow case is played again alone, a case that ended or hung
its process is found by its batch and place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import seeds
from tests.fuzz.mutations import Case, Mutator
from tests.fuzz.shard import BATCH, Notes, cases_of, literal
from tests.fuzz.target import play

ROOT = Path(__file__).resolve().parents[2]
SLOW_S = 0.25
"""CPU seconds that the host may spend on one frame of this fuzzer's size (some kilobytes)."""
GROWTH_BYTES = 256 << 20
"""What a process may grow by while it plays, its largest moment included."""
SEED = 20_240_501
FRAMES_A_BATCH = BATCH * 11 // 10
"""Some cases are of several frames: a batch of the usual size has a little more than these."""


@dataclass
class Report:
    """What a run of the fuzzer came to."""

    frames: int = 0
    cases: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    grown_bytes: int = 0
    slowest_s: float = 0.0
    slowest: str = ""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.outcomes.most_common())
        return (
            f"{self.frames:,} frames in {self.cases:,} cases, {self.seconds:.1f} s; {counts}; slowest "
            f"{self.slowest_s * 1e3:.1f} ms of CPU; memory grew by {self.grown_bytes / (1 << 20):.0f} MiB"
        )


def fuzz(frames: int, *, seed: int = SEED, seconds: float = 900.0, jobs: int | None = None) -> Report:
    """Play at least `frames` frames, if that takes no longer than `seconds`."""
    jobs = jobs or len(os.sched_getaffinity(0))
    batches = -(-frames // FRAMES_A_BATCH)
    report, began = Report(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ap-fuzz-") as folder:
        running = [_start(folder, job, jobs, batches, seed, seconds) for job in range(jobs)]
        for job, process in enumerate(running):
            _gather(report, process, f"{folder}/{job}", seed, began + 2 * seconds + 60)
    report.seconds = time.monotonic() - began
    if report.grown_bytes > GROWTH_BYTES:
        report.problems.append(f"memory grew by {report.grown_bytes:,} bytes; at most {GROWTH_BYTES:,} may it")
    return report


def _start(folder: str, job: int, jobs: int, batches: int, seed: int, seconds: float) -> subprocess.Popen[str]:
    orders = {
        "notes": f"{folder}/{job}",
        "seed": seed,
        "first": job,
        "end": batches,
        "step": jobs,
        "seconds": seconds,
    }
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.shard", json.dumps(orders)],
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _gather(report: Report, process: subprocess.Popen[str], notes: str, seed: int, until: float) -> None:
    try:
        out, err = process.communicate(timeout=max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        report.problems.append(f"no end: {_culprit(notes, seed)}")
        return
    if process.returncode != 0:
        report.problems.append(f"status {process.returncode}: {_culprit(notes, seed)}\n{err[-3000:]}")
        return
    found: dict[str, Any] = json.loads(out)
    report.frames += found["frames"]
    report.cases += found["cases"]
    report.outcomes.update(found["outcomes"])
    report.grown_bytes = max(report.grown_bytes, found["grown_bytes"])
    report.problems += [f"{failure['error']}\n    {failure['case']}" for failure in found["failures"]]
    for took_ns, case in found["slowest"]:
        if took_ns / 1e9 > report.slowest_s:
            report.slowest_s, report.slowest = took_ns / 1e9, case
        if took_ns > SLOW_S * 1e9 and (alone_s := best_of(case)) > SLOW_S:
            report.problems.append(f"{alone_s:.2f} s of CPU, alone\n    {case}")


def _culprit(notes: str, seed: int) -> str:
    try:
        batch, at = Notes.read(notes)
        return literal(cases_of(Mutator(seeds()), seed, batch)[at])
    except (OSError, IndexError):
        return "before the first case"


def case_of(text: str) -> Case:
    """The case that `literal` wrote."""
    made = eval(text, {"Case": Case})
    assert isinstance(made, Case)
    return made


def best_of(text: str, times: int = 3) -> float:
    """CPU seconds that a case takes when nothing else runs in this process: the least of some tries."""
    case = case_of(text)
    took = []
    for _ in range(times):
        began = time.thread_time()
        play(case)
        took.append(time.thread_time() - began)
    return min(took)
