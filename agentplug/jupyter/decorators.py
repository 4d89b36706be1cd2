"""IPython's decorators for magics, with the types that IPython leaves out (host)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from IPython.core import magic
from IPython.core import magic_arguments as arguments
from IPython.core.completer import context_matcher

from agentplug.jupyter.failures import HelpAsked, short_errors
from agentplug.jupyter.line import continued

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type[Any])


def magics_class(cls: C) -> C:
    """Apply `IPython.core.magic.magics_class`."""
    return magic.magics_class(cls)


def line_magic(name: str) -> Callable[[F], F]:
    """Make a line magic of that name. It gets the line as it was typed; `line` puts variables in."""
    return cast("Callable[[F], F]", _exactly(magic.line_magic, name))


def cell_magic(name: str) -> Callable[[F], F]:
    """Make a cell magic of that name. It gets the line as it was typed, with those that a backslash added to it."""
    return cast("Callable[[F], F]", _exactly(magic.cell_magic, name))


def magic_arguments() -> Callable[[F], F]:
    """Apply `IPython.core.magic_arguments.magic_arguments`, the outermost of a magic's decorators."""
    return cast("Callable[[F], F]", cast(Any, arguments.magic_arguments)())


def argument(*names: str, **options: Any) -> Callable[[F], F]:
    """Add an argument to a magic; takes what `ArgumentParser.add_argument` takes."""
    return cast("Callable[[F], F]", cast(Any, arguments.argument)(*names, **options))


def matcher(function: F) -> F:
    """Mark a completer that gets the whole text and the cursor's place."""
    return cast("Callable[[F], F]", cast(Any, context_matcher)(identifier=f"agentplug.{function.__name__}"))(function)


def _exactly(decorator: Any, name: str) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def called(self: Any, *texts: str) -> Any:
            with short_errors():
                try:
                    return function(self, *(continued(*texts) if len(texts) == 2 else texts))
                except HelpAsked as help:
                    print(help)

        return magic.no_var_expand(decorator(name)(called))

    return decorate
