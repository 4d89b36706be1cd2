"""Profiles of a call's memory or CPU time as tables, text and flame graphs (host).

Names and files come from the plugin: in HTML they go through `html.esc`, elsewhere through `printable`. A flame graph
is made of nested boxes with inline CSS, without scripts, so it looks the same in a saved notebook, light or dark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentplug.contract.policy import format_size
from agentplug.contract.profile import CLAIM, Place, ProfileRecord
from agentplug.contract.text import printable
from agentplug.report.frames import without_formulas
from agentplug.report.html import QUIET, card, code, details, esc, figure, line, table
from agentplug.report.marks import CPU_COLOR, MEMORY_COLOR
from agentplug.report.sentences import format_seconds

if TYPE_CHECKING:
    import pandas as pd

_COLORS = {"memory": MEMORY_COLOR, "cpu": CPU_COLOR}
_LIBRARY_COLOR = "#8C8C8C"
_LIBRARY = re.compile(r".*/(?:site-packages|dist-packages|lib(?:64)?/python3\.\d+)/|<frozen ")
_MOST_BOXES = 400
_LEAST_SHARE = 0.003
"""A call with less than this share of the whole has no box."""
_MOST_CHARACTERS = 105
"""The characters that fit into the widest box."""
_LEAST_CHARACTERS = 4
"""A box with room for less has no text."""
_ROWS = 15
_TEXT_ROWS = 8
_REST = {
    "memory": "without a Python stack, or lighter than those shown",
    "cpu": "in more stacks than are told, or lighter than those shown",
}
"""The words for the weight in `Profile.dropped`."""


@dataclass
class _Cost:
    """The cost of one line of code: of the line itself, and in `total` with the calls that it made."""

    weight: int = 0
    count: int = 0
    total: int = 0


@dataclass
class _Box:
    """A call in the graph: its cost with the calls below it, and their boxes."""

    weight: int = 0
    count: int = 0
    below: dict[tuple[str, str, int], _Box] = field(default_factory=dict)


def profile_frame(profile: ProfileRecord) -> pd.DataFrame:
    """Make the table of lines: see `Profile.to_frame`."""
    import numpy as np
    import pandas as pd

    lines = _lines(profile)
    weights = np.array([cost.weight for _, cost in lines], dtype="int64")
    columns: dict[str, Any] = {
        "function": pd.Series([printable(place.function, 200) for place, _ in lines], dtype=str),
        "file": pd.Series([printable(place.file, 300) for place, _ in lines], dtype=str),
        "line": np.array([place.line for place, _ in lines], dtype="int64"),
    }
    if profile.kind == "memory":
        columns["size_bytes"] = weights
        columns["total_bytes"] = np.array([cost.total for _, cost in lines], dtype="int64")
        columns["allocations"] = np.array([cost.count for _, cost in lines], dtype="int64")
    else:
        columns["self_s"] = weights / 1e9
        columns["total_s"] = np.array([cost.total for _, cost in lines], dtype="int64") / 1e9
    columns["share"] = weights / (profile.total or 1)
    frame = pd.DataFrame(columns)
    frame.attrs = {
        "frame": "profile",
        "kind": profile.kind,
        "total": profile.total,
        "dropped": profile.dropped,
        "missing": printable(profile.missing, 400),
        "claim": CLAIM,
    }
    return without_formulas(frame)


def profile_text(profile: ProfileRecord) -> str:
    """List the heaviest lines; safe in a terminal."""
    lines, others = _heaviest(profile, _TEXT_ROWS)
    weights = [(cost.weight, _where(place)) for place, cost in lines] + others
    rows = [
        f"{_amount(profile.kind, weight):>9} {_percent(weight, profile):>4}  {words}" for weight, words in weights
    ]
    return "\n".join([f"{_heading(profile)}, {CLAIM}", *rows])


def profile_card(profile: ProfileRecord) -> str:
    """Make a profile's own card: its graph, and its heaviest lines folded below."""
    head = line(f"<b>{esc(_heading(profile))}</b> <span style='{QUIET}'>· {esc(CLAIM)}</span>")
    return card(_COLORS[profile.kind], head, _content(profile))


def profile_part(profile: ProfileRecord) -> str:
    """Make the folding part of a run's card."""
    return details(f"{_heading(profile)}, {CLAIM}", _content(profile), opened=True)


