"""The doctor's diagnosis, as a DataFrame, as text and in a notebook (host)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentplug.contract.text import printable
from agentplug.doctor.battery.matrix import Matrix

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "barrier": "barrier",
    "protects": "protects against",
    "status": "status",
    "evidence": "evidence",
    "remedy": "remedy",
}
"""The columns of the table: the key of a row, and the column's title."""

OWN_ZYGOTE = ("agentplug.doctor.probe",)
"""The `preload` of a zygote for the doctor alone, which may be killed."""


@dataclass(frozen=True)
class Diagnosis:
    """The barriers of this machine. `rows` are dicts of barrier, protects, status, evidence, remedy, lost.

    `status` is enforced, partial or unavailable, by the evidence; `lost` names the promises of a policy that can't be
    kept. `attack`: True if the battery was asked for; `matrix` is its result, None if it couldn't run.
    """

    machine: str
    rows: tuple[dict[str, Any], ...]
    problem: str = ""
    attack: bool = False
    matrix: Matrix | None = None

    @property
    def fit(self) -> bool:
        """True if every promise of a default policy can be kept here, and no attack got through."""
        survived = not self.attack or (self.matrix is not None and self.matrix.survived)
        return not self.problem and not any(row["lost"] for row in self.rows) and survived

    def to_frame(self) -> pd.DataFrame:
        """Return a table, one row a barrier: barrier, protects against, status, evidence, remedy."""
        from agentplug.report.text_table import TextTable

        cells = {name: [str(row[key]) for row in self.rows] for key, name in COLUMNS.items()}
        return TextTable(cells, columns=list(COLUMNS.values()), dtype="str")

    def __repr__(self) -> str:
        lines = [self.summary()]
        for row in self.rows:
            lines.append(f"{row['barrier']:<12} {row['status']:<12} {printable(str(row['evidence']), 1_000)}")
            if row["remedy"]:
                lines.append(f"{'':<12} {'remedy':<12} {printable(str(row['remedy']), 1_000)}")
        if self.attack:
            lines += ["", str(self.matrix) if self.matrix is not None else NOT_ATTACKED]
        return "\n".join(lines)

    def summary(self) -> str:
        """Return the diagnosis in one line."""
        if self.problem:
            return f"Workers can't be confined here: {self.problem}"
        lost = sorted({promise for row in self.rows for promise in row["lost"]})
        if lost:
            return f"This machine can't protect {', '.join(lost)}: plugins start only with Policy(best_effort=True)."
        if self.fit:
            return "This machine can confine plugins: every promise of a policy can be kept."
        return "Attacks got through." if self.matrix is not None else NOT_ATTACKED

    def _repr_html_(self) -> str:
        from agentplug.report.barriers import COLUMNS, barriers_table
        from agentplug.report.html import esc

        parts = [f"<p>{esc(self.summary())}</p>", barriers_table(self.rows, COLUMNS, 1_000) if self.rows else ""]
        if self.attack:
            parts.append(self.matrix._repr_html_() if self.matrix is not None else f"<p>{esc(NOT_ATTACKED)}</p>")
        return "".join(parts)


NOT_ATTACKED = "No attack was run: no plugin is started here by default."
