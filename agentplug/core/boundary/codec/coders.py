"""Protocols of the codec's halves and of their pace (types alone).

With `Writing` and `Reading` the modules of arrays, tables and times import neither `pack` nor `unpack`, which import
them.
"""

from __future__ import annotations

from typing import Any, Protocol


class Pace(Protocol):
    """The way in which a long decoding lets others go on."""

    def pause(self) -> None:
        """Let others go on. May raise `Costly`, or `DecodeError` if the decoding took too long."""

    def load(self, module: str) -> None:
        """Import a module. May raise `Costly`."""


class Writing(Protocol):
    """The methods of `Packer`."""

    calendar_steps: int
    texts: int
    pace: Pace

    def spend(self, units: int, value: object) -> None:
        """Count work for the reader. Raises `Unserializable` when it's more than the reader takes on."""

    def value(self, value: Any, depth: int) -> Any:
        """Return `value` as msgpack takes it."""

    def items(self, values: Any, depth: int) -> list[Any]:
        """Return each of `values` as msgpack takes it."""

    def buffer(self, data: bytes | memoryview) -> Any:
        """Return the form of `data` in the structure."""


class Reading(Protocol):
    """The methods of `Unpacker`. Each raises `DecodeError`."""

    calendar_steps: int
    texts_left: int
    at: int
    pace: Pace

    def spend(self, units: int) -> None:
        """Count work."""

    def value(self, tree: Any, depth: int) -> Any:
        """Return the value of `tree`."""

    def items(self, tree: Any, depth: int) -> list[Any]:
        """Return the values of a list."""

    def buffer(self, tree: Any) -> bytes | memoryview:
        """Return the bytes that went into `Writing.buffer`."""