def flame(profile: ProfileRecord) -> str:
    """Draw the flame graph: see `Profile.flame`."""
    if not profile.total:
        return ""
    root = _tree(profile)
    least = profile.total * _LEAST_SHARE
    while _count(root, least) > _MOST_BOXES:
        least *= 1.5
    boxes = _row(root, profile, least)
    if rest := profile.dropped:
        title = f"{_amount(profile.kind, rest)}, {_percent(rest, profile)} of all · {_REST[profile.kind]}"
        boxes += _html(profile, root, rest, "others", title, "1f")
    whole = _styled(_LIBRARY_COLOR, "1f", esc(f"all · {_amount(profile.kind, profile.total)} · {CLAIM}"), "")
    style = (
        "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:12px;line-height:18px;"
        "color:var(--jp-content-font-color1,inherit);max-height:460px;overflow:auto;margin:8px 0"
    )
    label = esc(f"Flame graph. {_heading(profile)}, {CLAIM}. The table of lines says the same.")
    return (
        f'<div class="tex2jax_ignore mathjax_ignore" role="group" aria-label="{label}" style="{style}">{whole}'
        f'<div style="display:flex">{boxes}</div></div>'
    )


# ---------------------------------------------------------------------- figures


def _lines(profile: ProfileRecord) -> list[tuple[Place, _Cost]]:
    """Sum up the cost of each line of code, the heaviest lines first."""
    costs: dict[Place, _Cost] = {}
    for stack in profile.stacks:
        for place in dict.fromkeys(stack.places):
            costs.setdefault(place, _Cost()).total += stack.weight
        leaf = costs[stack.places[-1]]
        leaf.weight += stack.weight
        leaf.count += stack.times
    return sorted(costs.items(), key=lambda item: (-item[1].weight, -item[1].total))


def _heaviest(
    profile: ProfileRecord, most: int, least: float = 1
) -> tuple[list[tuple[Place, _Cost]], list[tuple[int, str]]]:
    """Return the heaviest lines, and the weights of all the rest with their words."""
    lines = [(place, cost) for place, cost in _lines(profile) if cost.weight]
    heavy = [(place, cost) for place, cost in lines[:most] if cost.weight >= least]
    lighter = sum(cost.weight for _, cost in lines[len(heavy) :])
    count = len(lines) - len(heavy)
    rest = [(lighter, f"{count:,} more line{'' if count == 1 else 's'}"), (profile.dropped, _REST[profile.kind])]
    return heavy, [(weight, words) for weight, words in rest if weight]


def _tree(profile: ProfileRecord) -> _Box:
    """Make a tree of calls by function. The plugin's own calls, and the last ones, have their lines below them."""
    root = _Box(profile.total)
    for stack in profile.stacks:
        box = root
        for place in stack.places:
            steps = [(place.function, place.file, 0)]
            if place.line and (place is stack.places[-1] or _own(place.file)):
                steps.append(("", place.file, place.line))
            for step in steps:
                box = box.below.setdefault(step, _Box())
                box.weight += stack.weight
                box.count += stack.times
    return root


def _count(box: _Box, least: float) -> int:
    return sum(1 + _count(below, least) for below in box.below.values() if below.weight >= least)


# ---------------------------------------------------------------------- words


def _heading(profile: ProfileRecord) -> str:
    what = "Memory" if profile.kind == "memory" else "CPU time"
    if profile.missing:
        return f"{what} wasn't profiled: {printable(profile.missing, 400)}"
    if not profile.total:
        least = "allocated too little" if profile.kind == "memory" else "took less than a sample"
        return f"{what}: nothing to show, the call {least}"
    amount = _amount(profile.kind, profile.total)
    return f"{what} at its peak: {amount}" if profile.kind == "memory" else f"{what}: {amount}"


def _amount(kind: str, weight: int) -> str:
    return format_seconds(weight / 1e9) if kind == "cpu" else format_size(weight)


def _percent(weight: int, profile: ProfileRecord) -> str:
    share = weight / profile.total
    return f"{share:.0%}" if share >= 0.01 else "<1%"


def _where(place: Place) -> str:
    at = f" ({_short(place.file)}:{place.line})" if place.line else ""
    return f"{printable(place.function, 100)}{at}"


def _own(file: str) -> bool:
    """True for a file of the plugin, False for one of a library."""
    return bool(file) and not _LIBRARY.match(file)


