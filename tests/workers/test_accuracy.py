"""How exact the figures are, against workloads whose cost is known."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agentplug import Policy, SandboxedPlugin
from agentplug.core.host.launcher import zygote_for
from tests.leftovers import _warmed, nothing_left  # noqa: F401

MIB = 1 << 20
SPIKE_BYTES = 8 * MIB
MOST_OFF_BYTES = MIB
MOST_OFF_S = 0.002
POLICY = Policy(memory="256M")


class KnownPlugin:
    """Spends a known amount, and says what it spent where only it can know."""

    name, version = "known", "1"

    async def initialize(self, config: object) -> None: ...

    async def process(self, what: tuple[str, float]) -> object:
        import asyncio
        import ctypes
        import mmap
        import os
        import time
        import tracemalloc

        way, amount = what

        def fill_a_map(size: int) -> None:
            area = mmap.mmap(-1, size)
            first = ctypes.c_char.from_buffer(area)
            ctypes.memset(ctypes.addressof(first), 1, size)
            del first
            area.close()

        if way == "spike":  # there and gone again within some two milliseconds
            began = time.perf_counter()
            fill_a_map(int(amount))
            return time.perf_counter() - began
        if way in {"mmap", "malloc", "numpy", "bytes"}:
            size = int(amount)
            tracemalloc.start()
            if way == "mmap":
                fill_a_map(size)
            elif way == "malloc":
                libc = ctypes.CDLL(None)
                libc.malloc.restype = ctypes.c_void_p
                block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
                ctypes.memset(block, 1, size)
                libc.free(block)
            elif way == "numpy":
                import numpy as np

                np.ones(size, dtype="uint8").sum()
            else:
                len(b"x" * size)
            traced = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return traced
        if way == "cpu":
            began = time.process_time()
            while time.process_time() - began < amount:
                sum(range(5_000))
            return time.process_time() - began
        if way == "crash":
            kept = b"x" * int(amount)
            await asyncio.sleep(0.05)
            os.abort()
            return len(kept)
        return None


@pytest_asyncio.fixture
async def known() -> AsyncIterator[SandboxedPlugin]:
    """The plugin, its first calls (and what they import) behind it."""
    async with SandboxedPlugin(KnownPlugin, POLICY) as plugin:
        await plugin.process(("numpy", 1))
        yield plugin


async def test_a_spike_that_no_sampler_meets_is_in_the_peak(known: SandboxedPlugin) -> None:
    """8 MiB for a moment: the peak is right to a mebibyte, whether or not a reading fell into it."""
    for _ in range(20):
        run = await known.run(("spike", SPIKE_BYTES))
        added = run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes
        assert abs(added - SPIKE_BYTES) < MOST_OFF_BYTES, run.value


@pytest.mark.parametrize("way", ["bytes", "mmap", "malloc", "numpy"])
async def test_every_way_to_take_memory_is_seen(known: SandboxedPlugin, way: str) -> None:
    """Whoever allocates. What tracemalloc saw of mmap and malloc meanwhile is next to nothing."""
    await known.process((way, MIB))
    run = await known.run((way, 48 * MIB))
    added = run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes
    assert abs(added - 48 * MIB) < MOST_OFF_BYTES
    if way in {"mmap", "malloc"}:
        assert run.value < MIB


class PiecesPlugin(KnownPlugin):
    """Fills the heap: pieces as large as malloc takes from there."""

    async def process(self, count: int) -> int:
        return len([b"x" * 100_000 for _ in range(count)])


async def test_memory_that_was_free_in_the_zygote_is_no_gift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What importing took and let go of stays in the heap: a worker that fills it takes it all the same."""
    count = 160
    code = f"pieces = [b'x' * 100_000 for _ in range({2 * count})]\nlast = b'x' * 100_000\ndel pieces\n"
    with zipfile.ZipFile(tmp_path / "wasteful.zip", "w") as file:
        file.writestr("wasteful.py", code)
    monkeypatch.syspath_prepend(str(tmp_path / "wasteful.zip"))
    try:
        for _ in range(2):
            async with SandboxedPlugin(PiecesPlugin, POLICY.replace(preload="wasteful")) as plugin:
                run = await plugin.run(count)
            assert run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes > count * 100_000 - MOST_OFF_BYTES
    finally:
        zygote_for(("wasteful",)).close()


@pytest.mark.parametrize("seconds", [0.003, 0.05, 0.2])
async def test_cpu_time_is_right_to_two_milliseconds(known: SandboxedPlugin, seconds: float) -> None:
    run = await known.run(("cpu", seconds))
    assert abs(run.usage.cpu_s - run.value) < MOST_OFF_S


async def test_plugins_that_run_together_are_charged_apart() -> None:
    """One takes memory, one CPU, one nothing; each is charged for its own."""
    async with (
        SandboxedPlugin(KnownPlugin, POLICY) as hungry,
        SandboxedPlugin(KnownPlugin, POLICY) as busy,
        SandboxedPlugin(KnownPlugin, POLICY) as idle,
    ):
        for plugin in (hungry, busy, idle):
            await plugin.process(("none", 0))
        memory, cpu, *idles = await asyncio.gather(
            hungry.run(("bytes", 100 * MIB)),
            busy.run(("cpu", 0.2)),
            *(idle.run(("none", 0)) for _ in range(20)),
        )
    assert memory.usage.peak_memory_bytes - memory.usage.baseline_memory_bytes > 99 * MIB
    assert abs(cpu.usage.cpu_s - cpu.value) < MOST_OFF_S
    for run in (cpu, *idles):
        assert run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes < MOST_OFF_BYTES
    assert all(run.usage.cpu_s < MOST_OFF_S for run in idles)


async def test_the_last_sample_of_a_dying_worker_is_no_zero(known: SandboxedPlugin) -> None:
    """A process that has ended reads as gone, and no reading is made up."""
    run = await known.run(("crash", 20 * MIB))
    assert str(run.verdict) == "died:SIGABRT"
    samples = run.samples
    assert len(samples) > 3
    assert (samples["rss_bytes"] > 10 * MIB).all()
    assert samples["rss_bytes"].iloc[-1] > 30 * MIB
    assert samples["cpu_s"].is_monotonic_increasing
    assert run.usage.peak_memory_bytes > 30 * MIB
