"""One process of a run of the fuzzer: `python -m tests.fuzz.shard`, its orders as JSON in the first argument.

It plays batches of cases, each from a seed of its own, and writes what happened as JSON to standard output. The case
under way lies in a file that the parent can read: after a crash or a hang, it holds the culprit.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import socket
import sys
import time
from collections import Counter
from random import Random
from typing import Any

from tests.fuzz.corpus import seeds
from tests.fuzz.mutations import Case, Mutator
from tests.fuzz.target import play, play_on_a_socket

BATCH = 1_000
NOTE_BYTES = 1 << 22
ADDRESS_BYTES = 3 << 30
"""Address space of a shard: an allocation that would eat the machine fails instead, and is told as a problem."""
LOOK_EACH, SOCKET_EACH = 251, 16
SLOWEST_KEPT = 5


def rng_of(seed: int, batch: int) -> Random:
    """The source of all chance in a batch."""
    return Random(f"{seed}:{batch}")


def cases_of(mutator: Mutator, seed: int, batch: int) -> list[Case]:
    """The cases of a batch: the same ones wherever and whenever."""
    rng = rng_of(seed, batch)
    return [mutator.case(rng) for _ in range(BATCH)]


def literal(case: Case) -> str:
    """A case as Python that makes it again, without the fields that are as usual."""
    usual = Case(b"")
    told = [repr(case.data)]
    told += [
        f"{name}={value!r}"
        for name, value in case._asdict().items()
        if name != "data" and value != getattr(usual, name)
    ]
    return f"Case({', '.join(told)})"


class Notes:
    """Where the case under way is written down before it is played."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, NOTE_BYTES)
        self._map = mmap.mmap(descriptor, NOTE_BYTES)
        os.close(descriptor)

    def write(self, batch: int, at: int) -> None:
        """Its batch and its place there are enough to make it again."""
        self._map[:16] = batch.to_bytes(8, "little") + at.to_bytes(8, "little")

    @staticmethod
    def read(path: str) -> tuple[int, int]:
        """The batch and place of the last case."""
        with open(path, "rb") as file:
            data = file.read(16)
        return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")


def main() -> None:
    """Play the batches that the orders name."""
    orders = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    mutator = Mutator(seeds())
    notes = Notes(orders["notes"])
    outcomes: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    slowest: list[tuple[int, str]] = []
    pair = socket.socketpair()
    pair[0].setblocking(False)
    frames = 0
    for case in (Case(b""), *cases_of(mutator, orders["seed"], -1)):  # what is imported on first use
        try:
            play(case, look=True)
        except Exception:
            continue
    began_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    until = time.monotonic() + orders["seconds"]
    batches = 0
    for batch in range(orders["first"], orders["end"], orders["step"]):
        if time.monotonic() > until:
            break
        batches += 1
        for at, case in enumerate(cases_of(mutator, orders["seed"], batch)):
            notes.write(batch, at)
            began = time.thread_time_ns()
            try:
                if at % SOCKET_EACH == 5 and len(case.data) < 1 << 16:
                    outcome = play_on_a_socket(case, pair)
                else:
                    outcome = play(case, look=at % LOOK_EACH == 0)
            except Exception as error:
                outcome = f"FAILED {type(error).__name__}"
                if len(failures) < 20:
                    failures.append({"case": literal(case), "error": f"{type(error).__name__}: {error}"[:500]})
            took = time.thread_time_ns() - began
            outcomes[outcome.partition(":")[0]] += 1
            if len(slowest) < SLOWEST_KEPT or took > slowest[-1][0]:
                slowest = sorted([*slowest, (took, literal(case))], reverse=True)[:SLOWEST_KEPT]
            frames += max(1, case.calls) + case.asked
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - began_bytes
    print(
        json.dumps(
            {
                "frames": frames,
                "cases": batches * BATCH,
                "outcomes": outcomes,
                "failures": failures,
                "slowest": slowest,
                "grown_bytes": grown_bytes,
            }
        )
    )


if __name__ == "__main__":
    main()
