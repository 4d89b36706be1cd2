"""How long it takes until a worker, or a pool's process, is there: one start, in seconds."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib.util
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable

from agentplug import Policy, SandboxedPlugin
from tests.benchmarks.contenders import EchoPlugin, same


def agentplug_start(policy: Policy | None = None, pause_s: float = 0.05) -> Callable[[asyncio.Runner], float]:
    """`SandboxedPlugin.start()` from a warm zygote: forked, confined, the plugin loaded. Starts come one by one."""

    def start(runner: asyncio.Runner) -> float:
        plugin = SandboxedPlugin(EchoPlugin, policy)
        time.sleep(pause_s)
        began = time.perf_counter()
        runner.run(plugin.start())
        took = time.perf_counter() - began
        runner.run(plugin.close())
        return took

    return start


def agentplug_answer(runner: asyncio.Runner) -> float:
    """From making the plugin object to its first answer: pickled, started, initialized, called."""
    time.sleep(0.05)
    began = time.perf_counter()
    plugin = SandboxedPlugin(EchoPlugin)
    runner.run(plugin.process(1))
    took = time.perf_counter() - began
    runner.run(plugin.close())
    return took


def process_pool_start(method: str) -> Callable[[asyncio.Runner], float]:
    """A ProcessPoolExecutor of one process, until it has answered once. Nothing is confined."""

    def start(_: asyncio.Runner) -> float:
        began = time.perf_counter()
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
            pool.submit(same, 1).result()
            return time.perf_counter() - began

    return start


def multiprocessing_start(_: asyncio.Runner) -> float:
    """A multiprocessing.Pool of one process, until it has answered once."""
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(same, (1,))
        return time.perf_counter() - began


def sandlock_start(_: asyncio.Runner) -> float:
    """A fresh interpreter confined by sandlock, which starts one for each task and has no worker that waits."""
    from sandlock import Sandbox

    readable = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/proc/self", "/dev/urandom", sys.prefix]
    box = Sandbox(fs_readable=readable, max_memory=128 << 20, max_processes=1, max_open_files=64, clean_env=True)
    began = time.perf_counter()
    done = box.run([sys.executable, "-Ic", ""], timeout=10)
    took = time.perf_counter() - began
    if not done.success:
        raise RuntimeError(f"sandlock can't start a program here: {done.error or done.exit_code}")
    return took


def interpreter(code: str) -> Callable[[asyncio.Runner], float]:
    """A fresh interpreter that runs `code`."""

    def start(_: asyncio.Runner) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return start


OURS = "agentplug: start()"
IMPORT, BARE = "import agentplug, fresh interpreter", "fresh interpreter, bare"
SANDLOCK = "sandlock: fresh interpreter, confined"
STARTS: dict[str, Callable[[asyncio.Runner], float]] = {
    OURS: agentplug_start(),
    "agentplug: start(), one after another": agentplug_start(pause_s=0),
    "agentplug: start(), numpy preloaded": agentplug_start(Policy(preload=("numpy",))),
    "agentplug: new, start, initialize, call": agentplug_answer,
    "ProcessPoolExecutor, spawn": process_pool_start("spawn"),
    "ProcessPoolExecutor, forkserver": process_pool_start("forkserver"),
    "multiprocessing.Pool, spawn": multiprocessing_start,
    BARE: interpreter(""),
    IMPORT: interpreter("import agentplug"),
    "import of all public names": interpreter("from agentplug import *"),
} | ({SANDLOCK: sandlock_start} if importlib.util.find_spec("sandlock") else {})
