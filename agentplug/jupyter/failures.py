"""Verdicts as exceptions in a notebook (host): real ones, so that tools notice them, shown in a few lines.

IPython asks an exception for `_render_traceback_`. The stack frames between a magic and a worker say nothing about
the plugin, so the plugin's own traceback is shown instead, as harmless text.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator

from agentplug.contract.limits import FIELDS
from agentplug.contract.record import Verdict
from agentplug.contract.text import printable
from agentplug.core.run import Run
from agentplug.errors import AgentplugError
from agentplug.report.refused_calls import refused_lines

TRACEBACK_LINES = 30


class UnexpectedVerdict(AgentplugError, AssertionError):
    """A cell's verdict isn't the one of its `--expect`; `run` is the cell's run."""


@contextlib.contextmanager
def short_errors() -> Iterator[None]:
    """Let IPython show errors of ours as their message and the end of the plugin's traceback."""
    try:
        yield
    except AgentplugError as error:
        error._render_traceback_ = functools.partial(rendered, error)  # type: ignore[attr-defined]
        raise error from None


def rendered(error: AgentplugError) -> list[str]:
    """Return the lines that show `error`."""
    lines = [f"{type(error).__name__}: {_as_options(printable(str(error), 4_000, lines=True))}"]
    if error.run is not None:
        lines += refused_lines(error.run.events)
    traceback = error.run.error.traceback.rstrip() if error.run is not None and error.run.error is not None else ""
    if traceback:
        tail = [printable(line, 500) for line in traceback.splitlines()]
        if len(tail) > TRACEBACK_LINES:
            tail = ["  …", *tail[-TRACEBACK_LINES:]]
        lines += ["", *tail]
    return lines


def unexpected(run: Run, expected: Verdict) -> UnexpectedVerdict:
    """Make the error for `run`, which didn't end as expected."""
    error = UnexpectedVerdict(f"expected the verdict {expected}, got {run.verdict}: {run.explain()}")
    error.run = run
    return error


def fits(verdict: Verdict, expected: Verdict) -> bool:
    """True if `verdict` is the expected one; an expectation without `by` fits any."""
    return verdict.kind == expected.kind and expected.by in (None, verdict.by)


def _as_options(text: str) -> str:
    """Rewrite remedies for users of magics: `--memory` for `Policy(memory=…)`."""
    return re.sub(r"Policy\(((?:\w+=(?:…|True)(?:, )?)+)\)", lambda match: _options(match[0], match[1]), text)


def _options(whole: str, fields: str) -> str:
    names = re.findall(r"(\w+)=", fields)
    return ", ".join(f"--{FIELDS[name].option}" for name in names) if FIELDS.keys() >= set(names) else whole
