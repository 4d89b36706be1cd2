"""Verdicts as exceptions in a notebook (host): real ones, so that tools notice them, shown in a few lines.

The errors render themselves (`report.tracebacks`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container, Iterator, Mapping
from types import ModuleType
from typing import Any

from agentplug.contract.events import Event
from agentplug.contract.record import Verdict
from agentplug.core.run import Run
from agentplug.errors import AgentplugError
from agentplug.report.tracebacks import traceback_note

_MISSING = re.compile(r"name '(\w{1,100})' is not defined.*", re.S)


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


def judge(run: Run, expected: Verdict | None) -> Any:
    """Return the value of a run that completed as expected, the run if it ended otherwise as expected; else raise.

    An expectation without `by` fits any.
    """
    verdict = run.verdict
    if expected is not None and (verdict.kind != expected.kind or expected.by not in (None, verdict.by)):
        error = UnexpectedVerdict(f"expected the verdict {expected}, got {verdict}: {run.explain()}")
        error.run = run
        if note := traceback_note(run):
            error.add_note(note)
        raise error
    return run.check() if expected is None or expected.kind == "completed" else run


def with_unsent(run: Run, names: Mapping[str, object], hidden: Container[str]) -> Run:
    """Return `run` with an event that names the variable of the notebook which its code lacked, if that is so."""
    missing = (
        _MISSING.fullmatch(run.error.message) if run.error is not None and run.error.type == "NameError" else None
    )
    if missing is None or missing[1].startswith("_") or missing[1] not in names or missing[1] in hidden:
        return run
    detail, value = {"name": missing[1]}, names[missing[1]]
    if isinstance(value, ModuleType):
        detail["module"] = value.__name__
    return run.__replace__(events=(*run.events, Event(0.0, "unsent", detail)))
