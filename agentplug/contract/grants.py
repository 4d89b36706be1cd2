"""What a plugin may do at a hook point, as a policy writes it (host and worker).

`"veto"` is the kind alone. Two words may follow it: `open` lets the message pass where the hook fails (it is denied
else), and `native` sends it the framework's own dump too: `"transform open native"`.
"""

from __future__ import annotations

from typing import NamedTuple

HOOK_KINDS = ("transform", "veto", "observe")


class Grant(NamedTuple):
    """One right: its kind; whether a failure lets the message pass; whether it sees `native`."""

    kind: str
    fail_open: bool = False
    native: bool = False


def parse_grant(text: object) -> Grant:
    """The right that `text` grants. Raises `ValueError`, saying how to write one."""
    kind, *words = text.split() if isinstance(text, str) and text.strip() else ("",)
    if kind not in HOOK_KINDS or not {"open", "native"}.issuperset(words):
        raise ValueError(f"the kinds are {', '.join(HOOK_KINDS)}; open and native may follow one")
    if kind == "observe" and "open" in words:
        raise ValueError("an observer never holds a message up, so there is nothing to leave open")
    return Grant(kind, kind == "observe" or "open" in words, "native" in words)
