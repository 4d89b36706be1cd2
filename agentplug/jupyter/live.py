"""A line that says how a running cell is doing (host): elapsed time, memory and CPU, taken away at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import Any

import psutil
from IPython.core.getipython import get_ipython
from IPython.display import display

from agentplug.contract.explain import format_seconds
from agentplug.contract.policy import format_size
from agentplug.contract.run import Run
from agentplug.sandbox.conversation import wait_for
from agentplug.sandboxed import SandboxedPlugin

INTERVAL_S = 0.25


def with_progress(plugin: SandboxedPlugin, value: Any) -> Run:
    """`plugin.run(value)`, waited for under a line of progress."""
    line = _Line()
    try:
        return wait_for(_watched(plugin, value, line))
    finally:
        line.show("")


class _Line:
    """One display, updated in place. An update may come from any thread: the context carries the cell.

    A terminal can't update what it has printed, so it gets no line.
    """

    def __init__(self) -> None:
        self._id = f"agentplug-{uuid.uuid4().hex}"
        self._updates = hasattr(get_ipython(), "kernel")
        self._display("starting a worker …")

    def show(self, text: str) -> None:
        self._display(text, update=True)

    def _display(self, text: str, *, update: bool = False) -> None:
        if self._updates:
            display({"text/plain": text}, raw=True, display_id=self._id, update=update)  # type: ignore[no-untyped-call]


async def _watched(plugin: SandboxedPlugin, value: Any, line: _Line) -> Run:
    task = asyncio.ensure_future(plugin.run(value))
    started_s = time.monotonic()
    try:
        while not (await asyncio.wait({task}, timeout=INTERVAL_S))[0]:
            line.show(_status(plugin, time.monotonic() - started_s))
    except asyncio.CancelledError:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        raise
    return task.result()


def _status(plugin: SandboxedPlugin, elapsed_s: float) -> str:
    policy = plugin.policy
    told = f"running for {format_seconds(elapsed_s)} of {policy.wall_s:g} s"
    pid = plugin.pid
    if pid is None:  # which psutil would take for the notebook's kernel
        return told
    try:
        process = psutil.Process(pid)
        rss_bytes, cpu = process.memory_info().rss, process.cpu_times()
    except psutil.Error:  # it has just ended
        return told
    used = f"CPU {format_seconds(cpu.user + cpu.system)} of {policy.cpu_s:g} s"
    return f"{told} · {used} · footprint {format_size(rss_bytes)} (may add {format_size(float(policy.memory))})"
