"""Completion for our magics (host): options and their values, names of loaded plugins, kinds of verdict."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion

from agentplug.contract.limits import FIELDS
from agentplug.contract.record import KINDS
from agentplug.jupyter import decorators
from agentplug.jupyter.options import EXPECTED_BY, known_options
from agentplug.jupyter.session import Session

_LINE = re.compile(r"(?:^|[=(;])\s*%(load_plugin|unload_plugin|reload_plugin)\s(.*)$")
_CELL = re.compile(r"^%%(load_plugin|sandbox)\s(.*)$")
_TAKE_NAMES = ("unload_plugin", "reload_plugin")
_WORDS = {f"--{row.option}": row.words for row in FIELDS.values() if row.words and not row.is_switch}


def matcher(session: Session, magics: Any) -> Callable[[CompletionContext], dict[str, Any]]:
    """Make a matcher for `ip.Completer.custom_matchers`."""
    of_line = {name: known_options(getattr(magics, name)) for name in ("load_plugin", *_TAKE_NAMES)}
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
        magic, known, rest = cell[1], of_cell[cell[1]], cell[2]
    elif line := _LINE.search(text):
        magic, known, rest = line[1], of_line[line[1]], line[2]
    else:
        return ()
    *before, word = rest.split(" ")
    previous = next((earlier for earlier in reversed(before) if earlier), "")
    if word.startswith("-"):
        return known
    if previous in _WORDS:
        return _WORDS[previous]
    if previous == "--expect":
        kind, colon, _ = word.partition(":")
        return EXPECTED_BY.get(kind, ()) if colon else KINDS
    if previous == "--plugin" or magic in _TAKE_NAMES:
        return tuple(session.manager.plugins)
    return ()
