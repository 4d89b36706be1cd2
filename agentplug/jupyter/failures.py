"""How a verdict is raised in a notebook (host): a real exception, so that tools notice it, shown in a few lines.

IPython asks an exception for `_render_traceback_`. The frames between a magic and a worker say nothing about what the
plugin did; the plugin's own traceback does, and that is text, made harmless.
"""

from __future__ import annotations

import re
from typing import TypeVar

from agentplug.contract.limits import FIELDS
from agentplug.contract.record import Verdict
from agentplug.contract.text import printable
from agentplug.core.run import Run
from agentplug.errors import AgentplugError
from agentplug.report.refused_calls import refused_lines

TRACEBACK_LINES = 30

E = TypeVar("E", bound=AgentplugError)


class UnexpectedVerdict(AgentplugError, AssertionError):
    """A cell ended otherwise than its `--expect` says; `run` is how."""


def shortened(error: E) -> E:
    """`error`, which IPython will show as its sentence and the end of the plugin's traceback."""
    error._render_traceback_ = lambda: rendered(error)  # type: ignore[attr-defined]
    return error


def rendered(error: AgentplugError) -> list[str]:
    """The lines to show for `error`."""
    lines = [f"{type(error).__name__}: {_as_options(printable(str(error), 4_000, lines=True))}"]
    if error.run is not None:
        lines += refused_lines(error.run.events)
    told = error.run.error.traceback.rstrip() if error.run is not None and error.run.error is not None else ""
    if told:
        tail = [printable(line, 500) for line in told.splitlines()]
        if len(tail) > TRACEBACK_LINES:
            tail = ["  …", *tail[-TRACEBACK_LINES:]]
        lines += ["", *tail]
    return lines


def unexpected(run: Run, expected: Verdict) -> UnexpectedVerdict:
    """The error for `run`, which didn't end as expected."""
    error = UnexpectedVerdict(f"expected the verdict {expected}, got {run.verdict}: {run.explain()}")
    error.run = run
    return error


def fits(verdict: Verdict, expected: Verdict) -> bool:
    """Whether it is the expected one; an expectation without `by` takes any."""
    return verdict.kind == expected.kind and expected.by in (None, verdict.by)


def _as_options(text: str) -> str:
    """Remedies as a magic's user writes them: `--memory` for `Policy(memory=…)`."""
    return re.sub(r"Policy\(((?:\w+=(?:…|True)(?:, )?)+)\)", lambda found: _options(found[0], found[1]), text)


def _options(whole: str, fields: str) -> str:
    names = re.findall(r"(\w+)=", fields)
    return ", ".join(f"--{FIELDS[name].option}" for name in names) if FIELDS.keys() >= set(names) else whole
