"""The result of a battery: one row an attack, as a DataFrame, as text and in a notebook (host).

Text that a plugin may have influenced (verdicts, evidence) is escaped on display.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agentplug.contract.text import printable
from agentplug.report.frames import without_formulas
from agentplug.report.html import QUIET, card, code, details, esc, figure, line, pill, table
from agentplug.report.marks import Mark

if TYPE_CHECKING:
    import pandas as pd

CONTAINED = Mark("✓", "#2ca02c", "")
ESCAPED = Mark("✗", "#d62728", "")

REFUSED = "refused"
"""In place of a verdict: the attack never began."""

_NAMED = 10


@dataclass(frozen=True)
class Row:
    """The outcome of one attack. `expected` names the accepted verdicts, `evidence` the observed effects."""

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
        text = f"{head} {printable(self.verdict, 60):<24} {self.wall_s:6.2f} s {self.host_gap_ms:5.0f} ms"
        return text if self.contained else f"{text}  {printable(self.evidence, 400)}"


@dataclass(frozen=True)
class Matrix:
    """The rows of one run of the battery."""

    rows: tuple[Row, ...]

    @property
    def survived(self) -> bool:
        """True if every attack was contained, and at least one began."""
        return not self.escapes and len(self.refused) < len(self.rows)

    @property
    def escapes(self) -> tuple[Row, ...]:
        """The attacks that weren't contained."""
        return tuple(row for row in self.rows if not row.contained)

    @property
    def refused(self) -> tuple[Row, ...]:
        """The attacks that never began, because this machine can't enforce their policy."""
        return tuple(row for row in self.rows if row.verdict == REFUSED)

    @property
    def longest_gap_ms(self) -> float:
        """The longest delay of this process's loop, in milliseconds."""
        return max((row.host_gap_ms for row in self.rows), default=0.0)

    @property
    def families(self) -> dict[str, Sequence[Row]]:
        """The rows of each family."""
        families: dict[str, list[Row]] = {}
        for row in self.rows:
            families.setdefault(row.family, []).append(row)
        return dict(families)

    def summary(self) -> str:
        """Return the result in one line."""
        if not self.rows:
            return "No attack was run."
        text = f"{len(self.rows) - len(self.escapes)} of {len(self.rows)} attacks were contained"
        if self.refused:
            text += f" ({len(self.refused)} of them refused a start, since this machine can't keep their policy)"
        if self.escapes:
            names = [f"{row.family}:{row.attack}" for row in self.escapes]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            return f"{text}; {', '.join(names[:_NAMED])}{more} got through."
        return f"{text}: accepted verdicts, an unharmed stage, and nothing left behind."

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row an attack: the fields of `Row`."""
        import pandas as pd

        rows = [asdict(row) for row in self.rows]
        return without_formulas(pd.DataFrame(rows, columns=list(Row.__dataclass_fields__)))

    def __str__(self) -> str:
        return "\n".join([*self._lines(), "", self._delay(), printable(self.summary(), 4_000)])

    def _delay(self) -> str:
        return f"The longest hold-up of this process's loop: {self.longest_gap_ms:.0f} ms"

    def _lines(self) -> Iterator[str]:
        for family, rows in self.families.items():
            count = sum(row.contained for row in rows)
            yield f"{'✓' if count == len(rows) else '✗'} {family:<11} {count:>3} of {len(rows)}"
            yield from (f"  {row}" for row in rows if not row.contained)

    def __repr__(self) -> str:
        return f"<Matrix: {len(self.rows)} attacks, {len(self.rows) - len(self.escapes)} contained>"

    def _repr_html_(self) -> str:
        word = "survived" if self.survived else "not survived"
        parts = [line(pill(CONTAINED if self.survived else ESCAPED, word)), line(esc(self.summary(), 4_000))]
        if self.escapes:
            parts.append(_table(self.escapes))
        for family, rows in self.families.items():
            count = sum(row.contained for row in rows)
            parts.append(details(f"{family}: {count} of {len(rows)} contained", _table(rows)))
        parts.append(line(self._delay(), QUIET))
        return card((CONTAINED if self.survived else ESCAPED).color, *parts)


def _table(rows: Sequence[Row]) -> str:
    headers = ("", "attack", "on", "verdict", "evidence", "took")
    return table(
        headers,
        (
            (
                esc(CONTAINED.icon if row.contained else ESCAPED.icon),
                code(row.attack),
                esc(row.target),
                code(row.verdict if row.contained else f"{row.verdict} (expected {row.expected})"),
                esc(row.evidence, 600),
                figure(f"{row.wall_s:.2f} s"),
            )
            for row in rows
        ),
    )
