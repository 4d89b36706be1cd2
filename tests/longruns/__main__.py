"""`python -m tests.longruns [--long]`: the long runs one after the other, and one table of what they showed.

The status is 1 if something was left behind, happened otherwise than asked, made the host grow or, with `--long`,
slowed down.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys

from rich.console import Console
from rich.table import Table

from tests.longruns.result import GROWTH_BYTES, MIB, RATIO, WARM_UP, Result
from tests.longruns.scenarios import LONG, SHORT


def row(result: Result) -> tuple[str, ...]:
    """One line of the table."""
    left = "; ".join(f"{len(things)} {kind}" for kind, things in result.left.items() if things) or "nothing"
    memory = f"{result.rss_bytes[0] / MIB:.1f} → {result.rss_bytes[-1] / MIB:.1f}"
    latency = f"{result.first_s * 1e3:.2f} → {result.last_s * 1e3:.2f} ({result.last_s / result.first_s:.2f})"
    grown = f"{result.growth_bytes / MIB:+.2f}"
    return (result.what, f"{result.n:,}", f"{result.seconds:.1f}", left, memory, grown, f"{latency} a {result.unit}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.longruns", description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="the real numbers, some ten minutes")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this run; may be given again")
    options = parser.parse_args()
    machine = f"{platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} CPUs, uid {os.geteuid()}"
    table = Table(title=f"agentplug, Python {platform.python_version()}, {machine}", title_justify="left")
    for column in ("what", "n", "s", "left behind", "host, MiB", "gained, MiB", "latency, ms (ratio)"):
        table.add_column(column, justify="left" if column in ("what", "left behind") else "right")
    problems = []
    for scenario, n in (LONG if options.long else SHORT).items():
        if options.only and scenario.__name__ not in options.only:
            continue
        print(f"{scenario.__name__}: {n:,} …", file=sys.stderr, flush=True)
        result = scenario(n)
        table.add_row(*row(result))
        problems += [f"{result.what}: {problem}" for problem in result.problems(strict=options.long)]
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(
        f"gained: on a line through the host's memory after the first {WARM_UP:.0%}; "
        f"at most {GROWTH_BYTES / MIB:.0f}. latency: medians of the first and the last tenth; "
        f"with --long the ratio is at most {RATIO:.0f}."
    )
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
