"""A breaker for one hook (host): after several failures in a row the hook isn't called for a while."""

from __future__ import annotations

import time

FAILURES = 3
OPEN_S = 30.0
now_s = time.monotonic


class Breaker:
    """A breaker: closed until `FAILURES` failures in a row, then open for `OPEN_S`; then one call is a trial."""

    __slots__ = ("_in_a_row", "_open_until_s", "_trying", "opened")

    def __init__(self) -> None:
        self._in_a_row = 0
        self._open_until_s = 0.0
        self._trying = False
        self.opened = 0
        """The number of times that the breaker opened."""

    @property
    def state(self) -> str:
        """`closed`, `open`, or `trying`: open, but the next call is allowed."""
        if self._in_a_row < FAILURES:
            return "closed"
        return "open" if now_s() < self._open_until_s else "trying"

    def allows_call(self) -> bool:
        """Return True if the hook may be called now. Afterwards call `record` or `cancel`."""
        if self._in_a_row < FAILURES:
            return True
        if self._trying or now_s() < self._open_until_s:
            return False
        self._trying = True
        return True

    def record(self, *, success: bool) -> None:
        """Count a call's success or failure."""
        self._trying = False
        if success:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row >= FAILURES:
            self._open_until_s = now_s() + OPEN_S
            self.opened += 1

    def cancel(self) -> None:
        """Forget a call that was allowed and then cancelled or skipped."""
        self._trying = False
