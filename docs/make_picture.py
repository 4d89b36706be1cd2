"""Make docs/verdicts.png, the picture in README.md, from real runs: `python docs/make_picture.py`.

A table of verdicts, drawn by matplotlib, above the traces of two of the runs.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agentplug.cli.demo import TEXT, Act, play
from agentplug.contract.record import added_memory_bytes, plugin_name
from agentplug.report.marks import verdict_mark
from agentplug.report.plots import plot_cpu, plot_memory
from agentplug.report.sentences import format_seconds

ZOO = "agentplug.zoo."
ACTS = [
    Act("agentplug.plugins.word_count", "counts the words of a text", "completed", TEXT),
    Act(f"{ZOO}memory:Hoarder", "fills its heap without end", "limited:memory"),
    Act(f"{ZOO}cpu:Spinner", "loops for ever", "limited:cpu"),
    Act(f"{ZOO}processes:ForkBomb", "forks without end", "limited:processes"),
    Act(f"{ZOO}host:HostKiller", "kills the process above it", "failed:PermissionError"),
    Act(f"{ZOO}host:Segfaulter", "follows a null pointer", "died:SIGSEGV"),
    Act(f"{ZOO}protocol:Forger", "forges its reply, then exits", "died:exit 0"),
]
COLUMNS = {"plugin": 0.0, "what it tries": 0.185, "verdict": 0.44, "wall": 0.78, "CPU": 0.885, "memory": 1.0}
NUMBERS = ("wall", "CPU", "memory")


def draw_table(ax: Axes) -> None:
    """One row an act, its verdict in a pill."""
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(len(ACTS) - 0.3, -1.1)
    for heading, x in COLUMNS.items():
        ax.text(x, -0.8, heading, fontsize=10, fontweight="bold", va="center", ha=side(heading))
    ax.plot([0, 1], [-0.42, -0.42], color="0.3", lw=1)
    for row, act in enumerate(ACTS):
        run = act.run
        assert run is not None
        mark = verdict_mark(run.verdict.kind)
        cells = {
            "plugin": plugin_name(run),
            "what it tries": act.tries,
            "verdict": f"{mark.icon} {run.verdict}",
            "wall": format_seconds(run.usage.wall_s),
            "CPU": format_seconds(run.usage.cpu_s),
            "memory": f"{added_memory_bytes(run) / (1 << 20):.1f} MiB",
        }
        for heading, words in cells.items():
            pill = {"boxstyle": "round,pad=0.28", "facecolor": f"{mark.color}30", "edgecolor": mark.color}
            ax.text(
                COLUMNS[heading] + (0.008 if heading == "verdict" else 0),
                row,
                words,
                fontsize=10,
                va="center",
                ha=side(heading),
                parse_math=False,
                bbox=pill if heading == "verdict" else None,
            )


def side(heading: str) -> str:
    """Numbers stand at the right."""
    return "right" if heading in NUMBERS else "left"


def main() -> None:
    asyncio.run(play(ACTS))
    wrong = [f"{act.spec}: {act.run.verdict}" for act in ACTS if act.run is not None and not act.as_expected]
    if wrong:
        raise SystemExit(f"Not the verdicts that the picture is to show: {', '.join(wrong)}")
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(10, 6.6), layout="constrained", dpi=110, facecolor="white")
        axes = figure.subplot_mosaic([["table", "table"], ["memory", "cpu"]], height_ratios=(1.15, 1))
        draw_table(axes["table"])
        runs = [act.run for act in ACTS if act.run is not None]
        plot_memory(runs[1], axes["memory"])
        plot_cpu(runs[2], axes["cpu"])
        figure.savefig(Path(__file__).with_name("verdicts.png"))


if __name__ == "__main__":
    main()
