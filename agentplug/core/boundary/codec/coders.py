"""The two halves of a coding, as the modules for arrays, tables and times see them (host and worker; types alone).

`pack.Packer` and `unpack.Unpacker` are the only ones of their kind. The Protocols keep those modules below both.
"""

from __future__ import annotations

from typing import Any, Protocol


class Writing(Protocol):
    """A value on its way into msgpack and blobs."""

    calendar_steps: int

    def spend(self, units: int, value: object) -> None:
        """Count work for the reader. Raises `Unserializable` when it's more than the reader takes on."""

    def value(self, value: Any, depth: int) -> Any:
        """Return `value` as msgpack takes it."""

    def items(self, values: Any, depth: int) -> list[Any]:
        """Return each of `values` as msgpack takes it."""

    def buffer(self, data: bytes | memoryview) -> Any:
        """Return what stands for `data` in the structure."""


class Reading(Protocol):
    """A value on its way out of msgpack and blobs. Each method raises `DecodeError`."""

    calendar_steps: int
    at: int

    def spend(self, units: int) -> None:
        """Count work."""

    def value(self, tree: Any, depth: int) -> Any:
        """Return the value of `tree`."""

    def items(self, tree: Any, depth: int) -> list[Any]:
        """Return the values of a list."""

    def buffer(self, tree: Any) -> bytes | memoryview:
        """Return the bytes that `Writing.buffer` took."""
