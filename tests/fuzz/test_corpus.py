"""The corpus is what workers really send: the same values, through a real worker, come in the same frames."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import FrameReader
from agentplug.core.boundary.frames import Frame
from agentplug.core.sandboxed import SandboxedPlugin
from tests.fuzz.corpus import array_samples, plain_samples, seeds, table_samples

pytestmark = pytest.mark.need("landlock", "seccomp")


class EchoPlugin:
    """Returns what it gets, raises what it is told to, or returns what can't be sent."""

    name = "echo"
    version = "1.0"

    async def initialize(self, config: dict[str, Any]) -> None:
        """Nothing to do."""

    async def process(self, input_data: Any) -> Any:
        """The input."""
        if isinstance(input_data, str) and input_data == "raise":
            raise OSError(12, "no memory")
        return object() if isinstance(input_data, str) and input_data == "misfit" else input_data


def test_a_worker_sends_the_frames_of_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind that a worker may send but the confirmation, and each value's structure and blobs byte by byte."""
    frames: list[Frame] = []
    real = FrameReader.next

    def recording(reader: FrameReader) -> Frame | None:
        frame = real(reader)
        if frame is not None:
            frames.append(Frame(*frame[:4], bytes(frame.blobs)))
        return frame

    monkeypatch.setattr(FrameReader, "next", recording)
    samples = {f"{group} {name}": value
               for group, made in (("plain", plain_samples()), ("array", array_samples()), ("table", table_samples()))
               for name, value in made.items()}  # fmt: skip

    async def talk() -> dict[str, Frame]:
        replies = {}
        async with SandboxedPlugin(EchoPlugin) as plugin:
            for name, value in samples.items():
                await plugin.process(value)
                replies[name] = next(frame for frame in reversed(frames) if frame.kind == wire.REPLY)
            await plugin.run("raise")
            await plugin.run("misfit")
        return replies

    replies = asyncio.run(talk())

    assert {frame.kind for frame in frames} >= {wire.HELLO, wire.LOADED, wire.REPLY, wire.ERROR, wire.UNSERIALIZABLE}
    expected = {seed.name: (seed.structure, seed.blobs) for seed in seeds() if seed.kind == wire.REPLY}
    assert {name: (frame.structure, frame.blobs) for name, frame in replies.items()} == expected
    error = next(frame for frame in frames if frame.kind == wire.ERROR)
    assert wire.decode_failure(error.structure).limit == "memory"
