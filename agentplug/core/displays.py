"""Decode what a call displays, on a thread of its own, and pass it on in order with the call's output (host).

Nothing of a display is trusted: text is text, JSON is parsed, tables go through the codec within the plugin's
share of the decoding threads, and pictures are decoded in another confined worker (`pictures`).
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from agentplug.contract.display import HTML, JSON, MAX_DISPLAYS_BYTES, PICTURES, TABLE, TEXT
from agentplug.core.boundary import codec as values
from agentplug.core.decoders import Share, in_turns
from agentplug.core.display import Display
from agentplug.core.host.displays import CallDisplays, RawDisplay, Showing
from agentplug.core.host.output import Sink
from agentplug.core.pictures import BadPicture, Confined, Picture, Pictures

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.layout import Pace


class DisplayRelay:
    """Passes one exchange's output and displays to its sink, and collects the displays by call."""

    def __init__(self, sink: Sink | None, share: Share, confined: Confined) -> None:
        self.finished: Future[dict[int, CallDisplays]] = Future()
        self._sink = sink
        self._share = share
        self._pictures = Pictures(confined)
        self._items: SimpleQueue[RawDisplay | tuple[str, str] | None] = SimpleQueue()
        self._displays: dict[int, dict[str, Display]] = {}
        self._dropped: dict[int, int] = {}
        self._bytes = 0
        threading.Thread(target=self._run, name="agentplug-displays", daemon=True).start()

    def __call__(self, name: str, text: str) -> None:
        """Take output."""
        self._items.put((name, text))

    def show(self, raw: RawDisplay) -> None:
        """Take a display."""
        self._items.put(raw)

    def drop(self, at: int, count: int) -> None:
        """Count displays that don't come."""
        self._dropped[at] = self._dropped.get(at, 0) + count

    def finish(self) -> None:
        """Take the end: `finished` follows once all is shown."""
        self._items.put(None)

    def _run(self) -> None:
        try:
            while (item := self._items.get()) is not None:
                try:
                    self._pass_on(item)
                except Exception:
                    self._sink = None  # it gets nothing more of this call, which goes on
                    traceback.print_exc(file=sys.stderr)
            if (dropped := sum(self._dropped.values())) and isinstance(self._sink, Showing):
                self._sink.note(f"{dropped:,} more display{'' if dropped == 1 else 's'} not shown")
        finally:
            self._pictures.close()
            calls = self._displays.keys() | self._dropped.keys()
            self.finished.set_result(
                {
                    at: CallDisplays(tuple(self._displays.get(at, {}).values()), self._dropped.get(at, 0))
                    for at in calls
                }
            )

    def _pass_on(self, item: RawDisplay | tuple[str, str]) -> None:
        if not isinstance(item, RawDisplay):
            if self._sink is not None:
                self._sink(*item)
            return
        display = decode_display(item, self._table, self._pictures.decode)
        self._bytes += display.size_bytes()
        if self._bytes > 4 * MAX_DISPLAYS_BYTES:  # a picture may have grown
            self.drop(item.at, 1)
            return
        self._displays.setdefault(item.at, {})[item.id] = display
        if isinstance(self._sink, Showing):
            self._sink.show(display, f"{item.at}{item.id}", item.update)

    def _table(self, raw: RawDisplay) -> Any:
        size = len(raw.body) + len(raw.blobs)
        return in_turns(self._share, size, lambda pace: table_of(raw, pace)).result()


def decode_display(
    raw: RawDisplay, table: Callable[[RawDisplay], Any], picture: Callable[[str, bytes], Picture]
) -> Display:
    """Return a display, decoded; or a line of text in its place that says why it isn't shown.

    `table` and `picture` decode one of these; they raise `DecodeError` and `BadPicture`.
    """
    try:
        if raw.mime in (TEXT, HTML):
            return Display(raw.mime, raw.body.decode("utf-8"))
        if raw.mime == JSON:
            return Display(raw.mime, json.loads(raw.body, parse_constant=_refuse))
        if raw.mime == TABLE:
            return Display(raw.mime, table(raw))
        return Display(raw.mime, *picture(raw.mime, bytes(raw.blobs)))
    except BadPicture as error:
        reason = str(error)
    except (values.DecodeError, ValueError, RecursionError) as error:
        reason = f"it can't be decoded ({type(error).__name__})"
    size = len(raw.blobs) if raw.mime in PICTURES else len(raw.body)
    return Display(TEXT, f"[{raw.mime} of {size:,} bytes is not shown: {reason}]")


def table_of(raw: RawDisplay, pace: Pace = values.HURRY) -> Any:
    """Decode a table. Raises `DecodeError` for any other value."""
    table = values.decode(raw.body, raw.blobs, pace=pace)
    if type(table).__name__ != "DataFrame":
        raise values.DecodeError("no table")
    return table


def _refuse(constant: str) -> None:
    raise ValueError(constant)
