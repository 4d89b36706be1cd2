"""Completion for our magics (host): options and their values, variables, plugins, what can be loaded, verdicts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion

from agentplug.contract.limits import FIELDS
from agentplug.contract.record import KINDS
from agentplug.core.sources.entrypoints import announced
from agentplug.core.sources.names import modules_in
from agentplug.jupyter import decorators
from agentplug.jupyter.options import EXPECTED_BY, known_options
from agentplug.jupyter.session import Session

_LINE = re.compile(r"(?:^|[=(;])\s*%(load_plugin|unload_plugin|reload_plugin)\s(.*)$")
_CELL = re.compile(r"^%%(load_plugin|sandbox)\s(.*)$")
_WORDS = {f"--{row.option}": row.words for row in FIELDS.values() if row.words and not row.is_switch}
_SEVERAL = ("-i", "-o")


def matcher(session: Session, magics: Any) -> Callable[[CompletionContext], dict[str, Any]]:
    """Make a matcher for `ip.Completer.custom_matchers`."""
    lines = ("load_plugin", "unload_plugin", "reload_plugin")
    of_line = {name: known_options(getattr(magics, name)) for name in lines}
    of_cell = {"load_plugin": known_options(magics.load_plugin_cell), "sandbox": known_options(magics.sandbox)}

    @decorators.matcher
    def offered(context: CompletionContext) -> dict[str, Any]:
        words = _words(context, of_line, of_cell, session)
        matches = [SimpleCompletion(text=word, type="magic") for word in words if word.startswith(context.token)]
        return {"completions": matches, "suppress": bool(matches)}

    return offered


def _words(
    context: CompletionContext, of_line: dict[str, list[str]], of_cell: dict[str, list[str]], session: Session
) -> Iterable[str]:
    """List the words that may stand at the cursor; nothing unless they are ours to know."""
    text = context.text_until_cursor
    above = "".join(context.full_text.split("\n")[: context.cursor_line]).strip()
    if not above and (cell := _CELL.match(text)):
        known, rest = of_cell[cell[1]], cell[2]
        at_start: Iterable[str] = ()
    elif line := _LINE.search(text):
        known, rest = of_line[line[1]], line[2]
        at_start = _names_for(line[1], session, context.token)
    else:
        return ()
    *before, word = rest.split(" ")
    if word.startswith("-"):
        return known
    earlier = [other for other in before if other]
    previous = earlier[-1] if earlier else ""
    option = next((other for other in reversed(earlier) if other.startswith("-")), "")
    if option in _SEVERAL:
        previous = option
    if previous in _WORDS:
        return _WORDS[previous]
    match previous:
        case "":
            return at_start
        case "--expect":
            kind, colon, _ = word.partition(":")
            return EXPECTED_BY.get(kind, ()) if colon else KINDS
        case "-i" | "-o":
            return session.variables
        case "--plugin":
            return tuple(session.manager.plugins)
        case "--keep":
            return tuple(session.sandboxes)
        case "--preload":
            return _modules(context.token)
    return at_start if not option else ()


def _names_for(magic: str, session: Session, token: str) -> Iterable[str]:
    """List what a line magic's first word may be."""
    if magic == "load_plugin":
        return (*(name for name, _, _ in announced()), *_modules(token))
    return (*session.manager.plugins, *(session.sandboxes if magic == "unload_plugin" else ()))


def _modules(token: str) -> Iterable[str]:
    """List the modules that `token` may begin, by file names alone: nothing is imported. Without a token, those of
    the current directory."""
    package, dot, _ = token.rpartition(".")
    folders = [path or "." for path in sys.path] if token else ["."]
    if dot:
        folders = [os.path.join(path, *package.split(".")) for path in folders]
    names = modules_in(folder for folder in folders if os.path.isdir(folder))
    return [f"{package}{dot}{name}" for name in sorted(names) if dot or name not in sys.stdlib_module_names]
