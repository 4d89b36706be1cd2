"""`doctor()`: the barriers of this machine, as a throwaway worker raised them (host)."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentplug.contract.policy import Policy
from agentplug.errors import AgentplugError
from agentplug.sandbox.conversation import wait_for
from agentplug.sandboxed import SandboxedPlugin

if TYPE_CHECKING:
    import pandas as pd


class _Patient:
    """A plugin that does nothing, so that a worker is started for it."""

    name = "doctor"
    version = "1"

    async def initialize(self, config: dict[str, Any]) -> None:
        """Nothing to do."""

    async def process(self, input_data: Any) -> Any:
        """Nothing to do."""


@dataclass(frozen=True)
class Diagnosis:
    """Which barriers this machine has. `rows` are dicts of barrier, protects, status, detail, lost, remedy."""

    machine: str
    rows: tuple[dict[str, Any], ...]
    problem: str = ""

    @property
    def fit(self) -> bool:
        """Every promise of a default policy can be kept here."""
        return not self.problem and not any(row["lost"] for row in self.rows)

    def to_frame(self) -> pd.DataFrame:
        """One row a barrier: barrier, protects, status, detail."""
        from agentplug.report.frames import barriers_frame

        return barriers_frame(self.rows)

    def __repr__(self) -> str:
        lines = [f"{row['barrier']:<12} {row['status']:<12} {row['detail']}" for row in self.rows]
        return "\n".join([self.summary(), *lines])

    def summary(self) -> str:
        """The answer in one line."""
        if self.problem:
            return f"Workers can't be confined here: {self.problem}"
        if self.fit:
            return "This machine can confine plugins: every promise of a policy can be kept."
        lost = sorted({promise for row in self.rows for promise in row["lost"]})
        return f"This machine can't protect {', '.join(lost)}: plugins start only with Policy(best_effort=True)."

    def _repr_html_(self) -> str:
        from agentplug.report.cards import barriers_table
        from agentplug.report.html import esc

        return f"<p>{esc(self.summary())}</p>{barriers_table(self.rows) if self.rows else ''}"


def doctor() -> Diagnosis:
    """Start a throwaway worker and report what each barrier did in it. Never raises for what is missing."""
    machine = f"{platform.system()} {platform.release()} {platform.machine()}, Python {sys.version.split()[0]}"
    try:
        return wait_for(_examine(machine))
    except AgentplugError as error:
        return Diagnosis(machine, (), str(error))


async def _examine(machine: str) -> Diagnosis:
    plugin = SandboxedPlugin(_Patient, Policy(best_effort=True))
    try:
        await plugin.start()
        return Diagnosis(machine, tuple(plugin.barrier_rows()))
    finally:
        await plugin.close()
