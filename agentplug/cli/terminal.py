"""The terminal of the command line (host): consoles, and our errors in red."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from agentplug.contract.text import printable
from agentplug.errors import AgentplugError, PinMismatch
from agentplug.report.tracebacks import MOST_TRACEBACK

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def exit_with_message() -> Iterator[None]:
    """Print an error of ours in red, after the plugin's own traceback if it has one, and exit with status 2."""
    try:
        yield
    except AgentplugError as error:
        for note in getattr(error, "__notes__", ()):
            show_traceback(note)
        say(str(error), lines=isinstance(error, PinMismatch))
        raise typer.Exit(2) from None


def show_traceback(text: str) -> None:
    """Print a plugin's traceback on standard error."""
    from rich.text import Text

    console(stderr=True).print(Text(printable(text, MOST_TRACEBACK, lines=True), style="dim"), soft_wrap=True)


def say(text: str, *, lines: bool = False) -> None:
    """Print `text` as one red line on standard error; with `lines`, as several."""
    from rich.text import Text

    console(stderr=True).print(Text(printable(text, 4_000, lines=lines), style="red"), soft_wrap=True)


def console(*, stderr: bool = False) -> Console:
    """Make a console that doesn't colour numbers and paths."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)
