"""`python -m tests.yardsticks [--only NAME]… [--seconds 1]`: every stressor of stress-ng, in a plugin.

Prints a table in Markdown, and ends with 1 if something must not be: the loop stood still for more than 100 ms, a
thing was left behind, the machine lost more memory than the run tells. What looks so is repeated, up to three times,
because other programs share the machine; the best of the three counts. All of them take some six minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import datetime
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agentplug.core.host import launcher
from tests.yardsticks.machine import MIB, own_account
from tests.yardsticks.stress_ng import IDLE, POLICY, WORKERS, Row, run_stressor, stressors, version

_TRIES = 3
_PR_SET_CHILD_SUBREAPER = 36


async def run(names: Sequence[str], seconds: int, account: Path | None, more: Sequence[str]) -> list[Row]:
    """Run them one after the other, those that look bad again."""
    await run_stressor(IDLE, 0, account)  # a first plugin starts what stays: a zygote, threads
    rows = []
    for name in names:
        tries: list[Row] = []
        while len(tries) < _TRIES and (not tries or tries[-1].faults):
            tries.append(await run_stressor(name, seconds, account, more))
        best = min(tries, key=lambda row: (len(row.faults), row.lag_s))
        rows.append(replace(best, tries=len(tries)))
        print(f"{name}: {best.outcome} {'; '.join(best.faults)}", file=sys.stderr, flush=True)
    return rows


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Write the rows as Markdown."""
    yield "| stressor | outcome | s | told, MiB | pages, MiB | kernel, MiB | lag, ms | tries | why |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|---|"
    for row in rows:
        why = "; ".join([f"**{fault}**" for fault in row.faults] + [row.why] * bool(row.why)).replace("|", "/")
        told, pages, kernel = (figure // MIB for figure in (row.told_bytes, row.pages_bytes, row.kernel_bytes))
        figures = f"{row.wall_s:.1f} | {told} | {pages} | {kernel} | {row.lag_s * 1000:.0f} | {row.tries}"
        yield f"| {row.stressor} | {row.outcome} | {figures} | {why} |"


def main() -> int:
    """Run what was asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.yardsticks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="this stressor; may be given again")
    parser.add_argument("--seconds", type=int, default=1, help="how long each runs (1)")
    parser.add_argument("--faults", action="store_true", help="print only rows with something that must not be")
    parser.add_argument("--pathological", action="store_true", help="also those that stress-ng itself leaves out")
    options = parser.parse_args()
    more = ["--pathological"] * options.pathological
    number, known = version(), stressors()
    if unknown := set(options.only or ()) - set(known):
        parser.error(f"stress-ng {number} has no stressor {', '.join(sorted(unknown))}")
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    began_s = time.monotonic()
    with own_account() as account:
        rows = asyncio.run(run([IDLE, *(options.only or known)], options.seconds, account, more))
        for zygote in list(launcher._registry.values()):
            zygote.close()
    linux = f"Linux {platform.release().split('-')[0]}, {os.cpu_count()} CPUs, uid {os.geteuid()}"
    print(f"stress-ng {number}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, Python {platform.python_version()},")
    print(f"{linux}; {WORKERS} workers of each for {options.seconds} s, {time.monotonic() - began_s:.0f} s in all;")
    print("memory of", "this process and all below it," if account else "the whole machine,", "as the kernel has it.")
    print(f"`{POLICY!r}`\n")
    print("\n".join(table([row for row in rows if row.faults or not options.faults])))
    counts = Counter(row.outcome for row in rows if row.stressor != IDLE)
    print("\n" + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))
    bad = sum(bool(row.faults) for row in rows)
    print(f"must not be: {bad}; longest lag {max(row.lag_s for row in rows) * 1000:.0f} ms")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
