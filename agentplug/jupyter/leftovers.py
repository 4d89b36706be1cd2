"""Things in a kernel beside the extension's session, to be removed when the extension is unloaded (host)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

_removers: dict[Callable[[], None], None] = {}


def add(remove: Callable[[], None]) -> None:
    """Call `remove` when the extension is unloaded. Adding it twice changes nothing."""
    _removers[remove] = None


def forget(remove: Callable[[], None]) -> None:
    """Don't call `remove` any more: its thing is gone."""
    _removers.pop(remove, None)


def remove_all() -> None:
    """Remove everything, the latest first. An error in one leaves none of the others."""
    while _removers:
        remove, _ = _removers.popitem()
        with contextlib.suppress(Exception):
            remove()
