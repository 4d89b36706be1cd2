"""What the commands of the command line share (host): consoles, and errors of ours in red."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from agentplug.contract.text import printable
from agentplug.errors import AgentplugError, PinMismatch

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def told() -> Iterator[None]:
    """An error of ours as one red line, or as many as a diff has, without a traceback, and status 2."""
    try:
        yield
    except AgentplugError as error:
        say(str(error), lines=isinstance(error, PinMismatch))
        raise typer.Exit(2) from None


def say(text: str, *, lines: bool = False) -> None:
    """One red line on standard error; with `lines`, those of the text."""
    from rich.text import Text

    console(stderr=True).print(Text(printable(text, 4_000, lines=lines), style="red"), soft_wrap=True)


def console(*, stderr: bool = False) -> Console:
    """A console that leaves texts as they are."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)
