"""`python -m tests.benchmarks`: what a start and a call cost, side by side, as one table.

The contenders take turns in rounds, so that what else the machine does falls on all of them alike. Nothing here
passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import platform
import statistics
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tests.benchmarks import dashboards, hooks, starts, tracing
from tests.benchmarks.contenders import OURS, contenders


def measure_calls(rounds: int, calls: int) -> dict[str, list[float]]:
    """Seconds of every call, by contender."""
    times: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        # The forking ones first, while this process has the fewest threads.
        ready = {name: stack.enter_context(make()) for name, make in reversed(contenders().items())}
        for run in ready.values():
            run(min(200, calls))
        gc.collect()
        for _ in range(rounds):
            for name, run in reversed(ready.items()):
                times.setdefault(name, []).extend(run(calls))
    return times


def measure_starts(rounds: int) -> dict[str, list[float]]:
    """Seconds of every start."""
    times: dict[str, list[float]] = {name: [] for name in starts.STARTS}
    with asyncio.Runner() as runner:
        for start in starts.STARTS.values():
            start(runner)  # warms zygotes, fork servers and the disk's cache
        for _ in range(rounds):
            for name, start in starts.STARTS.items():
                times[name].append(start(runner))
    return times


def rows(times: Mapping[str, Sequence[float]], ours: str, unit_s: float) -> list[tuple[str, str, str, str]]:
    """Name, median, 90th percentile, and the median as a multiple of ours."""
    base = statistics.median(times[ours])
    found = []
    for name, values in times.items():
        median, p90 = statistics.median(values), statistics.quantiles(values, n=10)[8]
        found.append((name, f"{median / unit_s:,.1f}", f"{p90 / unit_s:,.1f}", f"{median / base:.2f}"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=300, help="calls a round and contender")
    parser.add_argument("--starts", type=int, default=30, help="starts a contender")
    options = parser.parse_args()

    calls = measure_calls(options.rounds, options.calls)
    begun = measure_starts(options.starts)
    hooked = asyncio.run(hooks.measure(options.rounds, options.calls))

    machine = f"{platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} CPUs, {platform.machine()}"
    table = Table(title=f"agentplug, Python {platform.python_version()}, {machine}", title_justify="left")
    table.add_column("what")
    for column in ("median", "p90", "of ours"):
        table.add_column(column, justify="right")
    table.add_row(f"[bold]Round trip of a small message, µs[/] ({options.rounds * options.calls:,} calls each)")
    for row in rows(calls, OURS, 1e-6):
        table.add_row(*row)
    table.add_section()
    table.add_row(f"[bold]Until it is there, ms[/] ({options.starts} starts each)")
    for row in rows(begun, starts.OURS, 1e-3):
        table.add_row(*row)
    added = statistics.median(begun[starts.IMPORT]) - statistics.median(begun[starts.BARE])
    table.add_row("import agentplug, less the bare start", f"{added * 1e3:,.1f}")
    table.add_section()
    table.add_row(f"[bold]A message through a hook, µs[/] ({options.rounds * options.calls:,} messages each)")
    for row in rows(hooked, hooks.OURS, 1e-6):
        table.add_row(*row)
    table.add_section()
    recorded = list(tracing.recording())
    p90 = statistics.quantiles(recorded, n=10)[8]
    table.add_row("[bold]Traces[/]")
    table.add_row("to record a call, µs", f"{statistics.median(recorded) * 1e6:,.1f}", f"{p90 * 1e6:,.1f}")
    share, every_ms = asyncio.run(tracing.sampling())
    busy = f"{tracing.BUSY_PLUGINS} busy plugins, a sample each {every_ms:.0f} ms: % of a core"
    table.add_row(busy, f"{share * 100:,.2f}")
    unwatched, watched = dashboards.watching()
    shown = f"a dashboard of {dashboards.PLUGINS} busy plugins, added to the kernel's {unwatched:.1%}: % of a core"
    table.add_row(shown, f"{(watched - unwatched) * 100:,.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
