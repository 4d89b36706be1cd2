"""An event's detail as words for people, in cards and dashboards (host). All text goes through `printable`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentplug.contract.limits import LIMITS
from agentplug.contract.policy import format_amount, format_size
from agentplug.contract.text import printable
from agentplug.report.sentences import format_seconds
from agentplug.report.units import measured_size

_MOST = 300
_FIGURES = {
    "added_memory_bytes": lambda value: f"{measured_size(value)} added",
    "wall_s": lambda value: f"in {format_seconds(value)}",
    "cpu_s": lambda value: f"{format_seconds(value)} of CPU",
    "write_bytes": lambda value: f"{format_size(value)} written",
    "floor_bytes": lambda value: f"memory counts from {measured_size(value)}",
    "threads": lambda value: f"{value} thread{'' if value == 1 else 's'}",
    "count": lambda value: f"×{value:,}" if value > 1 else "",
}


def event_words(kind: str, detail: Mapping[str, Any]) -> str:
    """Return the words for an event's detail: `memory: over 64 MiB`, `ValueError`, `connect 10.0.0.1:443 ×3`."""
    rest = dict(detail)
    words = []
    if (by := str(rest.get("by" if kind == "limit" else "limit", ""))) in LIMITS and "bound" in rest:
        words.append(_limit(by, rest))
        for name in ("by", "limit", "measured", "bound", "unit"):
            rest.pop(name, None)
    if claims := rest.pop("claims", ""):
        words.append(f"as if at its {claims} limit")
    if rest.pop("source", "") == "worker":
        words.append("by its worker's own report")
    during = rest.pop("during", "")
    usual = [_words(name, value) for name, value in rest.items() if value not in ("", None)]
    words = [" ".join(word for word in usual if word), *words, f"during {during}" if during else ""]
    return printable(" · ".join(word for word in words if word), _MOST)


def _limit(by: str, detail: Mapping[str, Any]) -> str:
    row, bound, unit = LIMITS[by], detail["bound"], str(detail.get("unit", ""))
    if not isinstance(bound, (int, float)):
        return by
    usual = not unit or unit == row.unit
    return f"{row.label}: over {format_amount(row, bound) if usual else f'{bound:g} {unit}'}"


def _words(name: str, value: Any) -> str:
    figure = _FIGURES.get(name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return figure(value) if figure is not None and is_number else str(value)
