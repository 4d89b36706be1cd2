"""Plugins that attack through their reply (worker side)."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from agentplug.core.boundary import codec as values
from agentplug.core.boundary.frames import HEADER, MAGIC, REPLY, SETTLED, Frame
from agentplug.zoo._beast import MIB, Beast, number

_CHANNEL_FD = 3


class Unserializable(Beast):
    """Returns an object whose unpickling would run a command in the host, if the host unpickled replies.

    Stopped in the codec, which carries plain data, arrays and tables and nothing else: `broken:unserializable`.
    """

    async def process(self, input_data: Any) -> Any:
        """Hide the object among plain values."""
        return {"answer": 42, "gift": [_Payload()]}


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo this ran in the host",)


class Forger(Beast):
    """Writes a reply of its own to the channel, right to the last bit, and ends its process with status 0.

    Stopped by the rule that a reply counts for nothing until the worker is back in its own loop: `died:exit 0`.
    """

    async def process(self, input_data: Any) -> Any:
        """Find this call's number on the stack, answer it, and go."""
        structure, _ = values.encode({"grade": 100, "comment": "all tests passed"})
        _send(_frame(structure))
        os._exit(0)


class SpinningForger(Beast):
    """Forges its reply and goes on working, to have the rest of it for nothing.

    Stopped by the same rule, at the limit that it then meets: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Answer, and spin."""
        _send(_frame(b"\xa6forged"))
        while True:
            pass


class DoubleForger(Beast):
    """Answers twice: once by hand, and once as it should.

    Stopped because a call has one answer: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Forge one, and return another."""
        _send(_frame(b"\xa6forged"))
        return "honest"


class SettlingForger(Beast):
    """Forges its reply and the word that it is back in its own loop, by guessing the number it will be asked.

    Stopped because the number is drawn after the reply: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Answer, and confirm a guess."""
        _send(_frame(b"\xa6forged") + _frame(b"", kind=SETTLED))
        while True:
            time.sleep(1)  # noqa: ASYNC251


class Oracle(Beast):
    """Collects the numbers of its calls until it can foretell the next, and with it the one that it will be asked.

    Stopped because that number should come from where no series begins; a wrong one ends the worker:
    `broken:protocol`. Until it is ready it answers None.
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Note the number of each frame that the worker takes."""
        source, numbers = sys.modules["agentplug.core.boundary.channel"].FrameSource, self._numbers
        take = source.next

        def noting(self: Any) -> Any:
            frame = take(self)
            if frame is not None:
                numbers.append(frame.call)
            return frame

        source.next = noting

    async def process(self, input_data: Any) -> Any:
        """With 624 numbers the state of a Mersenne Twister is known: answer, confirm, and go."""
        if len(self._numbers) <= 624:
            return None
        foretold = random.Random()
        foretold.setstate((3, (*map(_untempered, self._numbers[-624:]), 624), None))
        confirmed = HEADER.pack(MAGIC, SETTLED, 0, foretold.getrandbits(32), 0, 0)
        _send(_frame(b"\xa6forged") + confirmed)
        while True:
            time.sleep(1)  # noqa: ASYNC251


def _untempered(number: int) -> int:
    """The word of a Mersenne Twister's state that `number` was made from."""
    number ^= number >> 18
    number ^= (number << 15) & 0xEFC60000
    low = number
    for _ in range(4):
        low = number ^ ((low << 7) & 0x9D2C5680)
    high = low
    for _ in range(2):
        high = low ^ (high >> 11)
    return high & 0xFFFFFFFF


class Announcer(Beast):
    """Announces a reply of 4 GiB, for the host to make room for.

    Stopped by the header, by which the host judges before it takes anything in: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send a header, and wait."""
        _send(_frame(b"", announced=0xFFFFFFFF))
        time.sleep(5)  # noqa: ASYNC251


class Dripper(Beast):
    """Sends its reply byte by byte, so that the host wakes up for each and never comes to an end.

    Stopped by a bound on pieces and on the time that a frame may take: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send 100 bytes, one every 2 ms."""
        for byte in _frame(b"\xd9\x52" + b"x" * 82):
            _send(bytes([byte]))
            time.sleep(0.002)  # noqa: ASYNC251
        time.sleep(5)  # noqa: ASYNC251


class Babbler(Beast):
    """Writes noise to the channel.

    Stopped because noise is no frame: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write 64 KiB of it."""
        _send(os.urandom(1 << 16))
        return "noise"


class Interjector(Beast):
    """Answers as it should, and speaks again when nobody has asked.

    The answer counts, unless the host was busy and reads both at once: `completed`. Either way the worker is ended,
    and the next call gets a fresh one.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave a thread that sends a frame a moment later."""
        frame = _frame(b"\xc0")

        def later() -> None:
            time.sleep(0.02)
            _send(frame)

        threading.Thread(target=later, daemon=True).start()
        return "innocent"


class Hanger(Beast):
    """Closes its end of the channel and lives on in silence.

    Stopped by the watchdog, a moment after the end of the stream: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Close it, and sleep."""
        os.close(_CHANNEL_FD)
        time.sleep(5)  # noqa: ASYNC251


class GarbageForger(Beast):
    """Replies with bytes that are a whole frame and no value: every type of the codec, each filled with garbage.

    Stopped by the decoder, which raises one kind of error for all of them: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send a list of extensions with 16 random bytes each, and wait to be asked."""
        extensions = b"".join(b"\xd8" + bytes([code]) + os.urandom(16) for code in range(1, 22))
        _send(_frame(b"\xdc\x00\x15" + extensions))
        os.read(_CHANNEL_FD, 1)


class LyingArray(Beast):
    """Replies with an array that claims more elements than it brought bytes for.

    Stopped by the decoder, which counts them before it makes an array: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Encode an array of three, and write another shape into the encoded bytes."""
        import numpy as np

        structure, blobs = values.encode(np.arange(3, dtype="<i8"))
        lying = structure.replace(b"\x91\x03", b"\x91\x7f")
        _send(_frame(lying if lying != structure else b"\xc1", b"".join(bytes(blob) for blob in blobs)))
        os.read(_CHANNEL_FD, 1)


class GiantReply(Beast):
    """Returns more than the host wants to hold.

    Stopped by the header of its frame, which the host reads before it takes anything in: `limited:reply`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return `input_data` bytes, 32 MiB unless a number is given."""
        return bytes(number(input_data, 32 * MIB))


def _send(data: bytes) -> None:
    while data:
        data = data[os.write(_CHANNEL_FD, data) :]


def _frame(structure: bytes, blobs: bytes = b"", *, kind: int = REPLY, announced: int | None = None) -> bytes:
    """A frame that answers the call under way."""
    size = len(structure) if announced is None else announced
    return HEADER.pack(MAGIC, kind, 0, _call_number(), size, len(blobs)) + structure + blobs


def _call_number() -> int:
    frame = sys._getframe()
    while frame.f_back is not None:
        for value in frame.f_locals.values():
            if isinstance(value, Frame):
                return value.call
        frame = frame.f_back
    return 0