def _short(file: str) -> str:
    """Return the end of a path: below the folder of packages, else the file and its folder."""
    folder = _LIBRARY.match(file)
    if folder is not None and folder.end() < len(file) and not file.startswith("<"):
        return printable(file[folder.end() :], 80)
    return printable("/".join(file.rsplit("/", 2)[-2:]).lstrip("/"), 80)


# ---------------------------------------------------------------------- HTML


def _content(profile: ProfileRecord) -> str:
    if not profile.total:
        return ""
    headers = ["function", "where", "itself", "share", "with calls"]
    lines, others = _heaviest(profile, _ROWS, profile.total * _LEAST_SHARE)
    rows = [
        [
            code(place.function, 40),
            esc(f"{_short(place.file)}:{place.line}" if place.line else ""),
            figure(_amount(profile.kind, cost.weight)),
            figure(_percent(cost.weight, profile)),
            figure(_amount(profile.kind, cost.total)),
        ]
        for place, cost in lines
    ]
    rows += [
        [esc(words), "", figure(_amount(profile.kind, weight)), figure(_percent(weight, profile)), ""]
        for weight, words in others
    ]
    color = _COLORS[profile.kind]
    legend = (
        f"{_swatch(color)} its own code {_swatch(_LIBRARY_COLOR)} libraries · strong: lines that took it themselves"
    )
    note = "The profiler's own memory and CPU time count in the run's figures"
    note += ", and here what was allocated, touched or not." if profile.kind == "memory" else "."
    return (
        flame(profile)
        + line(legend, f"{QUIET};font-size:12px")
        + details("heaviest lines", table(headers, rows))
        + line(esc(note), f"{QUIET};font-size:12px")
    )


def _swatch(color: str) -> str:
    style = f"display:inline-block;width:10px;height:10px;border-radius:2px;background:{color}99;margin-left:6px"
    return f'<span style="{style}"></span>'


def _row(box: _Box, profile: ProfileRecord, least: float) -> str:
    """Make the boxes below one, heaviest first."""
    boxes = ""
    for (function, file, number), below in sorted(box.below.items(), key=lambda item: -item[1].weight):
        if below.weight < least:
            break
        amount = _amount(profile.kind, below.weight)
        counted = "allocation" if profile.kind == "memory" else "sample"
        count = f"{below.count:,} {counted}{'' if below.count == 1 else 's'}"
        name = f"line {number}" if number else function
        where = f"{file}:{number}" if number else file
        title = f"{name} · {where} · {amount}, {_percent(below.weight, profile)} of all · {count}"
        mine = below.weight - sum(each.weight for each in below.below.values())
        alpha = f"{int(0x44 + 0x5C * (mine / profile.total) ** 0.5):02x}" if number else "3c"
        boxes += _html(profile, box, below.weight, name, title, alpha, file, _row(below, profile, least))
    return boxes


def _html(
    profile: ProfileRecord,
    parent: _Box,
    weight: int,
    name: str,
    title: str,
    alpha: str,
    file: str = "",
    below: str = "",
) -> str:
    """Make a box and the boxes below it. If there isn't room for name and amount, there is only the name."""
    own = _own(file)
    color = _COLORS[profile.kind] if own else _LIBRARY_COLOR
    room = int(_MOST_CHARACTERS * weight / profile.total)
    whole = f"{name} · {_amount(profile.kind, weight)}"
    text = esc(whole if len(whole) <= room else name, 160) if room >= _LEAST_CHARACTERS else "&nbsp;"
    box = _styled(color, alpha, f"<b>{text}</b>" if own else text, esc(title, 600))
    children = f'<div style="display:flex">{below}</div>' if below else ""
    return f'<div style="flex:0 0 {weight / parent.weight:.3%};min-width:0">{box}{children}</div>'


def _styled(color: str, alpha: str, content: str, title: str) -> str:
    style = (
        f"background:{color}{alpha};background-clip:padding-box;border:solid transparent;border-width:0 1px 1px 0;"
        "border-radius:3px;height:20px;line-height:20px;padding:0 0 0 5px;box-sizing:border-box;overflow:hidden;"
        "text-overflow:ellipsis;white-space:nowrap"
    )
    return f'<div style="{style}"{f" title={chr(34)}{title}{chr(34)}" if title else ""}>{content}</div>'
