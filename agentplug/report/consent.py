"""The rights to agree to before a plugin is pinned (host): a card for a notebook, lines for a terminal.

All texts were read in the plugin's code or metadata, without running it, so every text is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentplug.contract.text import printable
from agentplug.report.html import QUIET, card, code, esc, line, table

_NOTHING = "nothing beside its interpreter and the installed packages, read-only"
_NO_REASON = "it gives no reason"


def consent_lines(
    *,
    name: str,
    version: str,
    origin: str,
    asks: Mapping[str, Any],
    why: Mapping[str, str],
    granted: Mapping[str, Any],
    changes: Sequence[str],
    pinned: bool,
) -> list[str]:
    """Make the card as lines of text, escaped.

    `asks` and `granted` map rights to values; the value of `hooks` maps points to kinds.
    """
    lines = [f"{printable(name, 100)} {printable(version, 100)}", f"  from    {printable(origin, 400)}"]
    asked = asked_rows(asks, why, granted)
    lines += [f"  asks    {right}: {reason}{'' if ok else '  (not granted)'}" for right, reason, ok in asked] or [
        f"  asks    {_NOTHING}"
    ]
    lines.append(f"  may     {_granted(granted)}")
    lines.append(f"  pinned  {_state(changes, pinned)}")
    return lines + [f"    {printable(change, 700)}" for change in changes]


def consent_card(
    *,
    name: str,
    version: str,
    origin: str,
    asks: Mapping[str, Any],
    why: Mapping[str, str],
    granted: Mapping[str, Any],
    changes: Sequence[str],
    pinned: bool,
) -> str:
    """Make the card as HTML."""
    asked = [
        [esc(right, 300), esc(reason, 500), "yes" if ok else "<b>no</b>"]
        for right, reason, ok in asked_rows(asks, why, granted)
    ]
    color = "#E69F00" if changes or not pinned else "#009E73"
    return card(
        color,
        line(f'<b>{esc(name, 100)}</b> <span style="{QUIET}">{esc(version, 100)}</span>'),
        line(f"from {code(origin)}", QUIET),
        table(["asks for", "why", "granted"], asked) if asked else line(f"asks for {_NOTHING}"),
        line(f"may be granted: {esc(_granted(granted), 500)}"),
        line(f"pinned: {esc(_state(changes, pinned), 300)}"),
        *(line(code(change[:700])) for change in changes),
    )


def asked_rows(
    asks: Mapping[str, Any], why: Mapping[str, str], granted: Mapping[str, Any]
) -> list[tuple[str, str, bool]]:
    """Make a row for each right or hook point asked for: its text, the reason, and True if it is granted."""
    rows = []
    for right, value in asks.items():
        if right == "hooks":
            grants = granted.get("hooks", {})
            rows += [
                (
                    printable(f"{kind} at {point}", 100),
                    _reason(why, point),
                    str(grants.get(point, "")).partition(" ")[0] == kind,
                )
                for point, kind in value.items()
            ]
        else:
            rows.append(
                (printable(_right(right, value), 300), _reason(why, right), _covers(granted.get(right), value))
            )
    return rows


def _reason(why: Mapping[str, str], of: str) -> str:
    return printable(why.get(of, _NO_REASON), 500)


def _covers(granted: Any, asked: Any) -> bool:
    if granted is True or granted == asked:
        return True
    return isinstance(granted, (list, tuple)) and isinstance(asked, (list, tuple)) and set(asked) <= set(granted)


def _granted(granted: Mapping[str, Any]) -> str:
    return printable("; ".join(_right(right, value) for right, value in granted.items()), 500) or _NOTHING


def _right(right: str, value: Any) -> str:
    if value is True:
        return right
    if isinstance(value, Mapping):
        value = [f"{kind} at {point}" for point, kind in value.items()]
    return f"{right} {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"


def _state(changes: Sequence[str], pinned: bool) -> str:
    if not pinned:
        return "not yet"
    return "changed since then, from - to +:" if changes else "yes, and unchanged"
