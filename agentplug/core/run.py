"""`Run`: one call of a plugin, as its user sees it (host).

A run is a value. Its verdict follows from its events; `report` makes tables and pictures of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentplug.contract.policy import Policy
from agentplug.contract.record import RunRecord, Verdict
from agentplug.contract.text import printable
from agentplug.errors import AgentplugError, LimitExceeded, PluginError, ProtocolViolation, WorkerDied

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from agentplug.core.profile import Profile


class Run(RunRecord):
    """One call of a plugin: its value, its verdict, its cost, and everything that the host saw. Immutable.

    Its fields are those of `RunRecord`.
    """

    profile: Profile | None

    def check(self) -> Any:
        """Return the value of a completed run.

        Raises `PluginError`, `LimitExceeded`, `WorkerDied` or `ProtocolViolation`, by its verdict.
        """
        verdict = self.verdict
        if verdict.kind == "completed":
            return self.value
        kind = {"limited": LimitExceeded, "broken": ProtocolViolation}
        error: AgentplugError
        if verdict.kind == "failed":
            error = PluginError.named(verdict.by or "", self.explain())
        else:
            error = kind.get(verdict.kind, WorkerDied)(self.explain())
        error.run = self
        if self.error is not None and self.error.traceback:
            from agentplug.report.tracebacks import traceback_note

            error.add_note(traceback_note(self))
        raise error

    def explain(self) -> str:
        """Return a sentence with the fact, the limit and the remedy; safe to print."""
        from agentplug.report.sentences import explain

        return explain(self)

    @property
    def samples(self) -> pd.DataFrame:
        """Readings while the call ran: TimedeltaIndex `t`, `rss_bytes`, `cpu_s`, `cpu_percent`, `threads`."""
        from agentplug.report.accessor import attached
        from agentplug.report.frames import samples_frame

        return attached(samples_frame(self))

    def to_frame(self) -> pd.DataFrame:
        """Return this run as a calls table of one row."""
        from agentplug.report.accessor import attached
        from agentplug.report.frames import calls_frame

        return attached(calls_frame([self]))

    def plot(self, axes: Any = None) -> NDArray[Any]:
        """Draw memory above and CPU below, over time, with limits and events; on two `axes` or on new ones.

        Returns both. `run.samples.agentplug.plot(cost="cpu")` draws one of them.
        """
        from agentplug.report.plots import plot_run  # imports matplotlib

        return plot_run(self, axes)

    def __repr__(self) -> str:
        name = printable(self.source.name, 60)
        return f"<Run of {name}: {self.verdict}>"

    def __str__(self) -> str:
        """Return the repr, and a line for each refused call."""
        from agentplug.report.refused_calls import refused_lines

        return "\n".join([repr(self), *refused_lines(self.events)])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print `str()` of a run that stands alone, its repr within a list: IPython's text/plain."""
        printer.text(repr(self) if printer.stack[:-1] else str(self))

    def _repr_html_(self) -> str:
        from agentplug.report.cards import run_card

        return run_card(self)


def _learn(runs: Any) -> Any:
    from agentplug.report.learning.lesson import learn

    return learn(runs)


def _policy_html(policy: Policy) -> str:
    from agentplug.report.cards import policy_table

    return policy_table(policy)


def _verdict_html(verdict: Verdict) -> str:
    from agentplug.report.cards import verdict_line

    return verdict_line(verdict)


Policy.learner = staticmethod(_learn)
Policy.to_html = staticmethod(_policy_html)
Verdict.to_html = staticmethod(_verdict_html)


def _rendered(error: AgentplugError) -> list[str]:
    from agentplug.report.tracebacks import rendered

    return rendered(error)


AgentplugError._render_traceback_ = _rendered
