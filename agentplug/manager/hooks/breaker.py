"""A breaker for one hook (host): after failures in a row it isn't called for a while, and then tried once."""

from __future__ import annotations

import time

FAILURES = 3
OPEN_S = 30.0
now_s = time.monotonic


class Breaker:
    """Closed until `FAILURES` failures in a row, then open for `OPEN_S`; then one call is let through to try."""

    __slots__ = ("_in_a_row", "_open_until_s", "_trying", "opened")

    def __init__(self) -> None:
        self._in_a_row = 0
        self._open_until_s = 0.0
        self._trying = False
        self.opened = 0
        """How often it opened."""

    @property
    def state(self) -> str:
        """closed, open, or trying: open, but the next call is let through."""
        if self._in_a_row < FAILURES:
            return "closed"
        return "open" if now_s() < self._open_until_s else "trying"

    def lets_through(self) -> bool:
        """Whether the hook may be called now. Whoever is let through says how it went."""
        if self._in_a_row < FAILURES:
            return True
        if self._trying or now_s() < self._open_until_s:
            return False
        self._trying = True
        return True

    def went(self, *, well: bool) -> None:
        """How a call went."""
        self._trying = False
        if well:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row >= FAILURES:
            self._open_until_s = now_s() + OPEN_S
            self.opened += 1

    def stand_aside(self) -> None:
        """The call that was let through never happened (it was cancelled): it says nothing."""
        self._trying = False
