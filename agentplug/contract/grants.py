"""The right to a hook point, as a policy writes it (host and worker).

A grant is a kind, like `"veto"`, and up to two words after it, like `"transform open native"`. `open` lets the
message pass if the hook fails; without it the message is denied. `native` sends the framework's own dump too.
"""

from __future__ import annotations

from typing import NamedTuple

HOOK_KINDS = ("transform", "veto", "observe")


class Grant(NamedTuple):
    """One right to a hook point."""

    kind: str
    fail_open: bool = False
    native: bool = False


def parse_grant(text: object) -> Grant:
    """Parse a policy's text for a grant. Raises `ValueError`, saying how to write one."""
    kind, *words = text.split() if isinstance(text, str) and text.strip() else ("",)
    if kind not in HOOK_KINDS or not {"open", "native"}.issuperset(words):
        raise ValueError(f"the kinds are {', '.join(HOOK_KINDS)}; open and native may follow one")
    if kind == "observe" and "open" in words:
        raise ValueError("an observer never holds a message up, so there is nothing to leave open")
    return Grant(kind, kind == "observe" or "open" in words, "native" in words)
