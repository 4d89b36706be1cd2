"""The rights to agree to before a plugin is pinned (host): a card for a notebook, lines for a terminal.

All texts were read in the plugin's code or metadata, without running it, so every text is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentplug.contract.text import printable
from agentplug.report.html import QUIET, card, code, esc, line, table

_NOTHING = "nothing beside its interpreter and the installed packages, read-only"
_NO_REASON = "it gives no reason"


@dataclass(frozen=True, repr=False)
class Consent:
    """A card that asks for consent to pin a plugin: as text, and as HTML in a notebook.

    `asks` and `granted` map rights to values; the value of `hooks` maps points to kinds.
    """

    name: str
    version: str
    origin: str
    asks: Mapping[str, Any]
    why: Mapping[str, str]
    granted: Mapping[str, Any]
    changes: Sequence[str]
    pinned: bool

    def lines(self) -> list[str]:
        """Make the card as lines of text, escaped."""
        lines = [f"{printable(self.name, 100)} {printable(self.version, 100)}"]
        lines.append(f"  from    {printable(self.origin, 400)}")
        asked = asked_rows(self.asks, self.why, self.granted)
        lines += [f"  asks    {right}: {reason}{'' if ok else '  (not granted)'}" for right, reason, ok in asked] or [
            f"  asks    {_NOTHING}"
        ]
        lines.append(f"  may     {_granted(self.granted)}")
        lines.append(f"  pinned  {_state(self.changes, self.pinned)}")
        return lines + [f"    {printable(change, 700)}" for change in self.changes]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        asked = [
            [esc(right, 300), esc(reason, 500), "yes" if ok else "<b>no</b>"]
            for right, reason, ok in asked_rows(self.asks, self.why, self.granted)
        ]
        return card(
            "#E69F00" if self.changes or not self.pinned else "#009E73",
            line(f'<b>{esc(self.name, 100)}</b> <span style="{QUIET}">{esc(self.version, 100)}</span>'),
            line(f"from {code(self.origin)}", QUIET),
            table(["asks for", "why", "granted"], asked) if asked else line(f"asks for {_NOTHING}"),
            line(f"may be granted: {esc(_granted(self.granted), 500)}"),
            line(f"pinned: {esc(_state(self.changes, self.pinned), 300)}"),
            *(line(code(change[:700])) for change in self.changes),
        )


def asked_rows(
    asks: Mapping[str, Any], why: Mapping[str, str], granted: Mapping[str, Any]
) -> list[tuple[str, str, bool]]:
    """Make a row for each right or hook point asked for: its text, the reason, and True if it is granted."""
    rows = []
    for right, value in asks.items():
        if right == "hooks":
            grants = granted.get("hooks", {})
            for point, kind in value.items():
                ok = str(grants.get(point, "")).partition(" ")[0] == kind
                rows.append((printable(f"{kind} at {point}", 100), _reason(why, point), ok))
        else:
            ok = _covers(granted.get(right), value)
            rows.append((printable(_right(right, value), 300), _reason(why, right), ok))
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
