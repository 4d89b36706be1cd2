"""What a plugin raised, as the host gets to hear of it; and workers that can't be understood."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from agentplug import SandboxedPlugin
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.frames import Failure
from agentplug.core.host.exchange import Exchange
from agentplug.core.worker import error_text as reporting
from agentplug.errors import BarrierUnavailable
from tests.leftovers import _warmed, nothing_left  # noqa: F401


class _Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit("no comment")


class _Interrupts(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class _Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit


class _Anonymous(Exception, metaclass=_Nameless):
    pass


class _Text(str):
    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise SystemExit


class _Typed(Exception):
    def __str__(self) -> str:
        return _Text("mine")


class _Numbered(OSError):
    @property
    def errno(self) -> int:  # type: ignore[override]
        raise SystemExit


def failure_of(error: BaseException) -> Failure:
    """What is reported of `error`, raised."""
    try:
        raise error
    except BaseException as raised:
        return reporting.failure(raised)


@pytest.mark.parametrize(
    ("error", "type_name", "message"),
    [
        (_Exits(), "_Exits", "(its text can't be made: SystemExit)"),
        (_Interrupts(), "_Interrupts", "(its text can't be made: KeyboardInterrupt)"),
        (_Anonymous("who"), "_Anonymous", "who"),
        (_Typed(), "_Typed", "mine"),
        (_Numbered("where"), "_Numbered", "where"),
        (OSError([errno.ENOSPC], "full"), "OSError", f"[Errno [{errno.ENOSPC}]] full"),
    ],
    ids=["exits", "interrupts", "has no name", "has a text of its own", "has no number", "has a list for a number"],
)
def test_no_exception_keeps_itself_from_being_reported(error: Exception, type_name: str, message: str) -> None:
    """Whatever its text, its name or its number do when they are asked for."""
    told = failure_of(error)
    assert (told.type, told.message, told.limit) == (type_name, message, "")


class SpeechlessPlugin:
    """Raises what exits when it is asked for its text."""

    name, version = "speechless", "1.0"

    async def initialize(self, config: dict[str, Any]) -> None: ...

    async def process(self, input_data: Any) -> Any:
        raise _Exits


@pytest.mark.need("landlock", "seccomp")
async def test_an_error_without_a_text_is_an_error_and_the_worker_goes_on() -> None:
    """The plugin raised: that is the verdict, and no reason to lose its worker."""
    async with SandboxedPlugin(SpeechlessPlugin()) as plugin:
        pid = plugin.pid
        for _ in range(2):
            run = await plugin.run(None)
            assert str(run.verdict) == "failed:_Exits"
            assert run.error is not None
            assert run.error.message == "(its text can't be made: SystemExit)"
        assert plugin.pid == pid


@pytest.mark.need("landlock", "seccomp")
@pytest.mark.parametrize(
    ("greeting", "fact"),
    [
        (b"\xc1", "MessagePack data is malformed"),
        (b"", "Input data was truncated"),
        (wire.encode_body(wire.Hello(wire.PROTOCOL + 1, [])), f"it speaks protocol {wire.PROTOCOL + 1}, and this"),
    ],
    ids=["garbage", "nothing", "another protocol"],
)
async def test_a_greeting_that_cant_be_read_is_no_barrier(
    greeting: bytes, fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what confines such a worker, so it never sees the plugin's bytes."""
    take = Exchange.take

    def garbled(exchange: Exchange, frame: wire.Frame, readings: Any) -> bool:
        if frame.kind == wire.HELLO:
            frame = frame._replace(structure=greeting)
        return take(exchange, frame, readings)

    monkeypatch.setattr(Exchange, "take", garbled)
    plugin = SandboxedPlugin(SpeechlessPlugin())
    with pytest.raises(BarrierUnavailable, match=fact) as caught:
        await plugin.start()
    assert "restart the kernel" in str(caught.value)
    assert plugin.state == "failed"
    await plugin.close()
