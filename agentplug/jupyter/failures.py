"""Verdicts as exceptions in a notebook (host): real ones, so that tools notice them, shown in a few lines.

The errors render themselves (`report.tracebacks`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from agentplug.contract.record import Verdict
from agentplug.core.run import Run
from agentplug.errors import AgentplugError


class LineError(AgentplugError, ValueError):
    """Something in a magic's line is misspelt, unknown or missing.

    IPython's UsageError is no error output, so that runners of notebooks pass such a cell.
    """


class HelpAsked(Exception):
    """A magic's line asks for its help, which is the text."""


class UnexpectedVerdict(AgentplugError, AssertionError):
    """A cell's verdict isn't the one of its `--expect`; `run` is the cell's run."""


@contextlib.contextmanager
def short_errors() -> Iterator[None]:
    """Drop the errors of our own that led to an error of ours."""
    try:
        yield
    except AgentplugError as error:
        raise error from None


def unexpected(run: Run, expected: Verdict) -> UnexpectedVerdict:
    """Make the error for `run`, which didn't end as expected."""
    error = UnexpectedVerdict(f"expected the verdict {expected}, got {run.verdict}: {run.explain()}")
    error.run = run
    return error


def fits(verdict: Verdict, expected: Verdict) -> bool:
    """True if `verdict` is the expected one; an expectation without `by` fits any."""
    return verdict.kind == expected.kind and expected.by in (None, verdict.by)
