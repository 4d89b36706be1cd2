"""The samples of one exchange: the kernel's readings of its worker over time, in bounded memory (host)."""

from __future__ import annotations

from agentplug.contract.record import Sample

_MOST = 2_048
_TOO_MANY = _MOST + 512


class Samples:
    """Readings in order of time. Of a long exchange, only every second, fourth, … stays.

    One thread at a time may change it; any thread may read.
    """

    __slots__ = ("_even", "_rows", "_since", "_stride", "append")

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int]] = []
        self._stride = 1
        self._even = self._since = 0  # number of rows a stride apart, and of rows left out after them
        self.append = self._rows.append
        """Add the fields of a `Sample`; `thin` now and then."""

    def thin(self) -> None:
        """Drop rows if there are too many."""
        if len(self._rows) > _TOO_MANY:
            self._thin()

    def _thin(self) -> None:
        rows, since = self._rows, self._since
        fresh = rows[self._even :]
        skipped = self._stride - 1 - since
        sparse = rows[: self._even] + fresh[skipped :: self._stride]
        since = (since + len(fresh)) % self._stride
        while len(sparse) > _MOST:
            since += 0 if len(sparse) % 2 else self._stride
            sparse = sparse[::2]
            self._stride *= 2
        rows[:] = sparse
        self._even, self._since = len(sparse), since

    @property
    def latest(self) -> Sample | None:
        """The last sample."""
        return Sample._make(self._rows[-1]) if self._rows else None

    def all(self) -> tuple[Sample, ...]:
        """Return the first sample, the last one, and some between. Call it once no sample is added any more."""
        rows = self._rows
        if rows:
            last = rows[-1]
            self._thin()
            if rows[-1] is not last:
                rows.append(last)
        return tuple(map(Sample._make, rows))
