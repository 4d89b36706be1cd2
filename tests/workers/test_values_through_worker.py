"""Values on their way host, worker, host; what runs inside a worker, and what is there to be imported."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
import pytest_asyncio

from agentplug import Policy, SandboxedPlugin
from agentplug.errors import ContractError, ProtocolViolation
from tests.leftovers import QuietPlugin, _warmed, nothing_left  # noqa: F401


@dataclass
class Point:
    """A value of the user's own."""

    x: int
    y: int


class Local:
    """A class that a worker can't import: it lives in this file."""

    def __init__(self, number: int) -> None:
        self.number = number

    def doubled(self) -> int:
        """Twice the number."""
        return 2 * self.number


VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    -(2**200),
    0.1,
    math.inf,
    -0.0,
    "",
    "text \0 \u00e4\u4e2d\U0001f600 \ud800",
    b"",
    b"\xff" * 1000,
    [],
    [1, [2, [3, []]]],
    (),
    (1, "2", (3,)),
    {},
    {"a": 1, 2: "b", None: None, (1, 2): [3], 1.5: b"x", True: "yes"},
    set(),
    {1, "a", (2, 3)},
    datetime(2026, 11, 22, 1, 2, 3, 456_789),
    datetime(2026, 11, 22, tzinfo=UTC),
    Decimal("1.50"),
    Decimal("NaN").copy_sign(Decimal(-1)) if False else Decimal("-Infinity"),
    UUID(int=2**127 + 5),
    "long " * 100_000,
    list(range(50_000)),
]


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[SandboxedPlugin]:
    """A plugin that returns what it gets."""
    async with SandboxedPlugin(QuietPlugin) as plugin:
        yield plugin


