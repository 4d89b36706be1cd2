"""What a battery found: one row an attack, as a frame, as text and in a notebook (host).

All text in it that a plugin may have had a hand in (verdicts, evidence) is escaped where it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agentplug.contract.text import printable
from agentplug.report.html import QUIET, card, code, details, esc, figure, line, pill, table
from agentplug.report.marks import Mark

if TYPE_CHECKING:
    import pandas as pd

HELD = Mark("✓", "#2ca02c", "")
THROUGH = Mark("✗", "#d62728", "")

REFUSED = "refused"
"""Stands in place of a verdict where an attack was never begun."""

_NAMED = 10


@dataclass(frozen=True)
class Row:
    """What became of one attack. `expected` names the verdicts that would do; `evidence` says what was seen."""

    attack: str
    family: str
    target: str
    expected: str
    verdict: str
    contained: bool
    evidence: str
    wall_s: float
    host_gap_ms: float

    def __str__(self) -> str:
        head = f"{'✓' if self.contained else '✗'} {f'{self.family}:{self.attack}':<30}"
        told = f"{head} {printable(self.verdict, 60):<24} {self.wall_s:6.2f} s {self.host_gap_ms:5.0f} ms"
        return told if self.contained else f"{told}  {printable(self.evidence, 400)}"


@dataclass(frozen=True)
class Matrix:
    """The rows of one run of the battery."""

    rows: tuple[Row, ...]

    @property
    def survived(self) -> bool:
        """Every attack was contained, and one at least was begun."""
        return not self.escapes and len(self.refused) < len(self.rows)

    @property
    def escapes(self) -> tuple[Row, ...]:
        """The attacks that weren't."""
        return tuple(row for row in self.rows if not row.contained)

    @property
    def refused(self) -> tuple[Row, ...]:
        """The attacks that were never begun, because this machine can't keep their policy."""
        return tuple(row for row in self.rows if row.verdict == REFUSED)

    @property
    def longest_gap_ms(self) -> float:
        """The longest hold-up of this process's loop, in milliseconds."""
        return max((row.host_gap_ms for row in self.rows), default=0.0)

    @property
    def families(self) -> dict[str, Sequence[Row]]:
        """The rows of each family."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.family, []).append(row)
        return dict(found)

    def summary(self) -> str:
        """The answer in one line."""
        if not self.rows:
            return "No attack was run."
        held = len(self.rows) - len(self.escapes)
        told = f"{held} of {len(self.rows)} attacks were contained"
        if self.refused:
            told += f" ({len(self.refused)} of them refused a start, since this machine can't keep their policy)"
        if self.escapes:
            names = [f"{row.family}:{row.attack}" for row in self.escapes]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            return f"{told}; {', '.join(names[:_NAMED])}{more} got through."
        return f"{told}: accepted verdicts, an unharmed stage, and nothing left behind."

    def to_frame(self) -> pd.DataFrame:
        """One row an attack: the fields of `Row`."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows], columns=list(Row.__dataclass_fields__))

    def __str__(self) -> str:
        return "\n".join([*self._lines(), "", self._hold_up(), printable(self.summary(), 4_000)])

    def _hold_up(self) -> str:
        return f"The longest hold-up of this process's loop: {self.longest_gap_ms:.0f} ms"

    def _lines(self) -> Iterator[str]:
        for family, rows in self.families.items():
            held = sum(row.contained for row in rows)
            yield f"{'✓' if held == len(rows) else '✗'} {family:<11} {held:>3} of {len(rows)}"
            yield from (f"  {row}" for row in rows if not row.contained)

    def __repr__(self) -> str:
        return f"<Matrix: {len(self.rows)} attacks, {len(self.rows) - len(self.escapes)} contained>"

    def _repr_html_(self) -> str:
        word = "survived" if self.survived else "not survived"
        parts = [line(pill(HELD if self.survived else THROUGH, word)), line(esc(self.summary(), 4_000))]
        if self.escapes:
            parts.append(_table(self.escapes))
        for family, rows in self.families.items():
            held = sum(row.contained for row in rows)
            parts.append(details(f"{family}: {held} of {len(rows)} contained", _table(rows)))
        parts.append(line(self._hold_up(), QUIET))
        return card((HELD if self.survived else THROUGH).color, *parts)


def _table(rows: Sequence[Row]) -> str:
    headers = ("", "attack", "on", "verdict", "evidence", "took")
    return table(
        headers,
        (
            (
                esc(HELD.icon if row.contained else THROUGH.icon),
                code(row.attack),
                esc(row.target),
                code(row.verdict if row.contained else f"{row.verdict} (expected {row.expected})"),
                esc(row.evidence, 600),
                figure(f"{row.wall_s:.2f} s"),
            )
            for row in rows
        ),
    )
