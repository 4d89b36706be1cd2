"""The command lines of the magics (host): their options, split, parsed and made into a `Policy`.

A typo is a `UsageError`, which IPython shows without a traceback; the message names the nearest right option. Lines
are split as in a shell, except that the expression behind `--config` may hold spaces and quotes of its own.
"""

from __future__ import annotations

import argparse
import ast
import keyword
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from IPython.core.error import UsageError

from agentplug.contract.limits import FIELDS, LIMITS
from agentplug.contract.options import policy_from_options
from agentplug.contract.policy import Policy
from agentplug.contract.record import KINDS, Verdict
from agentplug.contract.text import printable
from agentplug.core.sources.names import identifier_of, near_match, quoted
from agentplug.errors import PolicyError
from agentplug.jupyter.decorators import argument

F = TypeVar("F", bound=Callable[..., Any])

EXPECTED_BY: dict[str, tuple[str, ...]] = {
    "completed": (),
    "failed": (),
    "limited": tuple(LIMITS),
    "died": (),
    "broken": ("protocol", "unserializable"),
    "stopped": ("interrupt", "kill", "close"),
}
"""The words that may follow each kind of verdict; empty if any word may, or none."""


def limits(function: F) -> F:
    """Add the options for a policy to a magic."""
    for row in reversed(tuple(FIELDS.values())):
        settings: dict[str, Any] = {"help": row.help}
        if row.is_switch:
            settings["action"] = "store_true"
        else:
            settings["metavar"] = row.kind.metavar
            if row.kind.many:
                settings["action"] = "append"
        function = argument(f"--{row.option}", **settings)(function)
    return function


def parse(magic: Any, line: str) -> argparse.Namespace:
    """Parse `line` by the decorators of `magic`. Raises `UsageError`."""
    expression = None
    known = known_options(magic)
    if "--config" in known:
        line, expression = _take_expression(line, "--config")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{quoted(line)}: {error}") from None
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name not in known:
            hint = near_match(name, known) or f"; the options are {', '.join(known)}"
            raise UsageError(f"there is no option {quoted(name)}{hint}")
    arguments: argparse.Namespace = magic.parser.parse_args(words)
    if "--config" in known:
        arguments.config = expression
    return arguments


def known_options(magic: Any) -> list[str]:
    """List the long and short options of a magic."""
    return [option for action in magic.parser._actions for option in action.option_strings]


def policy_from(options: argparse.Namespace, base: Policy | None = None) -> Policy | None:
    """Make the policy of the options, over `base`; None if no option asks for one. Raises `UsageError`."""
    values = {row.key: getattr(options, row.key) for row in FIELDS.values()}
    if not any(value not in (None, False) for value in values.values()):
        return None
    try:
        return policy_from_options(values, base)
    except PolicyError as error:
        raise UsageError(str(error)) from None


def variable_name(name: str, option: str) -> str:
    """Return `name` if a variable can have it. Raises `UsageError`."""
    if name.isidentifier() and not keyword.iskeyword(name):
        return name
    near = identifier_of(name)
    hint = f", {near} would do" if near.isidentifier() and not keyword.iskeyword(near) else ""
    raise UsageError(f"{option}: {quoted(name)} can't be a variable's name{hint}")


def expected_verdict(text: str | None) -> Verdict | None:
    """Parse the verdict behind `--expect`. Raises `UsageError` for one that can't be."""
    if text is None:
        return None
    kind, colon, by = text.partition(":")
    if kind not in KINDS:
        hint = near_match(kind, KINDS) or f"; the kinds are {', '.join(KINDS)}"
        raise UsageError(f"--expect: there is no verdict {quoted(kind)}{hint}")
    choice = EXPECTED_BY[kind]
    if (colon and not by) or (by and kind == "completed"):
        raise UsageError(f"--expect {quoted(text)}: write {kind}{'' if kind == 'completed' else f', or {kind}:BY'}")
    if by and choice and by not in choice:
        hint = near_match(by, choice, f"{kind}:") or f"; it is one of {', '.join(choice)}"
        raise UsageError(f"--expect: nothing is {quoted(text)}{hint}")
    return Verdict(kind, by or None)


def evaluated(expression: str | None, names: dict[str, Any]) -> dict[str, Any] | None:
    """Evaluate the user's expression behind `--config` to a dict. Raises `UsageError`."""
    if expression is None:
        return None
    try:
        value = eval(expression, names)
    except Exception as error:
        raise UsageError(
            f"--config {quoted(expression)}: {type(error).__name__}: {printable(str(error), 300)}"
        ) from None
    if not isinstance(value, Mapping):
        raise UsageError(f"--config {quoted(expression)} is a {type(value).__name__}; write a dict")
    return dict(value)


def name_for(spec: str) -> str:
    """Name the variable for a plugin loaded from `spec` by its class, file or module, in snake case.

    The plugin's own name isn't used: a stranger must not choose which variable of the user it replaces.
    """
    base = spec.rpartition("/")[2]
    stem, colon, attribute = base.rpartition(":")
    last = attribute if colon and attribute.isidentifier() else (stem or base).removesuffix(".py").rpartition(".")[2]
    return identifier_of(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower())


def _take_expression(line: str, option: str) -> tuple[str, str | None]:
    """Split `line` into a line without `option` and the Python expression behind that.

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
    raise UsageError(f"{option}: {quoted(rest)} is no Python expression; write a dict, like {option} {{'key': 1}}")
