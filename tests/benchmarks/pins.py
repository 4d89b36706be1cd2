"""`python -m tests.benchmarks.pins`: what it costs to verify a plugin's closure, for the first time and again.

Two closures of real distributions of this environment: pure ones for the most part, and with numpy and pandas. `cold`
forgets what was verified; the disk's own cache is warm.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from agentplug.contract.policy import Policy
from agentplug.manager.pins import closures
from agentplug.manager.pins.lockfile import read_lock
from agentplug.manager.pins.verify import propose, verified
from agentplug.manager.pins.writing import update_lock
from tests.installed_site import install, use_site

PLUGIN = """
class BenchPlugin:
    name, version = "bench", "1.0"
    def initialize(self, config): ...
    def process(self, given): return given
"""
_WANTED = "requests rich jinja2 typer hypothesis anyio tomlkit psutil msgspec packaging".split()
_HEAVY = ["pandas", *_WANTED]


def needed(most: int, wanted: list[str]) -> list[str]:
    """Distributions that together have a closure of at most `most`, themselves included."""
    infos = closures._infos()
    chosen: set[str] = set()
    roots = []
    for name in [*wanted, *sorted(infos)]:
        more = _closure_of(name, infos) if name in infos else None
        if more and len(chosen | more) <= most and not more <= chosen:
            chosen |= more
            roots.append(name)
    return roots


def _closure_of(name: str, infos: dict[str, str]) -> set[str] | None:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        key = waiting.pop()
        if key in found or key == closures.HOST:
            continue
        if key not in infos:
            return None
        found.add(key)
        waiting += closures._listed_needs(infos[key])
    return found


def seconds(once: Callable[[], object], rounds: int) -> list[tuple[float, float]]:
    """How long each of so many took, and how much CPU time."""
    taken = []
    for _ in range(rounds):
        began, cpu = time.perf_counter(), time.process_time()
        once()
        taken.append((time.perf_counter() - began, time.process_time() - cpu))
    return taken


def measure(folder: Path, most: int, rounds: int, wanted: list[str]) -> Table:
    """The figures, as a table."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        site = use_site(folder / "site", monkeypatch)
        requires = [f"Requires-Dist: {name}" for name in needed(most - 1, wanted)]
        install(site, "bench", "1.0", {"bench.py": PLUGIN}, *requires)
        with asyncio.Runner() as runner:
            lock = read_lock(folder, missing_ok=True)
            proposal = runner.run(propose("bench", lock, {}))
            update_lock(lock.path, lambda pins: pins.update(bench=proposal.pin))
            kept = closures.verified_closure(str(site / "bench-1.0.dist-info"))

            def verify() -> None:
                runner.run(verified(lock.path, "bench", Policy()))

            def verify_cold() -> None:
                closures.forget()
                verify()

            figures = {"cold": seconds(verify_cold, rounds), "nothing changed": seconds(verify, rounds * 3)}
    size = sum(size for _, _, size in kept.closure.files.files)
    title = f"{len(proposal.pin.closure) + 1} distributions, {len(kept.stamps):,} files, {size / 1e6:.0f} MB and "
    table = Table(title=f"{title}{len(kept.closure.files.objects)} shared objects")
    for heading in ("verify", "median ms", "worst ms", "median CPU ms"):
        table.add_column(heading)
    for name, values in figures.items():
        walls, cpus = [wall for wall, _ in values], [cpu for _, cpu in values]
        row = (statistics.median(walls), max(walls), statistics.median(cpus))
        table.add_row(name, *(f"{value * 1e3:.1f}" for value in row))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distributions", type=int, default=17)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for wanted in (_WANTED, _HEAVY):
        with tempfile.TemporaryDirectory() as folder:
            Console().print(measure(Path(folder), options.distributions, options.rounds, wanted))


if __name__ == "__main__":
    main()
