"""Plugins that attack through their reply (worker side)."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from agentplug.core.boundary import codec
from agentplug.core.boundary.frames import HEADER, MAGIC, REPLY, SETTLED, Frame
from agentplug.zoo._base import MIB, ZooPlugin, as_int, spin

_CHANNEL_FD = 3


class Unserializable(ZooPlugin):
    """Returns an object that would run a command in the host, if the host unpickled replies.

    Stopped in the codec, which only takes plain data, arrays and tables: `broken:unserializable`.
    """

    async def process(self, input_data: Any) -> Any:
        """Hide the object among plain values."""
        return {"answer": 42, "gift": [_Payload()]}


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo this ran in the host",)


class Forger(ZooPlugin):
    """Writes a valid reply to the channel itself, and ends its process with status 0.

    Stopped by the rule that a reply only counts once the worker is back in its own loop: `died:exit 0`.
    """

    async def process(self, input_data: Any) -> Any:
        """Find this call's number on the stack, send a reply, and exit."""
        structure, _ = codec.encode({"grade": 100, "comment": "all tests passed"})
        send_raw(forged_frame(structure))
        os._exit(0)


class SpinningForger(ZooPlugin):
    """Forges its reply and goes on working, to use CPU time that isn't counted.

    Stopped by the same rule, at its CPU limit: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send a reply, and spin."""
        send_raw(forged_frame(b"\xa6forged"))
        spin()


class IdlingForger(ZooPlugin):
    """Forges its reply and waits, so that its caller waits longer than it may.

    Stopped because a call lasts until the worker is back in its own loop: `limited:wall`.
    """

    async def process(self, input_data: Any) -> Any:
        """Wait for most of half a second, send a reply, and sleep."""
        time.sleep(0.4)  # noqa: ASYNC251
        send_raw(forged_frame(b"\xa6forged"))
        time.sleep(30)  # noqa: ASYNC251


class DoubleForger(ZooPlugin):
    """Replies twice: with a forged reply and a real one.

    Stopped because a call has one reply: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Forge a reply, and return another value."""
        send_raw(forged_frame(b"\xa6forged"))
        return "honest"


class SettlingForger(ZooPlugin):
    """Forges its reply and the frame that confirms that the worker is back in its loop, with a guessed number.

    Stopped because the number is drawn after the reply: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send a reply and a confirmation."""
        send_raw(forged_frame(b"\xa6forged") + forged_frame(b"", kind=SETTLED))
        while True:
            time.sleep(1)  # noqa: ASYNC251


class Oracle(ZooPlugin):
    """Collects the numbers of its calls until it can predict the next one, and forge a confirmation with it.

    Stopped because the numbers don't come from a predictable generator; a wrong one ends the worker:
    `broken:protocol`. Until it has enough numbers, it returns None.
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Record the number of each frame that the worker receives."""
        source, numbers = sys.modules["agentplug.core.boundary.channel"].FrameSource, self._numbers
        take = source.next

        def recording(self: Any) -> Any:
            frame = take(self)
            if frame is not None:
                numbers.append(frame.call)
            return frame

        source.next = recording

    async def process(self, input_data: Any) -> Any:
        """Compute the state of a Mersenne Twister from 624 numbers; send a reply and a confirmation."""
        if len(self._numbers) <= 624:
            return None
        foretold = random.Random()
        foretold.setstate((3, (*map(_untempered, self._numbers[-624:]), 624), None))
        confirmed = HEADER.pack(MAGIC, SETTLED, 0, foretold.getrandbits(32), 0, 0)
        send_raw(forged_frame(b"\xa6forged") + confirmed)
        while True:
            time.sleep(1)  # noqa: ASYNC251


def _untempered(number: int) -> int:
    """Return the word of a Mersenne Twister's state that `number` was made from."""
    number ^= number >> 18
    number ^= (number << 15) & 0xEFC60000
    low = number
    for _ in range(4):
        low = number ^ ((low << 7) & 0x9D2C5680)
    high = low
    for _ in range(2):
        high = low ^ (high >> 11)
    return high & 0xFFFFFFFF


class Announcer(ZooPlugin):
    """Announces a reply of 4 GiB, so that the host allocates memory for it.

    Stopped by the host, which checks the header before it reads on: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send a header, and wait."""
        send_raw(forged_frame(b"", announced=0xFFFFFFFF))
        time.sleep(5)  # noqa: ASYNC251


class Dripper(ZooPlugin):
    """Sends its reply byte by byte, so that the host wakes up for each byte.

    Stopped by bounds on the pieces of a frame and on its time: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send 100 bytes, one every 2 ms."""
        for byte in forged_frame(b"\xd9\x52" + b"x" * 82):
            send_raw(bytes([byte]))
            time.sleep(0.002)  # noqa: ASYNC251
        time.sleep(5)  # noqa: ASYNC251


class Babbler(ZooPlugin):
    """Writes noise to the channel.

    Stopped because noise is no frame: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write 64 KiB of noise."""
        send_raw(os.urandom(1 << 16))
        return "noise"


class Interjector(ZooPlugin):
    """Replies correctly, and sends another frame between calls.

    The reply counts, unless the host was busy and reads both frames at once: `completed`. In both cases the worker is
    ended, and the next call gets a fresh one.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave a thread that sends a frame a moment later."""
        frame = forged_frame(b"\xc0")

        def later() -> None:
            time.sleep(0.02)
            send_raw(frame)

        threading.Thread(target=later, daemon=True).start()
        return "innocent"


class Hanger(ZooPlugin):
    """Closes its end of the channel and goes on living.

    Stopped by the watchdog, soon after the end of the stream: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Close the channel, and sleep."""
        os.close(_CHANNEL_FD)
        time.sleep(5)  # noqa: ASYNC251


class GarbageForger(ZooPlugin):
    """Replies with a complete frame that holds each type of the codec, filled with garbage.

    Stopped by the decoder, which raises one kind of error for all of them: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send a list of extensions with 16 random bytes each, and wait."""
        extensions = b"".join(b"\xd8" + bytes([code]) + os.urandom(16) for code in range(1, 22))
        send_raw(forged_frame(b"\xdc\x00\x15" + extensions))
        os.read(_CHANNEL_FD, 1)


class LyingArray(ZooPlugin):
    """Replies with an array that claims more elements than it has bytes for.

    Stopped by the decoder, which checks the size before it makes an array: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Encode an array of three, and write another shape into the encoded bytes."""
        import numpy as np

        structure, blobs = codec.encode(np.arange(3, dtype="<i8"))
        lying = structure.replace(b"\x91\x03", b"\x91\x7f")
        send_raw(forged_frame(lying if lying != structure else b"\xc1", b"".join(bytes(blob) for blob in blobs)))
        os.read(_CHANNEL_FD, 1)


class GiantReply(ZooPlugin):
    """Returns more than its limit allows.

    Stopped by the host, which stores none of it, once more than the limit has come: `limited:reply`.
    """

    async def process(self, input_data: Any) -> Any:
        """Return `input_data` bytes, 32 MiB unless a number is given."""
        return bytes(as_int(input_data, 32 * MIB))


def send_raw(data: bytes) -> None:
    """Write bytes to the channel."""
    while data:
        data = data[os.write(_CHANNEL_FD, data) :]


def forged_frame(structure: bytes, blobs: bytes = b"", *, kind: int = REPLY, announced: int | None = None) -> bytes:
    """Return a reply frame for the current call."""
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
