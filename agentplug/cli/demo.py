"""The demo (host): one well-behaved plugin, many hostile ones, the verdict of each, and the effect on the host.

`play` runs the acts one after the other. Meanwhile the battery's pulse measures the longest delay of the event loop,
and the good plugin is called again and again. `show` prints the table, `draw` saves the picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from agentplug.contract.policy import Policy, format_size
from agentplug.contract.record import added_memory_bytes, plugin_name
from agentplug.contract.text import printable
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.doctor.battery.pulse import beating
from agentplug.doctor.battery.stock import Stock
from agentplug.report.marks import verdict_mark
from agentplug.report.sentences import explain, format_seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.spinner import Spinner
    from rich.table import Table

GOOD = "agentplug.plugins.word_count"
TEXT = "Plugins are untrusted code with your privileges. Sandbox them from day one."
POLICY = Policy(memory="64M", cpu_s=0.4, wall_s=10.0, disk="8M", reply="4M")
BRIEF = POLICY.replace(wall_s=1.0)
_LOOKS = 100
_WIDE = 100
_SECRET = "<the home directory with a key that the demo hid for it>"


@dataclass
class Act:
    """One plugin's turn: what it tries, the verdict that is expected, and its run in the end."""

    spec: str
    tries: str
    expected: str
    argument: Any = None
    policy: Policy = POLICY
    run: Run | None = None

    @property
    def as_expected(self) -> bool:
        """True if the act has run and its verdict is the expected one."""
        return self.run is not None and str(self.run.verdict) == self.expected


def programme() -> list[Act]:
    """Return the acts, the well-behaved one first."""
    zoo = "agentplug.zoo."
    return [
        Act(GOOD, "counts the words of a text", "completed", TEXT),
        Act(f"{zoo}memory:Hoarder", "fills its heap without end", "limited:memory"),
        Act(f"{zoo}memory:SharedHoarder", "fills shared memory instead", "limited:memory"),
        Act(f"{zoo}cpu:Spinner", "loops for ever", "limited:cpu"),
        Act(f"{zoo}cpu:CatastrophicRegex", "spends hours in one C call", "limited:cpu"),
        Act(f"{zoo}cpu:Sleeper", "awaits what never comes", "limited:wall", policy=BRIEF),
        Act(f"{zoo}processes:ForkBomb", "forks without end", "limited:processes"),
        Act(f"{zoo}files:Snoop", "reads the keys in ~/.ssh", "failed:PermissionError", _SECRET),
        Act(f"{zoo}files:DiskFiller", "fills the disk", "limited:disk"),
        Act(f"{zoo}host:HostKiller", "kills the process above it", "failed:PermissionError"),
        Act(f"{zoo}host:Quitter", "ends its process", "died:exit 3"),
        Act(f"{zoo}host:Segfaulter", "follows a null pointer", "died:SIGSEGV"),
        Act(f"{zoo}protocol:Unserializable", "replies with a pickle bomb", "broken:unserializable"),
        Act(f"{zoo}protocol:Forger", "forges its reply, then exits", "died:exit 0"),
        Act(f"{zoo}protocol:GiantReply", "replies with 32 MiB", "limited:reply"),
        Act(f"{zoo}display:Impostor", "has HTML and escapes for a name", "completed"),
    ]


@dataclass
class Host:
    """The effect of the acts on the host, by its heartbeat and the operating system."""

    longest_gap_s: float = 0.0
    good_calls: int = 0
    grown_bytes: int = 0
    leftovers: list[str] = field(default_factory=list)


async def play(acts: list[Act], report: Callable[[Act], None] = lambda act: None) -> Host:
    """Run every act, and call `report` after each. Raises what starting a plugin raises."""
    host = Host()
    process = psutil.Process()
    async with SandboxedPlugin(GOOD, POLICY) as good:
        await good.process(TEXT)
        before = Stock.take().processes
        memory_before = process.memory_info().rss
        with tempfile.TemporaryDirectory() as home:
            key = Path(home, ".ssh", "id_demo")
            key.parent.mkdir()
            key.write_text("a private key")
            async with beating() as pulse, _working(host, good):
                pulse.begin()
                for act in acts:
                    plugin = SandboxedPlugin(act.spec, act.policy)
                    try:
                        act.run = await plugin.run(home if act.argument is _SECRET else act.argument)
                    finally:
                        await plugin.close()
                    report(act)
                host.longest_gap_s = pulse.longest_s
        host.grown_bytes = process.memory_info().rss - memory_before
        host.leftovers = await _leftovers(before)
    return host


async def _leftovers(before: frozenset[str]) -> list[str]:
    """List the new processes, after a moment: a spare that was just forked doesn't have its name yet."""
    for _ in range(_LOOKS):
        if not (left := Stock.take().processes - before):
            break
        await asyncio.sleep(0.02)
    return sorted(left)


