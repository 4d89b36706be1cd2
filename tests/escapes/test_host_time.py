"""Attacks on the host's time: what a plugin returns, writes or answers holds up neither the host's loop (`unharmed`
looks) nor another plugin's calls."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arena import LONGEST_GAP_S, Arena

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.host.conversation import our_loop
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.doctor.battery.pulse import queued_s
from agentplug.manager.audit.log import AuditLog
from agentplug.manager.manager import PluginManager


@pytest.fixture(scope="module", autouse=True)
def _loop() -> None:
    """The loop that observers are called on: there before the first stock-taking."""
    our_loop()


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """Leave what the other tests hold out of the collector's work, which takes longer the more there is."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


COLLIDING = """
import numpy as np, pandas as pd

def numbers(count):
    low = np.arange(1, 4 * count, dtype=np.uint64)
    high = np.uint64(12345) ^ low ^ ((low << np.uint64(11)) & np.uint64(0xFFFFFFFF))
    fits = high < (1 << 31)
    return ((high[fits][:count] << np.uint64(33)) | low[fits][:count]).astype(np.int64)

series = None

def attack(given):
    # A series of one item, whose categories share one hash in pandas' own hash tables.
    global series
    if series is None:
        labels = pd.CategoricalDtype(pd.Index(numbers(given)))
        series = pd.Series(pd.Categorical.from_codes(np.zeros(1, "i4"), dtype=labels))
    return series
"""

SERIES = """
import pandas as pd

reply = [pd.Series([], dtype=object)] * 1_900

def attack(given):
    return reply
"""

SURROGATES = """
def attack(given):
    return "\\ud800" * 340_000
"""

SURROGATE_COLUMN = """
import pandas as pd

reply = pd.Series(["\\ud800" * 1_000] * 1_000, dtype=object)

def attack(given):
    return reply
"""

TEXTS = """
import pandas as pd

reply = pd.Series([chr(0x400 + at % 0x3000) * 2 for at in range(1_000_000)])

def attack(given):
    return reply
"""

KEYS = """
from decimal import Decimal

reply = {Decimal(f"{at}E1999999") for at in range(10_000)}

def attack(given):
    return reply
"""

LISTS = """
reply = [[[1]] for _ in range(60_000)]

def attack(given):
    return reply
"""

ZONES = """
import zoneinfo
import pandas as pd

zones = sorted(zoneinfo.available_timezones())
reply = [pd.Timestamp("2024", tz=zones[at % len(zones)]) for at in range(1_700)]

def attack(given):
    return reply
"""

SMALL = """
from datetime import datetime, UTC

reply = [datetime(2024, 1, 1, tzinfo=UTC)] * 2_000  # below 64 KiB

def attack(given):
    return reply
"""

LARGE = """
def attack(given):
    return bytes(given)
"""

ATTACKS = {
    "colliding categories": (COLLIDING, 32_000),
    "empty series": (SERIES, None),
    "a text of lone surrogates": (SURROGATES, None),
    "texts of lone surrogates": (SURROGATE_COLUMN, None),
    "a million texts": (TEXTS, None),
    "keys that take long to hash": (KEYS, None),
    "lists in lists": (LISTS, None),
    "time zones": (ZONES, None),
    "a small reply of many values": (SMALL, None),
}


async def slowest_call(plugin: SandboxedPlugin, given: Any, count: int) -> float:
    """Return the longest time of so many calls in seconds, less what host and worker waited for a processor."""
    slowest_s = 0.0
    for _ in range(count):
        queued, begun_s = queued_s() + queued_s(plugin.pid), time.monotonic()
        run = await plugin.run(given)
        queued = queued_s() + queued_s(plugin.pid) - queued
        slowest_s = max(slowest_s, time.monotonic() - begun_s - queued)
        assert run.verdict == Verdict("completed")
    return slowest_s


@pytest.mark.parametrize("name", ATTACKS)
def test_costly_replies_keep_no_other_plugin_waiting(arena: Arena, name: str) -> None:
    """All are decoded in the one process, in turns: another plugin's large replies come within 100 ms, its small ones
    too, while this one's come without end."""
    code, given = ATTACKS[name]

    async def beside() -> tuple[set[Verdict], float]:
        async with arena.plugin(code) as hog, arena.plugin(LARGE) as other:
            verdicts = {(await hog.run(given)).verdict}
            await other.run(100_000)
            over = False

            async def calls() -> None:
                while not over:
                    verdicts.add((await hog.run(given)).verdict)

            calling = asyncio.create_task(calls())
            await asyncio.sleep(0)
            slowest_s = max(await slowest_call(other, 100_000, 15), await slowest_call(other, 0, 15))
            over = True
            await calling
            return verdicts, slowest_s

    verdicts, slowest_s = arena.watched(beside)
    assert verdicts == {Verdict("completed")}
    assert slowest_s < LONGEST_GAP_S


