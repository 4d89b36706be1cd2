"""What the commands of the command line share (host): consoles, and errors of ours as one red line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from agentplug.contract.text import printable
from agentplug.errors import AgentplugError

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def told() -> Iterator[None]:
    """An error of ours as one red line, without a traceback, and status 2."""
    try:
        yield
    except AgentplugError as error:
        say(str(error))
        raise typer.Exit(2) from None


def say(text: str) -> None:
    """One red line on standard error."""
    from rich.text import Text

    console(stderr=True).print(Text(printable(text, 4_000), style="red"), soft_wrap=True)


def console(*, stderr: bool = False) -> Console:
    """A console that leaves texts as they are."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)
