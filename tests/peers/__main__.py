"""`python -m tests.peers [WAY ...] [--only SUBSTRING] [--save FILE.csv]`: the battery in other ways, as a table.

The stage, its attacks and what counts as harm are the battery's own. An attack has escaped if the stage is harmed,
something is left, nothing ended it, the host's loop was held up, or it used far more memory than its policy grants.
Other ways give no verdicts; where an attack did none of that, and yet came to its own end though the catalogue asks
for a refusal, it counts as not refused. Attacks on agentplug's own frames, replies and displays don't apply. Not for
root: some ways confine nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agentplug.core.boundary.remove_tree import remove_tree
from agentplug.doctor.battery.catalogue import CATALOGUE, Attack
from agentplug.doctor.battery.run import LONGEST_GAP_S, MOST_GROWTH_KB, run_battery
from agentplug.doctor.battery.stage import Stage
from agentplug.doctor.battery.stock import below
from tests.peers.ways import ROOT, WAYS, Job

OURS = "agentplug"
RESULTS = ("contained", "not refused", "escaped", "host died")
HARD_S = 10.0
MEMORY_SLACK = 192 << 20  # an interpreter, and what its limits are off by
_TRIES = 3
_PR_SET_CHILD_SUBREAPER = 36
# Aimed at what agentplug alone has.
_OTHERS = {"runtime:EncoderSwapper", "runtime:WorkerSwapper", "runtime:FaceChanger"}
_OTHERS |= {"spying:Scavenger", "spying:SiblingSnoop"}
_FAMILIES = {"protocol", "replies", "display"}
# What would harm the checkout itself where nothing stops it.
_GIVEN = {"files:BytecodePlanter": "$module"}


@dataclass(frozen=True)
class Row:
    """One attack in one way: which of `RESULTS`, with what was seen."""

    way: str
    family: str
    attack: str
    result: str
    outcome: str
    evidence: str
    gap_ms: float
    wall_s: float


def applies(attack: Attack) -> bool:
    """Whether others have what it aims at."""
    return attack.family not in _FAMILIES and f"{attack.family}:{attack.name}" not in _OTHERS


async def let_loose(way: str, attack: Attack, stage: Stage) -> tuple[Row, bool]:
    """One attack in one way: its row, and whether the stage has to be set anew."""
    name = f"{attack.family}:{attack.name}"
    kept = {pid for pid, _, _ in below(os.getpid())}
    granted = stage.policy(attack)
    folder = tempfile.mkdtemp(prefix="agentplug-peer-")
    try:
        job = Job(
            attack.spec,
            stage.fill(_GIVEN.get(name, attack.argument), freely=True),
            folder,
            list(granted.read),
            granted.processes,
            list(granted.network) if isinstance(granted.network, tuple) else [],
        )
        began_s = time.monotonic()
        seen, ended = _host(way, job, stage.bait["descriptor"])
    finally:
        end_all_but(kept)
        remove_tree(folder)
    harm = await stage.damage()
    found = list(harm)
    if seen is None:
        row = Row(
            way, attack.family, attack.name, "host died", ended, "; ".join(found), 0, time.monotonic() - began_s
        )
        return row, bool(harm)
    found += stage.secrets_in(seen["text"])
    found += _unbounded(way, attack, seen)
    if seen["left"]:
        found.append(f"{len(seen['left'])} processes were left")
    if seen["grown_kb"] > MOST_GROWTH_KB:
        found.append(f"the host grew by {seen['grown_kb'] >> 10} MiB")
    if seen["children_kb"] << 10 > int(granted.memory) + MEMORY_SLACK:
        found.append(f"it used {seen['children_kb'] >> 10} MiB")
    if seen["gap_ms"] > LONGEST_GAP_S * 1000:
        found.append(f"the host's loop was held up for {seen['gap_ms']:.0f} ms")
    result = "escaped" if found else "not refused" if got_its_way(attack, seen["outcome"]) else "contained"
    told = "; ".join(found) or seen["text"].strip()[-160:]
    return Row(way, attack.family, attack.name, result, seen["outcome"], told, seen["gap_ms"], seen["wall_s"]), bool(
        harm
    )


def _unbounded(way: str, attack: Attack, seen: dict[str, Any]) -> list[str]:
    outcome = seen["outcome"]
    if outcome == "endless":
        return ["nothing ended it"]
    starved = outcome in ("failed:MemoryError", "failed:OSError") or outcome.startswith("died")
    if attack.family == "memory" and starved and not WAYS[way].memory:
        return ["only the outer cap stopped it"]
    return []


def got_its_way(attack: Attack, outcome: str) -> bool:
    """It ended as it meant to. One that calls a service has done so only if that was called: the stage says."""
    calls = attack.family == "network" and str(attack.argument).startswith("$")
    refusal_due = any(verdict.startswith(("failed:", "limited:")) for verdict in attack.contained)
    return outcome == "completed" and "completed" not in attack.contained and refusal_due and not calls


def _host(way: str, job: Job, descriptor: int) -> tuple[dict[str, Any] | None, str]:
    """What a throwaway host reports; or None and how it ended."""
    with tempfile.TemporaryFile() as report:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.peers.host", str(report.fileno()), way, json.dumps(asdict(job))],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[report.fileno(), descriptor],
            start_new_session=True,
        )
        try:
            status = process.wait(HARD_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None, f"hung for {HARD_S:g} s"
        report.seek(0)
        text = report.read()
    return (json.loads(text), "") if text else (None, f"ended with {status}")


def end_all_but(kept: set[int]) -> None:
    """Kill everything below this process (a subreaper) that wasn't there before."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        more = [(pid, parent) for pid, parent, _ in below(os.getpid()) if pid not in kept]
        if not more:
            return
        for pid, _ in more:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid, parent in more:
            if parent == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        time.sleep(0.01)