INITIALIZED = """
class Plugin:
    name, version = "initialized", "1"

    async def initialize(self, config):
        return ["x"] * 200_000 + [{str(at): 1 for at in range(60_000)}, *({} for _ in range(50_000))]

    async def process(self, given):
        return given
"""


def test_what_initialize_returns_is_not_decoded_on_the_loop(arena: Arena) -> None:
    """Nobody looks at it, and yet it is a reply as any other."""
    path = arena.folder / "initialized.py"
    path.write_text(INITIALIZED)

    async def call() -> Any:
        async with SandboxedPlugin(path) as plugin:
            return await plugin.process(1)

    assert arena.watched(call) == 1


FRESH = """
import asyncio, json, sys
from agentplug import SandboxedPlugin
from agentplug.doctor.battery.pulse import beating

async def main():
    async with SandboxedPlugin(sys.argv[1]) as plugin:
        assert "pandas" not in sys.modules
        async with beating() as pulse:
            pulse.begin()
            run = await plugin.run(None)
            print(json.dumps([str(run.verdict), repr(run.value), pulse.longest_s]))

asyncio.run(main())
"""

FIRST_TABLE = """
import pandas as pd

def attack(given):
    return pd.NaT
"""

FIRST_ARRAY = """
import numpy as np

def attack(given):
    return np.int64(1)
"""


@pytest.mark.parametrize(("code", "value"), [(FIRST_TABLE, "NaT"), (FIRST_ARRAY, "np.int64(1)")])
def test_a_first_table_of_a_host_is_no_import_on_its_loop(arena: Arena, code: str, value: str) -> None:
    """A few bytes that name pandas make the host import it: on a decoding thread."""
    arena.plugin(code)
    [path] = arena.folder.glob("attack_*.py")

    host = subprocess.run(
        [sys.executable, "-c", FRESH, str(path)], capture_output=True, text=True, timeout=60, check=True
    )

    verdict, given, longest_s = json.loads(host.stdout)
    assert (verdict, given) == ("completed", value)
    assert longest_s < LONGEST_GAP_S


DENSE = """
class Plugin:
    name, version, hooks = "dense", "1", {hooks}

    async def initialize(self, config):
        self.reply = {reply}

    async def process(self, given):
        return given

    async def on_message(self, point, message):
        return self.reply
"""

DENSE_REPLIES = {
    "ints": '[{"type": "x", "v": [1] * 480_000}]',
    "floats": '[{"type": "x", "v": [0.5] * 110_000}]',
    "lists": '[{"type": "x", "v": [[1, 2]] * 120_000}]',
    "keys": '[{"type": "x", "v": {str(at): 1 for at in range(90_000)}}]',
    "parts": '[{"type": "text", "content": "x"}] * 30_000',
    "many values": '[{"type": "x", "v": [[at] for at in range(12_000)]}]',
    "the whole message": '{"parts": [{"type": "x", "v": [1] * 480_000}], "redactions": [[1, 2]] * 120_000}',
}


@pytest.mark.parametrize("kind", ["transform", "veto", "observe"])
@pytest.mark.parametrize("how", DENSE_REPLIES)
def test_dense_answers_of_hooks_hold_no_agent_up(arena: Arena, how: str, kind: str) -> None:
    """Nor does what an audit writes of them, with their content."""
    path: Path = arena.folder / "dense.py"
    path.write_text(DENSE.replace("{hooks}", f"{{'input': {kind!r}}}").replace("{reply}", DENSE_REPLIES[how]))

    async def dispatch() -> list[bool]:
        async with PluginManager(Policy(hooks={"input": kind}), audit=log) as manager:
            await manager.load(str(path))
            allowed = []
            for _ in range(2):
                message = AgentMessage(point="input", parts=[{"type": "text", "content": "hi"}])
                allowed.append((await manager.dispatch(message)).allowed)
            await manager.drain()
        return allowed

    with AuditLog(arena.folder / "audit.jsonl", content=True, fsync="never") as log:
        allowed = arena.watched(dispatch)
    assert allowed == [kind == "observe" or (kind == "transform" and how == "many values")] * 2


FLOOD = """
import os

def attack(block):
    while True:
        os.write(1, block.encode())
"""


@pytest.mark.parametrize("length", [1, 100, 65_536])
def test_a_flood_of_output_costs_the_host_a_small_share(arena: Arena, length: int) -> None:
    """However little is written at a time, also after the cap."""

    async def call() -> tuple[Run, float]:
        async with arena.plugin(FLOOD, Policy(wall_s=1.5)) as plugin:
            begun_s = time.process_time()
            run = await plugin.run("x" * length)
            return run, time.process_time() - begun_s

    run, host_s = asyncio.run(call())  # without a pulse, which costs more than the flood
    assert run.verdict == Verdict("limited", "wall")
    assert host_s < 0.15 * run.usage.wall_s
