"""Take what a worker displays (host): typed frames within the bounds of a call, decoded later and elsewhere.

The host counts as the worker does, so a frame beyond the bounds is a violation. An exchange of several calls has
bounds of its own, beyond which displays are counted and dropped.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from agentplug.contract.display import (
    MAX_DISPLAY_BYTES,
    MAX_DISPLAY_FRAMES,
    MAX_DISPLAYS,
    MAX_DISPLAYS_BYTES,
    MOST_BYTES,
    PICTURES,
    TABLE,
    DisplayRecord,
)
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import Buffer, Violation
from agentplug.core.boundary.frames import Frame

_CALLS_WORTH = 4  # of displays in one exchange


class RawDisplay(NamedTuple):
    """A display as it came. `at` is the number of its call in the exchange."""

    at: int
    mime: str
    id: str
    update: bool
    body: bytes
    blobs: Buffer


class CallDisplays(NamedTuple):
    """The displays of one call of an exchange, and the number of those that aren't there."""

    displays: tuple[DisplayRecord, ...]
    dropped: int


class Relay(Protocol):
    """Takes output and displays in order, without blocking; `finished` has the displays of each call at the end."""

    finished: Future[dict[int, CallDisplays]]

    def __call__(self, name: str, text: str) -> None:
        """Take output: see `output.Sink`."""

    def show(self, raw: RawDisplay) -> None:
        """Take a display."""

    def drop(self, at: int, count: int) -> None:
        """Count displays of the call `at` that don't come."""

    def finish(self) -> None:
        """Take the end of the exchange."""


@runtime_checkable
class Showing(Protocol):
    """A sink that also shows displays; any other gets only the text."""

    def show(self, display: DisplayRecord, key: str, update: bool) -> None:
        """Show a display; an `update` takes the place of the one with this key."""

    def note(self, text: str) -> None:
        """Show a line of ours."""


class Displays:
    """The displays of one exchange, in bounds. `relay` gets them."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self._at = -1
        self._ids: set[str] = set()
        self._count = self._frames = self._bytes = 0
        self._all_bytes = 0
        self._counted = False

    def take(self, frame: Frame, at: int) -> tuple[RawDisplay | None, tuple[int, int]]:
        """Return the display in a frame of the call `at`, None for one that only counts, and the bytes of output
        before it. Raises `Violation`."""
        try:
            body = wire.decode_display(frame.structure)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Violation("a display that can't be decoded") from None
        if at != self._at:
            self._at, self._ids = at, set()
            self._count = self._frames = self._bytes = 0
            self._counted = False
        if self._counted:
            raise Violation("a display after the last one")
        if not body.mime:
            self._counted = True
            self.relay.drop(at, body.dropped)
            return None, body.written
        size = len(body.body) + len(frame.blobs)
        fits = not body.body if body.mime in PICTURES else body.mime == TABLE or not len(frame.blobs)
        if not fits or len(body.body) > MOST_BYTES.get(body.mime, MAX_DISPLAY_BYTES):
            raise Violation(f"a display of {body.mime} in another form than that has")
        update = body.update and body.id in self._ids
        self._ids.add(body.id)
        self._count += not update
        self._frames += 1
        self._bytes += size
        if (
            size > MAX_DISPLAY_BYTES
            or self._count > MAX_DISPLAYS
            or self._frames > MAX_DISPLAY_FRAMES
            or self._bytes > MAX_DISPLAYS_BYTES
        ):
            raise Violation("more displays than a call may have")
        self._all_bytes += size
        if self._all_bytes > _CALLS_WORTH * MAX_DISPLAYS_BYTES:
            self.relay.drop(at, 1)
            return None, body.written
        return RawDisplay(at, body.mime, body.id, update, body.body, frame.blobs), body.written