async def run_way(way: str, attacks: Sequence[Attack]) -> list[Row]:
    """All attacks in one way."""
    rows = []
    async with contextlib.AsyncExitStack() as stack:
        stage = await stack.enter_async_context(Stage())
        for attack in attacks:
            for _ in range(_TRIES):
                row, harmed = await let_loose(way, attack, stage)
                if harmed:
                    await stack.aclose()
                    stage = await stack.enter_async_context(Stage())
                if not row.evidence.startswith("the host's loop was held up"):
                    break
            rows.append(row)
            if row.result != "contained":
                print(
                    f"  {way}: {row.family}:{row.attack} {row.result}: {row.outcome}; {row.evidence}"[:200],
                    flush=True,
                )
    return rows


async def run_ours(attacks: Sequence[Attack]) -> list[Row]:
    """The battery itself."""
    matrix = await run_battery(attacks)
    return [
        Row(
            OURS,
            row.family,
            row.attack,
            "contained" if row.contained else "escaped",
            row.verdict,
            row.evidence,
            row.host_gap_ms,
            row.wall_s,
        )
        for row in matrix.rows
    ]


def table(rows: Sequence[Row], missing: dict[str, str], left_out: int) -> Iterator[str]:
    """The table, and the same by family, as Markdown."""
    yield "| way | version | ran | contained | not refused | escaped | host died or hung | not applicable |"
    yield "|---|---|---|---|---|---|---|---|"
    ways = list(dict.fromkeys(row.way for row in rows))
    for way in ways:
        mine = [row for row in rows if row.way == way]
        counts = [sum(row.result == result for row in mine) for result in RESULTS]
        number = version(OURS) if way == OURS else WAYS[way].version()
        yield f"| {way} | {number} | {len(mine)} | {' | '.join(map(str, counts))} | {left_out} |"
    for way, why in missing.items():
        yield f"| {way} | {WAYS[way].version()} | can't run here: {why} | | | | | |"
    yield ""
    yield f"| contained | {' | '.join(ways)} |"
    yield "|---" * (len(ways) + 1) + "|"
    for family in dict.fromkeys(row.family for row in rows):
        cells = []
        for way in ways:
            mine = [row for row in rows if (row.way, row.family) == (way, family)]
            cells.append(f"{sum(row.result == 'contained' for row in mine)} of {len(mine)}")
        yield f"| {family} | {' | '.join(cells)} |"


def main() -> int:
    """Run what was asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__.splitlines()[0])
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join([OURS, *WAYS])}; all by default")
    parser.add_argument("--only", default="", help="attacks whose family:Name holds this")
    parser.add_argument("--save", type=Path, help="each row, as CSV")
    options = parser.parse_args()
    if unknown := set(options.ways) - {OURS, *WAYS}:
        parser.error(f"no such way: {', '.join(sorted(unknown))}")
    if os.geteuid() == 0:
        print(
            "Some ways confine nothing: run it as another user (python -m tests.container -- python -m tests.peers)"
        )
        return 2
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    chosen = [attack for attack in CATALOGUE if options.only in f"{attack.family}:{attack.name}"]
    attacks = [attack for attack in chosen if applies(attack)]
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for way in options.ways or [OURS, *WAYS]:
        if way != OURS and (why := WAYS[way].missing()):
            missing[way] = why
            continue
        rows += asyncio.run(run_ours(attacks) if way == OURS else run_way(way, attacks))
    print("\n".join(table(rows, missing, len(chosen) - len(attacks))))
    if options.save:
        with options.save.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(field.name for field in fields(Row))
            writer.writerows(astuple(row) for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
