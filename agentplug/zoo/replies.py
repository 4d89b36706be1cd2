"""Plugins whose replies are valid, but attack the code that decodes or displays them (worker side)."""

from __future__ import annotations

from typing import Any

from agentplug.zoo._base import MIB, ZooPlugin, as_int


class JustUnder(ZooPlugin):
    """Returns almost as many bytes as its policy allows.

    No attack, but the largest allowed reply: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return `input_data` bytes, less the size of the frame around them."""
        return bytes(as_int(input_data, 16 * MIB) - 64)


class JustOver(ZooPlugin):
    """Returns a few bytes more than its policy allows.

    Stopped by the host, which counts what comes: `limited:reply`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return `input_data` bytes; the frame adds a few more."""
        return bytes(as_int(input_data, 16 * MIB))


class Structuralist(ZooPlugin):
    """Returns millions of empty lists: small in a frame, and a hundred times larger as objects.

    Stopped by the bound on structure: a reply may hold 1 MiB of it: `limited:reply`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return two million lists."""
        return [[]] * 2_000_000


class DeepReply(ZooPlugin):
    """Returns lists within lists, deeper than a decoder's stack.

    Stopped in the codec, which allows 64 levels: `broken:unserializable`.
    """

    async def process(self, input_data: Any) -> Any:
        """Nest `input_data` lists, 100,000 unless a number is given."""
        value: list[Any] = []
        for _ in range(as_int(input_data, 100_000)):
            value = [value]
        return value


class CyclicReply(ZooPlugin):
    """Returns a value that contains itself: a reply without an end.

    Stopped in the codec, because it is too deep: `broken:unserializable`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return a dict that contains itself."""
        cycle: dict[str, Any] = {}
        cycle["self"] = [cycle]
        return cycle


class CollidingReply(ZooPlugin):
    """Returns a dict whose keys all have the same hash, which is slow to build.

    Stopped in the codec, which counts equal hashes before it makes a dict: `broken:unserializable`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return 1,000 multiples of 2**61 - 1."""
        return dict.fromkeys(key * ((1 << 61) - 1) for key in range(1000))


class SurrogateReply(ZooPlugin):
    """Returns text with halves of surrogate pairs, which can't be printed, encoded or saved.

    Nothing needs to stop it: the value is returned unchanged, and escaped when displayed: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return surrogates as keys and values."""
        return {"\ud800": "\udfff", "plain": "\udcff" * 10}
