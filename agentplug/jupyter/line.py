"""The text behind a magic, as its words (host): comments, continued lines, quotes, variables.

Words are split as in a shell. `$name` and `{expression}` stand for values of the notebook, as in magics of IPython's
own, but one that isn't there is an error. The expression behind `--config` is taken as it stands.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping
from typing import Any

from agentplug.contract.text import printable
from agentplug.core.sources.names import near_match, quoted
from agentplug.jupyter.failures import LineError

_QUOTED_OR_COMMENT = re.compile(
    r""" \\. | "(?:\\.|[^"\\])*" | '[^']*' | (?:^|(?<=\s))(\#.*) """, re.DOTALL | re.VERBOSE
)
_EXPANDED = re.compile(
    r"(?P<dollar>\$\$)|\$(?P<name>[^\W\d]\w*)|\{\{(?P<braces>[^{}]*)\}\}|\{(?P<expression>[^\W\d][^{}]*)\}"
)
_MARK = re.compile("\ue000([0-9]{1,4})\ue001")


def continued(line: str, cell: str) -> tuple[str, str]:
    """Take the lines of `cell` by which a backslash continues `line`. They stay behind empty, so that lines count."""
    text, empty = line.rstrip(), ""
    while text.endswith("\\") and cell:
        more, newline, cell = cell.partition("\n")
        text = f"{text[:-1]} {more.rstrip()}"
        empty += newline
    return text, empty + cell


def words_of(line: str, names: Mapping[str, Any]) -> list[str]:
    """Split `line`, without its comment, and put in values of `names`: they may hold spaces. Raises `LineError`."""
    values: list[str] = []

    def mark(match: re.Match[str]) -> str:
        values.append(_value(match, names))
        return f"\ue000{len(values) - 1}\ue001"

    line = _EXPANDED.sub(mark, line)
    try:
        words = shlex.split(line)
    except ValueError as error:
        reason = str(error).lower().replace("no closing quotation", "a quotation mark isn't closed")
        raise LineError(f"{quoted(line)}: {reason}") from None
    return [_MARK.sub(lambda match: "".join(values[int(match[1]) :][:1]), word) for word in words]


def without_comment(line: str) -> str:
    """Return `line` up to a `#` that begins a word, outside of quotes."""
    for match in _QUOTED_OR_COMMENT.finditer(line):
        if match[1] is not None:
            return line[: match.start()]
    return line


def _value(match: re.Match[str], names: Mapping[str, Any]) -> str:
    if match["dollar"]:
        return "$"
    if match["braces"] is not None:
        return f"{{{match['braces']}}}"
    if name := match["name"]:
        if name not in names:
            near = near_match(name, names, "$") or f"; write $${name} for the text itself"
            raise LineError(f"${printable(name, 100)}: there is no variable {quoted(name)}{near}")
        return str(names[name])
    return _evaluated(match[0], match["expression"], names)


def _evaluated(whole: str, expression: str, names: Mapping[str, Any]) -> str:
    try:
        code = compile(expression, "<magic line>", "eval")
    except (SyntaxError, ValueError):
        return whole  # braces of another kind
    try:
        return str(eval(code, dict(names)))
    except Exception as error:
        reason = f"{type(error).__name__}: {printable(str(error), 300)}"
        remedy = "write {{…}} for the braces themselves"
        raise LineError(f"{printable(whole, 100)}: {reason}; {remedy}") from None


def take_expression(line: str, option: str) -> tuple[str, str | None]:
    """Split `line` into a line without `option` and the Python expression behind that. Raises `LineError`.

    The expression ends at the first space where it can.
    """
    match = re.search(rf"(?:^|\s){option}(?:=|\s+|$)", line)
    if match is None:
        return line, None
    rest = line[match.end() :]
    for end in [*(space.start() for space in re.finditer(r"\s", rest)), len(rest)]:
        text = rest[:end]
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
            text = tree.value  # an expression in quotes, as for a shell
        return f"{line[: match.start()]} {rest[end:]}", text
    raise LineError(f"{option}: {quoted(rest)} is no Python expression; write a dict, like {option} {{'key': 1}}")
