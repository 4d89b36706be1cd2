"""The samples of one exchange (host): what the kernel said of its worker, again and again, in bounded memory."""

from __future__ import annotations

from agentplug.contract.record import Sample

_MOST = 2_048
_TOO_MANY = _MOST + 512


class Samples:
    """Readings in the order of their time. Of a long exchange every second, fourth, … is kept, all along it.

    One thread at a time may change it; any may read.
    """

    __slots__ = ("_even", "_rows", "_since", "_stride", "append")

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int]] = []
        self._stride = 1
        self._even = self._since = 0  # rows that are a stride apart, and how many were left out behind them
        self.append = self._rows.append
        """Add the fields of a `Sample`; `thin` now and then."""

    def thin(self) -> None:
        """Stay within bounds."""
        if len(self._rows) > _TOO_MANY:
            self._thin()

    def _thin(self) -> None:
        rows, since = self._rows, self._since
        fresh = rows[self._even :]
        skipped = self._stride - 1 - since
        kept = rows[: self._even] + fresh[skipped :: self._stride]
        since = (since + len(fresh)) % self._stride
        while len(kept) > _MOST:
            since += 0 if len(kept) % 2 else self._stride
            kept = kept[::2]
            self._stride *= 2
        rows[:] = kept
        self._even, self._since = len(kept), since

    @property
    def latest(self) -> Sample | None:
        """The last one."""
        return Sample._make(self._rows[-1]) if self._rows else None

    def all(self) -> tuple[Sample, ...]:
        """The first one, the last one, and those between them that are kept. Once nothing is added any more."""
        rows = self._rows
        if rows:
            last = rows[-1]
            self._thin()
            if rows[-1] is not last:
                rows.append(last)
        return tuple(map(Sample._make, rows))
