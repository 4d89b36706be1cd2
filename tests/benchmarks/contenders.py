"""What is measured side by side: each contender makes a number of small calls and tells the time of each, in seconds.

All get the same message and return it. Those of other packages are left out where these aren't installed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib.util
import multiprocessing
import os
import socket
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from agentplug import SandboxedPlugin

MESSAGE = {"id": 7, "role": "user", "text": "What is the capital of France?", "tokens": [1, 2, 3]}

Calls = Callable[[int], list[float]]
"""Makes so many calls; the seconds that each took."""


class EchoPlugin:
    """Returns what it gets, as an agent's plugin does: in a coroutine."""

    name = "echo"
    version = "1"

    async def initialize(self, config: object) -> None:
        """Nothing to do."""

    async def process(self, input_data: Any) -> Any:
        """The same object again."""
        return input_data


def same(value: Any) -> Any:
    """What the process pools call."""
    return value


def timed(call: Callable[[], Any]) -> Calls:
    """The times of a plain call."""

    def calls(count: int) -> list[float]:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return times

    return calls


@contextmanager
def agentplug_async() -> Iterator[Calls]:
    """`await plugin.run(x)` in the caller's loop: confined, measured, with a verdict."""
    with asyncio.Runner() as runner:
        plugin = SandboxedPlugin(EchoPlugin)
        runner.run(plugin.initialize())

        async def times(count: int) -> list[float]:
            found = []
            for _ in range(count):
                began = time.perf_counter()
                await plugin.run(MESSAGE)
                found.append(time.perf_counter() - began)
            return found

        yield lambda count: runner.run(times(count))
        runner.run(plugin.close())


@contextmanager
def agentplug_window() -> Iterator[Calls]:
    """The same by `map(window=32)`: the mean of each window's calls."""
    with asyncio.Runner() as runner:
        plugin = SandboxedPlugin(EchoPlugin)
        runner.run(plugin.initialize())

        async def times(count: int) -> list[float]:
            found = []
            began = time.perf_counter()
            async for run in plugin.map([MESSAGE] * count, window=32):
                if len(found) % 32 == 0:
                    now = time.perf_counter()
                    window_s, began = now - began, now
                found.append(window_s / run.usage.calls)
            return found

        yield lambda count: runner.run(times(count))
        runner.run(plugin.close())


@contextmanager
def agentplug_sync() -> Iterator[Calls]:
    """`plugin.run_sync(x)` in a script: one more loop and thread in between."""
    plugin = SandboxedPlugin(EchoPlugin)
    plugin.run_sync(MESSAGE)
    yield timed(lambda: plugin.run_sync(MESSAGE))
    plugin.close_sync()


@contextmanager
def process_pool_executor() -> Iterator[Calls]:
    """concurrent.futures, one process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        yield timed(lambda: pool.submit(same, MESSAGE).result())


@contextmanager
def multiprocessing_pool() -> Iterator[Calls]:
    """multiprocessing.Pool, one process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield timed(lambda: pool.apply(same, (MESSAGE,)))
        pool.close()
        pool.join()


@contextmanager
def pebble_pool() -> Iterator[Calls]:
    """pebble.ProcessPool, one process."""
    from pebble import ProcessPool

    with ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn")) as pool:
        yield timed(lambda: pool.schedule(same, args=[MESSAGE]).result())


@contextmanager
def loky_pool() -> Iterator[Calls]:
    """loky, one process."""
    from loky.process_executor import ProcessPoolExecutor

    with ProcessPoolExecutor(max_workers=1) as pool:
        yield timed(lambda: pool.submit(same, MESSAGE).result())


@contextmanager
def _echo_process() -> Iterator[socket.socket]:
    """A socket at whose other end a forked process sends everything back."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        while data := theirs.recv(4096):
            theirs.sendall(data)
        os._exit(0)
    theirs.close()
    with ours:
        yield ours
    os.waitpid(pid, 0)


_BYTES = struct.pack("100s", b"x")


@contextmanager
def socketpair() -> Iterator[Calls]:
    """The floor: 100 bytes over a blocking socket pair to another process and back."""
    with _echo_process() as sock:

        def call() -> None:
            sock.sendall(_BYTES)
            sock.recv(4096)

        yield timed(call)


@contextmanager
def asyncio_socketpair() -> Iterator[Calls]:
    """The same through asyncio's `add_reader`."""
    with _echo_process() as sock, asyncio.Runner() as runner:
        sock.setblocking(False)

        async def times(count: int) -> list[float]:
            loop = asyncio.get_running_loop()
            found = []
            waiting: asyncio.Future[bytes]

            def readable() -> None:
                waiting.set_result(sock.recv(4096))

            loop.add_reader(sock, readable)
            for _ in range(count):
                waiting = loop.create_future()
                began = time.perf_counter()
                sock.send(_BYTES)
                await waiting
                found.append(time.perf_counter() - began)
            loop.remove_reader(sock)
            return found

        yield lambda count: runner.run(times(count))


class TracedWrapper:
    """What the course chapter does: trace the host's own allocations around a call in the host, then compare."""

    def __init__(self, plugin: EchoPlugin, memory_limit_mb: float) -> None:
        self._plugin = plugin
        self._limit_mb = memory_limit_mb

    async def process(self, input_data: Any) -> Any:
        """One call, in this process."""
        tracemalloc.start()
        try:
            value = await self._plugin.process(input_data)
            peak_mb = tracemalloc.get_traced_memory()[1] / (1 << 20)
        finally:
            tracemalloc.stop()
        if peak_mb > self._limit_mb:
            raise RuntimeError(f"Plugin {self._plugin.name} exceeded memory limit: {peak_mb:.1f} MB")
        return value


@contextmanager
def chapter_wrapper() -> Iterator[Calls]:
    """The chapter's wrapper: in the host's process, nothing confined, nothing stopped."""
    wrapper = TracedWrapper(EchoPlugin(), 512)
    with asyncio.Runner() as runner:

        async def times(count: int) -> list[float]:
            found = []
            for _ in range(count):
                began = time.perf_counter()
                await wrapper.process(MESSAGE)
                found.append(time.perf_counter() - began)
            return found

        yield lambda count: runner.run(times(count))


OURS = "agentplug: await run(x)"


def contenders() -> dict[str, Callable[[], AbstractContextManager[Calls]]]:
    """Those that can run here, by the name in the table."""
    found: dict[str, Callable[[], AbstractContextManager[Calls]]] = {
        OURS: agentplug_async,
        "agentplug: map(window=32), a call": agentplug_window,
        "agentplug: run_sync(x)": agentplug_sync,
        "ProcessPoolExecutor": process_pool_executor,
        "multiprocessing.Pool": multiprocessing_pool,
    }
    for name, maker in (("pebble", pebble_pool), ("loky", loky_pool)):
        if importlib.util.find_spec(name) is not None:
            found[name] = maker
    return found | {
        "socketpair, blocking (floor)": socketpair,
        "socketpair, asyncio add_reader": asyncio_socketpair,
        "the chapter's wrapper, in process": chapter_wrapper,
    }
