"""Plugins whose replies are whole and honest, and built to hurt whoever decodes or shows them (worker side)."""

from __future__ import annotations

from typing import Any

from agentplug.zoo._beast import MIB, Beast, number


class JustUnder(Beast):
    """Returns as much as its policy allows, to the last bytes.

    Not an attack but where the line is: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return `input_data` bytes less what the frame takes for itself."""
        return bytes(number(input_data, 16 * MIB) - 64)


class JustOver(Beast):
    """Returns a few bytes more than its policy allows.

    Stopped by the header of its frame: `limited:reply`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return `input_data` bytes, for which a frame needs a few more."""
        return bytes(number(input_data, 16 * MIB))


class Structuralist(Beast):
    """Returns millions of empty lists: small on the wire, and a hundred times larger once they are objects.

    Stopped by the bound on structure, of which a reply may hold 1 MiB at most: `limited:reply`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return two million of them."""
        return [[]] * 2_000_000


class DeepReply(Beast):
    """Returns lists within lists, deeper than a decoder's stack.

    Stopped in the codec, at 64 levels: `broken:unserializable`.
    """

    async def process(self, input_data: Any) -> Any:
        """Nest `input_data` of them, 100,000 unless a number is given."""
        value: list[Any] = []
        for _ in range(number(input_data, 100_000)):
            value = [value]
        return value


class CyclicReply(Beast):
    """Returns a list that contains itself: a reply without an end.

    Stopped in the codec, for which it is too deep: `broken:unserializable`.
    """

    async def process(self, input_data: Any) -> Any:
        """Tie the knot."""
        knot: dict[str, Any] = {}
        knot["self"] = [knot]
        return knot


class CollidingReply(Beast):
    """Returns a dict whose keys all have one hash, for the host to choke on as it builds it.

    Stopped in the codec, which counts hashes before it makes a dict: `broken:unserializable`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return 1,000 multiples of 2**61 - 1."""
        return dict.fromkeys(key * ((1 << 61) - 1) for key in range(1000))


class SurrogateReply(Beast):
    """Returns text that is no text: halves of surrogate pairs, which can't be printed, encoded or saved.

    Nothing needs to stop it: it comes through as it is, and is escaped where it is shown: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return them as keys and values."""
        return {"\ud800": "\udfff", "plain": "\udcff" * 10}