@contextlib.asynccontextmanager
async def _working(host: Host, good: SandboxedPlugin) -> AsyncIterator[None]:
    """Call the good plugin again and again during the block."""

    async def work() -> None:
        while True:
            if (await good.run(TEXT)).verdict.kind == "completed":
                host.good_calls += 1
            await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def show(console: Console, output: Path, notebook: Path, lab: str) -> bool:
    """Run the whole demo on `console`: the table, the picture, what to do next.

    True if every verdict was the expected one and no process is left.
    """
    acts = programme()
    console.print(
        f"\n[bold]agentplug[/] loads {len(acts)} plugins, each into a confined worker process that may add "
        f"{format_size(float(POLICY.memory))} of memory and use {POLICY.cpu_s:g} s of CPU. Most of them have "
        "other plans.",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )
    if not console.is_terminal:
        console.print()
    host = _play_live(console, acts) if console.is_terminal else _play_plainly(console, acts)
    good = all(act.as_expected for act in acts) and not host.leftovers
    for line in _findings(acts, host):
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)
    draw(acts, output)
    for what, where in (
        ("The picture", str(output)),
        ("The notebook to open next", str(notebook)),
        ("which JupyterLab shows with", lab),
    ):
        console.print(f"  {what:<28}[bold]{where}[/]", highlight=False, soft_wrap=True)
    console.print()
    return good


def _play_live(console: Console, acts: list[Act]) -> Host:
    from rich.live import Live
    from rich.spinner import Spinner

    spinner = Spinner("dots", "running", style="cyan")
    with Live(console=console, get_renderable=lambda: _table(acts, console.width, spinner), refresh_per_second=12):
        return asyncio.run(play(acts))


def _play_plainly(console: Console, acts: list[Act]) -> Host:
    def report(act: Act) -> None:
        assert act.run is not None
        mark = verdict_mark(act.run.verdict.kind)
        console.print(
            f"{mark.icon} {printable(str(act.run.verdict), 60):<23} {format_seconds(act.run.usage.wall_s):>7}  "
            f"{plugin_name(act.run)}: {act.tries}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    host = asyncio.run(play(acts, report))
    console.print()
    return host


def _table(acts: list[Act], width: int, spinner: Spinner) -> Table:
    """Return the table, one row an act: the next ones are dim, the one under way has a spinner."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("plugin", max_width=22, overflow="fold")
    if width >= _WIDE:
        table.add_column("what it tries", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=24)
    for heading, least in (("wall", 6), ("CPU", 6), ("memory", 8)):
        table.add_column(heading, justify="right", no_wrap=True, min_width=least)
    waiting = [act for act in acts if act.run is None]
    for act in acts:
        tries = [Text(act.tries, style="" if act.run else "dim")] if width >= _WIDE else []
        if act.run is None:
            name = Text(act.spec.rpartition(".")[2].rpartition(":")[2], style="dim")
            table.add_row(name, *tries, spinner if act is waiting[0] else Text("…", style="dim"))
            continue
        verdict, mark = act.run.verdict, verdict_mark(act.run.verdict.kind)
        cell = Text(f"{mark.icon} {printable(str(verdict), 60)}", style=f"bold {mark.color}")
        if not act.as_expected:
            cell.append(f" (expected {act.expected})", style="bold red")
        table.add_row(
            Text(plugin_name(act.run)),
            *tries,
            cell,
            format_seconds(act.run.usage.wall_s),
            format_seconds(act.run.usage.cpu_s),
            f"{added_memory_bytes(act.run) / (1 << 20):.1f} MiB",
        )
    return table


def _findings(acts: list[Act], host: Host) -> list[str]:
    """Sum up the table and the host's figures in lines."""
    from rich.markup import escape

    right = sum(act.as_expected for act in acts)
    lines = [
        _finding(right == len(acts), f"{right} of {len(acts)} verdicts are the expected ones"),
        _finding(
            host.longest_gap_s < 0.1,
            f"this process went on: its event loop was never late by more than {format_seconds(host.longest_gap_s)}",
        ),
        _finding(
            host.good_calls > 0, f"word_count, in a worker of its own, answered {host.good_calls} calls meanwhile"
        ),
        _finding(
            not host.leftovers,
            f"{', '.join(host.leftovers) + ' is' if host.leftovers else 'no process is'} left of them, "
            f"and this one has grown by {max(0, host.grown_bytes) / (1 << 20):.0f} MiB",
        ),
    ]
    lines += [
        f"[red]  {printable(act.spec, 100)}: expected {act.expected}. {escape(explain(act.run))}[/]"
        for act in acts
        if act.run is not None and not act.as_expected
    ]
    return [*lines, ""]


def _finding(good: bool, words: str) -> str:
    return f"  {'[green]✓[/]' if good else '[red]✗[/]'} {words}"


def draw(acts: list[Act], output: Path) -> None:
    """Save a picture: the hoarder's memory over time, and the costs of every plugin."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from agentplug.report.plots import compare_runs, plot_memory

    runs = [act.run for act in acts if act.run is not None]
    hoarder = next(run for act in acts if (run := act.run) is not None and act.expected == "limited:memory")
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(9, 9), layout="constrained", dpi=120)
        FigureCanvasAgg(figure)
        above, below = figure.subplots(2, 1, height_ratios=(2, 3.2))
        plot_memory(hoarder, above)
        compare_runs(runs, below)
        figure.savefig(output)
