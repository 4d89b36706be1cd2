"""Errors with the plugin's own traceback, for Python and for notebooks (host).

A plugin's traceback comes from its worker: it is escaped and called what it is. Python and pytest show it as a note.
IPython asks an error for `_render_traceback_`, which shows the user's own stack frames and none of ours.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from agentplug.contract.record import RunRecord, plugin_name
from agentplug.contract.text import printable
from agentplug.errors import AgentplugError
from agentplug.report.hints import hint
from agentplug.report.refused_calls import refused_lines

MOST_TRACEBACK = 80_000
_PACKAGE = str(Path(__file__).parents[1])
_MAGICS = frozenset(("run_line_magic", "run_cell_magic"))


def traceback_note(run: RunRecord) -> str:
    """Return the plugin's traceback as a note of an error, or nothing."""
    text = _plugin_traceback(run)
    return f"In plugin {plugin_name(run)}, as its worker says:\n{text}" if text else ""


def rendered(error: AgentplugError) -> list[str]:
    """Return the lines that a notebook shows of `error`."""
    frames = list(_frames(error.__traceback__))
    run: RunRecord | None = error.run
    tried = refused_lines(run.events) if run is not None else []
    if not any(frame.tb_frame.f_code.co_name in _MAGICS for frame in frames):
        return [*_with_own_frames(error, frames), *tried]
    if run is not None and run.verdict.kind == "failed" and (text := _plugin_traceback(run)):
        return [*text.split("\n"), *hint_lines(run), *tried]
    lines = [f"{type(error).__name__}: {printable(str(error), 4_000, lines=True)}", *tried]
    for note in getattr(error, "__notes__", ()):
        lines += ["", *str(note).split("\n")]
    return lines


def hint_lines(run: RunRecord) -> list[str]:
    """Return the hint for a run as a sentence, if there is one."""
    text = hint(run)
    return [f"{text[0].upper()}{text[1:]}."] if text else []


def _plugin_traceback(run: RunRecord) -> str:
    if run.error is None:
        return ""
    return printable(run.error.traceback.strip("\n"), MOST_TRACEBACK, lines=True)


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _with_own_frames(error: AgentplugError, frames: list[TracebackType]) -> list[str]:
    """Return what IPython shows of `error`, without our stack frames and those of libraries that we called."""
    others, ours = [], False
    for frame in frames:
        file = frame.tb_frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            ours = True
        elif not ours or not _is_installed(file):
            others.append(frame)
    trace = None
    for frame in reversed(others):
        trace = TracebackType(trace, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None:
        return traceback.format_exception(type(error), error, trace)
    lines: list[str] = shell.InteractiveTB.structured_traceback(type(error), error, trace)
    return lines


def _is_installed(file: str) -> bool:
    return file.startswith((str(Path(traceback.__file__).parent), "<frozen ")) or "site-packages" in file
