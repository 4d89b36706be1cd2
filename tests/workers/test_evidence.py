"""An error that a limit might have caused, and didn't: what the plugin raises itself is its own."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from agentplug import Policy, SandboxedPlugin
from tests.leftovers import _warmed, nothing_left  # noqa: F401

pytestmark = pytest.mark.need("landlock", "seccomp")


class ErrorPlugin:
    """Raises, or lets the kernel refuse, what its input says."""

    name, version = "error", "1.0"

    async def initialize(self, config: dict[str, Any]) -> None: ...

    async def process(self, what: Any) -> Any:
        import mmap
        import os
        import tempfile

        if isinstance(what, int):
            raise OSError(what, os.strerror(what))
        match what:
            case "empty pipe":
                reader, _ = os.pipe()
                os.set_blocking(reader, False)
                return os.read(reader, 1)
            case "fork":
                return os.fork()
            case "reraise":
                try:
                    mmap.mmap(-1, 1 << 45)
                except OSError as error:
                    raise error
            case "fill":
                with tempfile.TemporaryFile(dir=".") as file:
                    for _ in range(64):
                        file.write(b"x" * (1 << 16))
            case "files":
                return [os.open("/dev/null", os.O_RDONLY) for _ in range(1000)]
            case "full device":
                with open("/dev/full", "wb") as file:
                    file.write(b"x")
        return what


@pytest.mark.parametrize("name", ["EAGAIN", "ENOSPC", "EDQUOT", "EFBIG", "EMFILE"])
async def test_a_number_alone_is_no_limit(name: str) -> None:
    """Raised by hand, with nothing behind it, in a worker with plenty of room."""
    number = getattr(errno, name)
    async with SandboxedPlugin(ErrorPlugin(), Policy(disk="1M")) as plugin:
        run = await plugin.run(number)
    assert str(run.verdict) == f"failed:{type(OSError(number, '')).__name__}"


async def test_out_of_memory_by_hand_is_no_limit() -> None:
    """Where the kernel tells what is tried, it would have told of the ways to hide memory; elsewhere it counts."""
    async with SandboxedPlugin(ErrorPlugin()) as plugin:
        run = await plugin.run(errno.ENOMEM)
        assert plugin._inside.life.worker is not None
        told = plugin._inside.life.worker.listener is not None
    assert str(run.verdict) == ("failed:OSError" if told else "limited:memory")


async def test_an_empty_pipe_is_no_process_limit() -> None:
    """EAGAIN is what a fork gets that isn't allowed, and what a pipe says that has nothing to read."""
    async with SandboxedPlugin(ErrorPlugin()) as plugin:
        assert str((await plugin.run("empty pipe")).verdict) == "failed:BlockingIOError"
        assert str((await plugin.run("fork")).verdict) == "limited:processes"
        assert str((await plugin.run("empty pipe")).verdict) == "failed:BlockingIOError"


async def test_a_full_device_is_no_disk_limit() -> None:
    """The disk of a granted path has bounds of its own; the scratch directory is empty."""
    async with SandboxedPlugin(ErrorPlugin(), Policy(disk="1M", write=("/dev/full",))) as plugin:
        run = await plugin.run("full device")
    assert str(run.verdict) == "failed:OSError"
    assert run.error is not None
    assert os.strerror(errno.ENOSPC) in run.error.message


@pytest.mark.parametrize(
    ("what", "limit"), [("fork", "processes"), ("reraise", "memory"), ("fill", "disk"), ("files", "files")]
)
async def test_what_a_limit_refused_is_that_limit(what: str, limit: str) -> None:
    """Also in the middle of a window, and where nothing is left of it once the error is there."""
    async with SandboxedPlugin(ErrorPlugin(), Policy(disk="1M")) as plugin:
        assert str((await plugin.run(what)).verdict) == f"limited:{limit}"
        runs = [run async for run in plugin.map(["a", what, "b"], window=3)]
        assert [str(run.verdict) for run in runs] == ["completed", f"limited:{limit}", "completed"]


class AskingPlugin:
    """Asks the kernel for amounts, in one call each, and returns the error's number."""

    name, version = "asking", "1.0"

    async def initialize(self, config: dict[str, Any]) -> None: ...

    async def process(self, what: list[Any]) -> Any:
        import mmap
        import os

        way, amount = what
        try:
            if way == "heap":
                return len(bytearray(amount))
            if way == "shared":
                return len(mmap.mmap(-1, amount))
            if way == "reserve":
                return len(mmap.mmap(-1, amount, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 0))
            with open("file", "wb") as file:
                os.ftruncate(file.fileno(), amount) if way == "size" else os.posix_fallocate(file.fileno(), 0, amount)
        except (MemoryError, OSError) as error:
            return getattr(error, "errno", errno.ENOMEM)
        return "done"


@pytest.mark.parametrize(
    ("what", "limits"),
    [
        (["heap", 1 << 20], set()),
        (["heap", 8 << 30], {"memory"}),
        (["shared", 60 << 20], set()),
        (["shared", 65 << 20], {"memory"}),
        (["reserve", 65 << 20], set()),
        (["size", 1 << 20], set()),
        (["size", 3 << 20], {"disk"}),
        (["blocks", 3 << 20], {"disk"}),
    ],
    ids=str,
)
async def test_a_request_beyond_a_limit_leaves_a_trace(what: list[Any], limits: set[str]) -> None:
    """The kernel shows the host what was asked for, in one call, until the next call begins."""
    async with SandboxedPlugin(AskingPlugin(), Policy(memory="64M", disk="2M")) as plugin:
        await plugin.process(what)
        listener = plugin._inside.life.worker.listener
        assert listener.asked_beyond == limits

        await plugin.process(["heap", 1])
        assert listener.asked_beyond == set()