async def test_values_come_back_as_they_went(echo: SandboxedPlugin) -> None:
    """Each supported kind goes to the worker and back with its exact type and value."""
    for value in VALUES:
        back = await echo.process(value)
        assert type(back) is type(value)
        assert back == value
    assert math.isnan(await echo.process(math.nan))
    assert math.copysign(1, await echo.process(-0.0)) == -1
    assert [type(key) for key in await echo.process({True: 1, 2: 1, "2": 1})] == [bool, int, str]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype="int16").reshape(3, 4),
        np.arange(12.0).reshape(3, 4).T,
        np.array(5.0),
        np.zeros((0, 3)),
        np.array(["a", "bc"]),
        np.array([b"x", b"yz"]),
        np.array([1 + 2j]),
        np.array(["2026-11-22", "NaT"], dtype="datetime64[s]"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.random.default_rng(1).random(500_000),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
async def test_arrays_come_back_as_they_went(echo: SandboxedPlugin, array: Any) -> None:
    """Arrays keep dtype, shape and every bit."""
    back = await echo.process({"array": array})
    assert (back["array"].dtype, back["array"].shape) == (array.dtype, array.shape)
    assert back["array"].tobytes() == array.tobytes()


async def test_tables_come_back_as_they_went(echo: SandboxedPlugin) -> None:
    """Series and DataFrames keep their index, columns, dtypes and missing values."""
    frame = pd.DataFrame(
        {
            "int": [1, 2, 3],
            "float": [0.5, None, 2.5],
            "text": ["a", None, "c"],
            "when": pd.to_datetime(["2026-11-22", None, "2026-11-24"], utc=True),
            "kind": pd.Categorical(["x", "y", "x"]),
            "flag": [True, False, True],
        },
        index=pd.Index([10, 20, 30], name="key"),
    )
    pd.testing.assert_frame_equal(await echo.process(frame), frame)
    series = frame["float"]
    pd.testing.assert_series_equal(await echo.process(series), series)
    both = await echo.process([frame, {"s": series}])
    pd.testing.assert_frame_equal(both[0], frame)
    pd.testing.assert_series_equal(both[1]["s"], series)


class UsingPlugin(QuietPlugin):
    """Uses objects of the host's own classes."""

    name = "using"

    async def process(self, input_data: Any) -> Any:
        if isinstance(input_data, list):
            return [item.doubled() for item in input_data]
        return input_data(20) if callable(input_data) else input_data


async def test_inputs_may_be_the_users_own_objects() -> None:
    """An instance of a class of this file, a lambda and a dataclass travel in; a dataclass comes back as a dict."""
    async with SandboxedPlugin(UsingPlugin) as plugin:
        assert await plugin.process([Local(4), Local(5)]) == [8, 10]
        assert await plugin.process(lambda x: x + 1) == 21
        assert await plugin.process(Point(1, 2)) == {"x": 1, "y": 2}


async def test_an_input_that_cannot_travel_is_named(echo: SandboxedPlugin) -> None:
    """A generator is refused before anything is sent, and the plugin can be called again."""
    with pytest.raises(ContractError, match=r"This input can't be sent to a worker: generator at value\['a'\]\[0\]"):
        await echo.process({"a": [(x for x in [])]})
    assert len(echo.runs) == 0
    assert await echo.process("x") == "x"


class ReplyingPlugin(QuietPlugin):
    """Replies with what no channel carries."""

    name = "replying"

    async def process(self, input_data: Any) -> Any:
        match input_data:
            case "object":
                return {"deep": [1, (object(), 2)]}
            case "instance":
                return [QuietPlugin()]
            case "object array":
                import numpy

                return numpy.array([object()])
            case "cycle":
                cycle: list[Any] = []
                cycle.append(cycle)
                return cycle
            case "function":
                return self.process
            case "key":
                return {frozenset([object()]): 1}
        return input_data


@pytest.mark.parametrize(
    ("what", "type_name", "where"),
    [
        ("object", "object", "value['deep'][1][0]"),
        ("instance", "tests.leftovers.QuietPlugin", "value[0]"),
        ("function", "method", "value"),
    ],
)
async def test_a_reply_that_cannot_leave_is_named(what: str, type_name: str, where: str) -> None:
    """`broken:unserializable`, with its type and its place; the worker lives and the next call works."""
    async with SandboxedPlugin(ReplyingPlugin) as plugin:
        pid = plugin.pid
        run = await plugin.run(what)
        assert str(run.verdict) == "broken:unserializable"
        (event,) = [event for event in run.events if event.kind == "unserializable"]
        assert (event.detail["type"], event.detail["where"]) == (type_name, where)
        with pytest.raises(ProtocolViolation, match="returned a value that can't leave its worker"):
            run.check()
        assert await plugin.process("fine") == "fine"
        assert plugin.pid == pid


@pytest.mark.parametrize("what", ["object array", "cycle", "key"])
async def test_other_replies_that_cannot_leave(what: str) -> None:
    """Object arrays, cycles and odd keys are `broken:unserializable` too, never an error of the host's."""
    async with SandboxedPlugin(ReplyingPlugin) as plugin:
        assert str((await plugin.run(what)).verdict) == "broken:unserializable"
        assert await plugin.process("fine") == "fine"


async def test_a_reply_over_the_limit_is_limited() -> None:
    """More than `reply` is `limited:reply`, with both figures; the next call works."""
    async with SandboxedPlugin(ReplyingPlugin, Policy(reply="1M")) as plugin:
        assert len(await plugin.process(b"x" * 1_000_000)) == 1_000_000
        run = await plugin.run(b"x" * 3_000_000)
        assert str(run.verdict) == "limited:reply"
        assert await plugin.process("fine") == "fine"


# ---------------------------------------------------------------------- inside

WORKER_SIDE = ("agentplug.errors", "agentplug.contract", "agentplug.core.boundary", "agentplug.core.worker")
HEAVY = ("numpy", "pandas", "matplotlib", "IPython", "ipykernel", "ipywidgets", "psutil", "typer", "rich")

LISTING = """
import sys
class ListingPlugin:
    name, version = "listing", "1"
    def initialize(self, config): pass
    def process(self, x): return sorted(sys.modules)
"""


async def test_nothing_of_the_hosts_side_is_in_a_worker(tmp_path: Path) -> None:
    """A worker has the folders `contract`, `core/boundary` and `core/worker`, and the standard library: no more."""
    path = tmp_path / "listing.py"
    path.write_text(LISTING)
    async with SandboxedPlugin(path) as plugin:
        modules = await plugin.process(None)
    assert [name for name in modules if name.partition(".")[0] in HEAVY] == []
    ours = {name for name in modules if name.partition(".")[0] == "agentplug"}
    folders = {"agentplug", "agentplug.core"}  # the packages themselves, which import nothing
    assert sorted(n for n in ours - folders if not f"{n}.".startswith(tuple(f"{at}." for at in WORKER_SIDE))) == []


async def test_nothing_of_the_hosts_process_is_in_a_worker() -> None:
    """Arguments, environment, stdin and current directory of a worker aren't the host's."""

    class LookingPlugin(QuietPlugin):
        async def process(self, input_data: Any) -> Any:
            import os
            import sys

            return [sys.argv, sorted(os.environ), sys.stdin.read(), os.getcwd() == os.environ["HOME"], os.listdir()]

    async with SandboxedPlugin(LookingPlugin, Policy(env={"GIVEN": "x"})) as plugin:
        argv, environment, stdin, at_home, files = await plugin.process(None)
        assert "" not in argv[1:]
        assert environment == ["GIVEN", "HOME", "LANG", "PATH"]
        assert (stdin, at_home, files) == ("", True, [])


class LibraryPlugin(QuietPlugin):
    """Uses the big libraries, imported after confinement."""

    name = "libraries"

    def process(self, input_data: Any) -> Any:  # type: ignore[override]
        if input_data == "numpy":
            import threading

            import numpy

            a = numpy.random.default_rng(0).random((400, 400))
            return [float(numpy.linalg.norm(a @ numpy.linalg.inv(a) - numpy.eye(400))), threading.active_count()]
        if input_data == "pandas":
            import pandas

            frame = pandas.DataFrame({"k": list("abab"), "v": range(4)})
            return frame.groupby("k")["v"].sum().to_dict()
        if input_data == "matplotlib":
            import io

            import matplotlib

            matplotlib.use("Agg")
            from matplotlib import pyplot

            figure, axes = pyplot.subplots()
            axes.plot([1, 2, 3])
            axes.set_title("drawn in a worker")
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            return buffer.getvalue()
        if input_data == "standard":
            import ctypes
            import decimal
            import json
            import locale
            import sqlite3
            import ssl
            import zoneinfo

            database = sqlite3.connect(":memory:")
            (answer,) = database.execute("select 6 * 7").fetchone()
            zone = zoneinfo.ZoneInfo("Europe/Berlin").key
            return [
                answer,
                zone,
                json.dumps(1),
                str(decimal.Decimal(1)),
                locale.getlocale()[1],
                ssl.OPENSSL_VERSION_INFO[0] > 0,
                ctypes.sizeof(ctypes.c_int),
            ]
        return None


@pytest.mark.parametrize("library", ["numpy", "pandas", "matplotlib", "standard"])
async def test_libraries_work_after_confinement(library: str) -> None:
    """numpy with its threads, pandas, matplotlib and the standard library work under the default policy, disk=0."""
    async with SandboxedPlugin(LibraryPlugin, Policy(cpu_s=60, wall_s=120)) as plugin:
        run = await plugin.run(library)
        assert str(run.verdict) == "completed", (run.error, run.stderr)
        value = run.value
    match library:
        case "numpy":
            assert value[0] < 1e-6
        case "pandas":
            assert value == {"a": 2, "b": 4}
        case "matplotlib":
            assert value.startswith(b"\x89PNG")
        case "standard":
            assert value == [42, "Europe/Berlin", "1", "1", "UTF-8", True, 4]


async def test_a_preloaded_library_is_there_at_once() -> None:
    """With `preload` a library is in the worker before it is confined, and works."""
    async with SandboxedPlugin(LibraryPlugin, Policy(preload=("numpy",))) as plugin:
        value = await plugin.process("numpy")
        assert value[0] < 1e-6
    from agentplug.core.host.launcher import zygote_for

    zygote_for(("numpy",)).close()


class BackgroundPlugin(QuietPlugin):
    """An asyncio plugin whose tasks go on between its calls."""

    name = "background"

    async def initialize(self, config: object) -> None:
        import asyncio

        self.ticks = 0
        self.task = asyncio.create_task(self.tick())

    async def tick(self) -> None:
        import asyncio

        while True:
            self.ticks += 1
            await asyncio.sleep(0.005)

    async def process(self, input_data: Any) -> Any:
        import asyncio

        if input_data == "nested":
            first, second = await asyncio.gather(asyncio.sleep(0.01, 1), asyncio.to_thread(lambda: 2))
            return first + second
        return self.ticks


async def test_background_tasks_go_on_between_calls() -> None:
    """A plugin's own tasks run while nobody calls it; gather and to_thread work inside a call."""
    import asyncio

    async with SandboxedPlugin(BackgroundPlugin) as plugin:
        before = await plugin.process(0)
        await asyncio.sleep(0.1)
        assert await plugin.process(0) - before >= 5
        assert await plugin.process("nested") == 3
        assert await plugin.process(0) > before


class OwnLoopPlugin:
    """A synchronous plugin that runs loops of its own."""

    name = "own loop"
    version = "1"

    def initialize(self, config: object) -> None:
        """Nothing to do."""

    def process(self, input_data: Any) -> Any:
        import asyncio

        async def answer() -> Any:
            await asyncio.sleep(0.001)
            return input_data

        return asyncio.run(answer())


class ThreadsPlugin(OwnLoopPlugin):
    """A synchronous plugin that works with a pool of threads."""

    name = "threads"

    def process(self, input_data: Any) -> Any:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            return sum(pool.map(lambda x: x * x, range(input_data)))


class MixedPlugin(OwnLoopPlugin):
    """Initializes in a coroutine, processes in a function that returns an awaitable."""

    name = "mixed"

    async def initialize(self, config: object) -> None:  # type: ignore[override]
        self.ready = True

    def process(self, input_data: Any) -> Any:
        async def later() -> Any:
            return [self.ready, input_data]

        return later()


@pytest.mark.parametrize(
    ("plugin_class", "given", "value"),
    [(OwnLoopPlugin, 5, 5), (ThreadsPlugin, 10, 285), (MixedPlugin, 1, [True, 1])],
)
async def test_plugins_of_every_style_work(plugin_class: type, given: Any, value: Any) -> None:
    """asyncio.run inside a call, thread pools, and awaitables from plain functions work, call after call."""
    async with SandboxedPlugin(plugin_class) as plugin:
        assert [await plugin.process(given) for _ in range(3)] == [value] * 3


async def test_dates_that_are_no_datetimes(echo: SandboxedPlugin) -> None:
    """date and timedelta either come back as they are, or are refused by name; never as something else."""
    for value in (date(2026, 11, 22), timedelta(days=1, microseconds=1)):
        run = await echo.run(value)
        if str(run.verdict) == "completed":
            assert (type(run.value), run.value) == (type(value), value)
        else:
            assert str(run.verdict) == "broken:unserializable"
