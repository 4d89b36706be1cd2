"""The command lines of the magics (host): their options, split, parsed and made into a `Policy`.

A typo is a `LineError`, shown in one line, which names the nearest right option.
"""

from __future__ import annotations

import argparse
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
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
from agentplug.jupyter.failures import HelpAsked, LineError
from agentplug.jupyter.line import take_expression, without_comment, words_of

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
    """Parse `line` by the decorators of the bound method `magic`. Raises `LineError`, and `HelpAsked` for `-h`."""
    known = known_options(magic)
    line, expression = without_comment(line), None
    if "--config" in known:
        line, expression = take_expression(line, "--config")
    words = words_of(line, magic.__self__.shell.user_ns)
    if "-h" in words or "--help" in words:
        raise HelpAsked(magic.__doc__)
    _refuse_unknown(words, known)
    try:
        arguments: argparse.Namespace = magic.parser.parse_args(words)
    except UsageError as error:
        raise LineError(_with_remedy(str(error), magic, known)) from None
    if "--config" in known:
        arguments.config = expression
    return arguments


def _refuse_unknown(words: Sequence[str], known: list[str]) -> None:
    for word in words:
        name = word.partition("=")[0]
        is_option = name.startswith("--") or (name.startswith("-") and name[:2] not in known)
        if is_option and name not in (*known, "-", "--") and not name[1].isdigit():
            hint = near_match(name, known) or near_match(f"-{name}", known) or f"; the options are {', '.join(known)}"
            raise LineError(f"there is no option {quoted(name)}{hint}")


def _with_remedy(message: str, magic: Any, known: list[str]) -> str:
    """Return the message of an argument parser in words of ours."""
    actions = {name: action for action in magic.parser._actions for name in (*action.option_strings, action.metavar)}
    if match := re.match(r"argument (\S+): (expected|ignored)", message):
        action = actions[match[1]]
        return f"{match[1]} takes no value" if action.nargs == 0 else f"{match[1]} needs a value: {_form(action)}"
    if match := re.match(r"the following arguments are required: (\w+)", message):
        return f"{match[1]} is missing: {actions[match[1]].help}"
    if match := re.match(r"unrecognized arguments: ([\w-]*)(.*)", message, re.DOTALL):
        option = f"--{match[1]}"
        hint = f"; did you mean {quoted(option)}?" if option in known else near_match(option, known)
        return f"{quoted(match[1] + match[2])} is too much here{hint}"
    return printable(message, 300)


def _form(action: argparse.Action) -> str:
    return f"{action.option_strings[-1]} {action.metavar}, {action.help}"


def known_options(magic: Any) -> list[str]:
    """List the long and short options of a magic."""
    return [option for action in magic.parser._actions for option in action.option_strings]


def policy_from(options: argparse.Namespace, base: Policy | None = None) -> Policy | None:
    """Make the policy of the options, over `base`; None if no option asks for one. Raises `LineError`."""
    values = {row.key: getattr(options, row.key) for row in FIELDS.values()}
    if not any(value not in (None, False) for value in values.values()):
        return None
    try:
        return policy_from_options(values, base)
    except PolicyError as error:
        raise LineError(str(error)) from None


def variable_names(words: Sequence[str] | None, option: str) -> list[str]:
    """Return the names behind an option that takes several: `a b`, `a,b`. Raises `LineError`."""
    names = [name for word in words or () for name in word.split(",") if name]
    return [variable_name(name, option) for name in names]


def variable_name(name: str, option: str) -> str:
    """Return `name` if a variable can have it. Raises `LineError`."""
    if name.isidentifier() and not keyword.iskeyword(name):
        return name
    near = identifier_of(name)
    hint = f", {near} would do" if near.isidentifier() and not keyword.iskeyword(near) else ""
    raise LineError(f"{option}: {quoted(name)} can't be a variable's name{hint}")


def expected_verdict(text: str | None) -> Verdict | None:
    """Parse the verdict behind `--expect`. Raises `LineError` for one that can't be."""
    if text is None:
        return None
    kind, colon, by = text.partition(":")
    if kind not in KINDS:
        hint = near_match(kind, KINDS) or f"; the kinds are {', '.join(KINDS)}"
        raise LineError(f"--expect: there is no verdict {quoted(kind)}{hint}")
    choice = EXPECTED_BY[kind]
    if (colon and not by) or (by and kind == "completed"):
        raise LineError(f"--expect {quoted(text)}: write {kind}{'' if kind == 'completed' else f', or {kind}:BY'}")
    if by and choice and by not in choice:
        hint = near_match(by, choice, f"{kind}:") or f"; it is one of {', '.join(choice)}"
        raise LineError(f"--expect: nothing is {quoted(text)}{hint}")
    return Verdict(kind, by or None)


def evaluated(expression: str | None, names: dict[str, Any]) -> dict[str, Any] | None:
    """Evaluate the user's expression behind `--config` to a dict. Raises `LineError`."""
    if expression is None:
        return None
    try:
        value = eval(expression, names)
    except Exception as error:
        raise LineError(
            f"--config {quoted(expression)}: {type(error).__name__}: {printable(str(error), 300)}"
        ) from None
    if not isinstance(value, Mapping):
        raise LineError(f"--config {quoted(expression)} is a {type(value).__name__}; write a dict")
    return dict(value)


def name_for(spec: str) -> str:
    """Name the variable for a plugin loaded from `spec` by its class, file or module, in snake case.

    The plugin's own name isn't used: a stranger must not choose which variable of the user it replaces.
    """
    base = spec.rpartition("/")[2]
    stem, colon, attribute = base.rpartition(":")
    last = attribute if colon and attribute.isidentifier() else (stem or base).removesuffix(".py").rpartition(".")[2]
    return identifier_of(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower())
