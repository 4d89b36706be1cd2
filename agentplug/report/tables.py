"""Tables for terminals, as rich renderables (host).

Every cell is a `Text`, so rich markup in a plugin's name is shown and not obeyed; control characters and
terminal escapes are made visible by `printable` before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentplug.contract.explain import added_memory_bytes, format_seconds, plugin_name
from agentplug.contract.policy import format_size
from agentplug.contract.run import Run
from agentplug.contract.text import printable
from agentplug.report.marks import Mark, verdict_mark

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def verdict_rich(runs: Sequence[Run]) -> Table:
    """One row a run: plugin, verdict, wall time, CPU, added memory against its limit, output."""
    table = _table("plugin", "verdict", "wall", "CPU", "added memory", "output", numbers_from=2)
    for run in runs:
        usage = run.usage
        table.add_row(
            _text(plugin_name(run)),
            _marked(verdict_mark(run.verdict.kind), printable(str(run.verdict), 100)),
            _text(format_seconds(usage.wall_s)),
            _text(format_seconds(usage.cpu_s)),
            _text(f"{format_size(added_memory_bytes(run))} of {format_size(float(run.policy.memory))}"),
            _text(format_size(usage.output_bytes)),
        )
    return table


def _table(*headers: str, numbers_from: int | None = None) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, header in enumerate(headers):
        number = numbers_from is not None and position >= numbers_from
        table.add_column(header, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return table


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style)


def _marked(mark: Mark, text: str) -> Text:
    return _text(f"{mark.icon} {text}", f"bold {mark.color}")
