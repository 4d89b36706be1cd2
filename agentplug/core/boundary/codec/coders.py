"""Protocols of `pack.Packer` and `unpack.Unpacker`, for the modules of arrays, tables and times (types alone).

With them those modules import neither `pack` nor `unpack`, which import them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.layout import Pace, Zones


class Writing(Protocol):
    """The methods of `Packer`."""

    calendar_steps: int
    texts: int
    zones: Zones
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
    zones: Zones
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
