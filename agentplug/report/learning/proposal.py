"""`Learned`: a proposed policy, with a reason for each right (host).

Paths and addresses come from a plugin's events. In the source they are literals, in comments they go through
`printable`, so nothing in them can end a line.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from agentplug.contract.limits import FIELDS, Kind
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.report.frames import without_formulas
from agentplug.report.html import QUIET, card, code, esc, line, table
from agentplug.report.marks import WALL_COLOR

if TYPE_CHECKING:
    import pandas as pd

_MOST_NOTES = 40
_MOST_ROWS = 60
REFUSED_TOO = "refused too, not granted"
"""The reason against a right that was refused in a run whose error names another, or none."""


class Right(NamedTuple):
    """One right or limit: the policy's field, its value or one item of it as Python source, and the reason."""

    field: str
    value: str
    reason: str


@dataclass(frozen=True, repr=False)
class Learned:
    """The proposal of `Policy.learn`. `str()` is Python source that makes the policy, for the user to edit.

    policy   the policy
    rights   its rights and limits with their reasons, a row for each path and port
    refused  refused calls and rights that aren't proposed, with the reasons
    notes    the limits of what the runs can show
    """

    policy: Policy
    rights: tuple[Right, ...]
    refused: tuple[Right, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> dict[str, str]:
        """Each field's reasons, joined."""
        names = dict.fromkeys(right.field for right in self.rights)
        return {name: "; ".join(right.reason for right in self.rights if right.field == name) for name in names}

    def __str__(self) -> str:
        lines = ["Policy("]
        for field in fields(Policy):
            items = [right for right in self.rights if right.field == field.name]
            if len(items) == 1 and not _is_item(items[0]):
                lines.append(f"    {field.name}={items[0].value},  # {_remark(items[0].reason)}")
            elif items:
                opening, closing = "{}" if isinstance(FIELDS[field.name].default, dict) else "()"
                lines.append(f"    {field.name}={opening}")
                lines += [f"        {right.value},  # {_remark(right.reason)}" for right in items]
                lines.append(f"    {closing},")
        lines.append(")")
        for right in self.refused[:_MOST_NOTES]:
            begin = "" if right.reason.startswith(REFUSED_TOO) else "not granted: "
            lines.append(f"# {begin}{_remark(f'{right.field} {right.value}')}: {_remark(right.reason)}")
        if len(self.refused) > _MOST_NOTES:
            lines.append(f"# not granted: and {len(self.refused) - _MOST_NOTES} more")
        lines += [f"# note: {_remark(note)}" for note in self.notes]
        return "\n".join(lines)

    __repr__ = __str__

    def to_frame(self) -> pd.DataFrame:
        """Make a frame with one row a right: `field`, `value`, `granted`, `reason`."""
        from agentplug.report.text_table import TextTable

        rows = [(right.field, right.value, True, right.reason) for right in self.rights]
        rows += [(right.field, right.value, False, right.reason) for right in self.refused]
        frame = TextTable(rows, columns=["field", "value", "granted", "reason"])
        return without_formulas(TextTable(frame.astype({"granted": bool})))

    def _repr_html_(self) -> str:
        rows = [[f"<b>{esc(right.field)}</b>", code(right.value), esc(right.reason)] for right in self.rights]
        rows += [
            [f'<span style="{QUIET}">not granted: {esc(right.field)}</span>', code(right.value), esc(right.reason)]
            for right in self.refused[:_MOST_ROWS]
        ]
        return card(
            WALL_COLOR,
            line("<b>Learned policy</b>: print it for its source, take its <code>policy</code> to use it"),
            table(["field", "value", "reason"], rows),
            *(line(f"note: {esc(note)}", QUIET) for note in self.notes),
        )


def _is_item(right: Right) -> bool:
    """True if the value is one item of a tuple or a dict."""
    kind = FIELDS[right.field].kind
    return kind.many or (kind is Kind.PORTS and right.value != "True")


def _remark(text: str) -> str:
    return printable(text, 400)
