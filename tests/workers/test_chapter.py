"""The course chapter's code as its reader types it, and each of its defects shown gone.

The chapter's own manager and wrapper ran everything inside the host process; what its users met is listed in the
names below.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplug import (
    AgentPlugin,
    ContractError,
    DuplicatePlugin,
    LimitExceeded,
    PluginError,
    PluginManager,
    PluginNotFound,
    Policy,
    SandboxedPlugin,
    SpecError,
    UnknownHook,
    load_plugin_from_module,
)
from tests.leftovers import _warmed, eventually, nothing_left, python, workers  # noqa: F401

MIB = 1 << 20


class UppercasePlugin:
    """The chapter's first plugin: plain, conforming to the Protocol without inheriting from it."""

    name = "uppercase"
    version = "1.0.0"

    def __init__(self) -> None:
        self.config: dict[str, Any] | None = None

    async def initialize(self, config: dict[str, Any]) -> None:
        self.config = config

    async def process(self, input_data: Any) -> Any:
        if input_data == "config":
            return self.config
        return input_data.upper()


class ExclaimPlugin(UppercasePlugin):
    """A second one."""

    name = "exclaim"

    async def process(self, input_data: Any) -> Any:
        return f"{input_data}!"


class HungryPlugin(UppercasePlugin):
    """Takes as many MiB as it is told, by the way it is told."""

    name = "hungry"

    async def process(self, input_data: Any) -> Any:
        import mmap

        way, mib = input_data
        if way == "heap":
            held: Any = [bytearray(b"x" * MIB) for _ in range(mib)]
        elif way == "mmap":
            held = mmap.mmap(-1, mib * MIB)
            for at in range(0, mib * MIB, 4096):
                held[at] = 1
        else:
            import numpy as np

            held = np.ones(mib * MIB // 8)
        return len(held)


class EndingPlugin(UppercasePlugin):
    """Ends, or tries to."""

    name = "ending"

    async def process(self, input_data: Any) -> Any:
        if input_data == "exit":
            sys.exit(4)
        if input_data == "segfault":
            import ctypes

            ctypes.string_at(0)
        if input_data == "cancel":
            raise asyncio.CancelledError("forged")
        if input_data == "interrupt":
            raise KeyboardInterrupt
        if input_data == "hang":
            await asyncio.Event().wait()
        return input_data


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `chapter_plugins` on `sys.path`, to be filled with modules."""
    folder = tmp_path / "chapter_plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    assert [name for name in sys.modules if name.startswith("chapter_plugins")] == []
    importlib.invalidate_caches()


PLUGIN_CODE = """
class {name}:
    name = "{plugin}"
    version = "1.0"
    async def initialize(self, config): pass
    async def process(self, input_data): return {result}
"""


# ---------------------------------------------------------------------- as its reader types it


async def test_register_without_await_then_process() -> None:
    """`manager.register(plugin)` is a plain call inside a running loop; `process` waits until it is initialized."""
    manager = PluginManager()
    manager.register(UppercasePlugin())
    manager.register(ExclaimPlugin())
    assert await manager.process("hello") == "HELLO!"
    assert list(manager.plugins) == ["uppercase", "exclaim"]
    await manager.close()


def test_register_outside_a_loop_then_run() -> None:
    """Registering in a script, before any loop runs, works and leaves no plugin half-registered."""
    manager = PluginManager()
    manager.register(UppercasePlugin())
    assert asyncio.run(manager.process("hello")) == "HELLO"
    asyncio.run(manager.close())


async def test_registering_may_be_awaited() -> None:
    """Awaiting what `register` returns gives the plugin, ready."""
    async with PluginManager() as manager:
        plugin = await manager.register(UppercasePlugin())
        assert plugin is manager.plugins["uppercase"]
        assert plugin.state == "ready"


async def test_second_registration_of_a_name_is_refused() -> None:
    """Two plugins of one name: the chapter's ValueError, in its words, and the first one stays."""
    async with PluginManager() as manager:
        manager.register(UppercasePlugin())
        with pytest.raises(ValueError, match=r"^Plugin uppercase already registered$") as caught:
            manager.register(UppercasePlugin())
        assert type(caught.value) is DuplicatePlugin
        assert await manager.process("a") == "A"
    assert workers() == []


async def test_hooks_sync_and_async_see_and_change_the_data() -> None:
    """`register_hook("pre_process", cb)` takes functions and coroutines; a returned value replaces the data."""
    seen: list[Any] = []

    async def before(data: str) -> str:
        seen.append(("before", data))
        return f"{data} b"

    def after(data: str) -> None:
        seen.append(("after", data))

    async with PluginManager() as manager:
        manager.register(UppercasePlugin())
        manager.register_hook("pre_process", before)
        handle = manager.register_hook("post_process", after)
        assert await manager.process("a") == "A B"
        assert seen == [("before", "a"), ("after", "A B")]
        handle.remove()
        handle.remove()
        await manager.process("c")
        assert seen[2:] == [("before", "c")]


async def test_run_hooks_passes_arguments_and_gathers_results() -> None:
    """`await run_hooks(name, *args, **kwargs)` calls each callback in order with what it was given."""
    manager = PluginManager()
    manager.register_hook("pre_process", lambda data, factor: data * factor)
    manager.register_hook("pre_process", lambda data, factor: None)
    manager.register_hook("pre_process", lambda data, factor: data + factor)
    assert await manager.run_hooks("pre_process", 5, factor=2) == [10, None, 12]
    assert await manager.run_hooks("post_process", 5) == []


@pytest.mark.parametrize("name", ["pre_proces", "", "nothing like it"])
async def test_unknown_hook_is_an_error(name: str) -> None:
    """A misspelt hook isn't silence: the chapter's ValueError in its words, with the near name as a note."""
    manager = PluginManager()
    with pytest.raises(ValueError, match=r"^Unknown hook") as caught:
        manager.register_hook(name, print)
    assert (type(caught.value), str(caught.value)) == (UnknownHook, f"Unknown hook: {name}")
    with pytest.raises(UnknownHook, match=r"^Unknown hook"):
        await manager.run_hooks(name, 1)
    (note,) = caught.value.__notes__
    assert note == "Did you mean 'pre_process'?" if name == "pre_proces" else note.startswith("The hooks are pre_")


async def test_memory_limit_raises_in_the_chapters_words() -> None:
    """`SandboxedPlugin(plugin, memory_limit_mb=64)`: over the limit is a RuntimeError with both figures."""
    plugin = SandboxedPlugin(HungryPlugin(), memory_limit_mb=64)
    assert await plugin.process(("heap", 20)) == 20
    with pytest.raises(RuntimeError, match=r"^Plugin hungry exceeded memory limit: [0-9.]+ MB > 64\.0 MB") as caught:
        await plugin.process(("heap", 300))
    assert type(caught.value) is LimitExceeded
    assert str(caught.value.run.verdict) == "limited:memory"
    await plugin.close()


def test_load_plugin_from_module(package: Path) -> None:
    """`load_plugin_from_module("pkg.mod")` gives a ready plugin whose module the host never imported."""
    (package / "shout.py").write_text(PLUGIN_CODE.format(name="ShoutPlugin", plugin="shout", result="input_data * 2"))
    plugin = load_plugin_from_module("chapter_plugins.shout")
    assert isinstance(plugin, AgentPlugin)
    assert (plugin.name, plugin.version, plugin.state) == ("shout", "1.0", "ready")
    assert asyncio.run(plugin.process("ab")) == "abab"
    plugin.close_sync()


@pytest.mark.parametrize(
    ("code", "message"),
    [("", "No plugin class found in chapter_plugins.empty"), ("class Thing: pass", r"it defines Thing\)")],
)
def test_module_without_a_plugin_is_a_value_error(package: Path, code: str, message: str) -> None:
    """A module without a plugin class: ValueError, saying what it has instead; no worker stays."""
    (package / "empty.py").write_text(code)
    with pytest.raises(ValueError, match=message) as caught:
        load_plugin_from_module("chapter_plugins.empty")
    assert type(caught.value) is PluginNotFound
    assert workers() == []


# ---------------------------------------------------------------------- its defects


def test_asyncio_needs_no_import() -> None:
    """The chapter's modules used asyncio without importing it: registering works in a script that doesn't either."""
    done = python(
        "from agentplug import PluginManager\n"
        "class P:\n"
        "    name, version = 'p', '1'\n"
        "    async def initialize(self, config): pass\n"
        "    async def process(self, x): return x\n"
        "manager = PluginManager()\n"
        "manager.register(P())\n"
        "print(list(manager.plugins))\n"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("['p']\n", "", 0)


class NotInitializingPlugin(UppercasePlugin):
    """Its initialization fails."""

    name = "broken"

    async def initialize(self, config: dict[str, Any]) -> None:
        raise ConnectionError("no database")


async def test_initialization_errors_do_not_vanish() -> None:
    """Un-awaited, the error of `initialize` comes out of the next `process`, and the plugin is gone by then."""
    async with PluginManager() as manager:
        manager.register(NotInitializingPlugin())
        with pytest.raises(PluginError, match="Plugin broken raised ConnectionError: no database"):
            await manager.process("x")
        assert dict(manager.plugins) == {}
        assert await manager.process("x") == "x"


async def test_initialization_errors_come_where_they_are_awaited() -> None:
    """Awaited, the error is raised right there, once, and the name is free again."""
    async with PluginManager() as manager:
        with pytest.raises(PluginError, match="no database"):
            await manager.register(NotInitializingPlugin())
        assert dict(manager.plugins) == {}
        again = manager.register(NotInitializingPlugin())
        with pytest.raises(PluginError, match="no database"):
            await again


async def test_initialization_errors_come_at_the_latest_when_the_manager_closes() -> None:
    """Nobody called anything: leaving the manager raises the error, after everything was closed."""
    manager = PluginManager()
    manager.register(UppercasePlugin())
    registration = manager.register(NotInitializingPlugin())
    assert await asyncio.to_thread(eventually, lambda: registration.failure() is not None)
    with pytest.raises(PluginError, match="no database"):
        await manager.close()
    assert workers() == []


class SlowPlugin(UppercasePlugin):
    """Takes its time to initialize."""

    name = "slow"

    async def initialize(self, config: dict[str, Any]) -> None:
        await asyncio.sleep(0.2)
        self.config = config

    async def process(self, input_data: Any) -> Any:
        return self.config


async def test_process_waits_for_initialize() -> None:
    """A plugin is never called before it is initialized, and its config is the one given, not always {}."""
    async with PluginManager() as manager:
        manager.register(SlowPlugin(), {"model": "small"})
        assert await manager.process("x") == {"model": "small"}
        assert await SandboxedPlugin(SlowPlugin).process("x") == {}


class NamelessPlugin:
    """Breaks the contract."""

    version = "1.0"

    async def process(self, input_data: Any) -> Any:
        return input_data


@pytest.mark.parametrize("broken", [NamelessPlugin, NamelessPlugin(), object(), 5, None])
async def test_the_contract_is_checked(broken: object) -> None:
    """What isn't a plugin is refused when it is registered, by name of what it lacks; nothing is registered."""
    async with PluginManager() as manager:
        with pytest.raises((ContractError, SpecError), match=r"name|no plugin|can't be made from a value of type"):
            await manager.register(broken)
        assert dict(manager.plugins) == {}


async def test_unregister_ends_the_plugin_and_frees_its_name() -> None:
    """`unregister` exists: the worker is gone, and the name can be used again."""
    async with PluginManager() as manager:
        await manager.register(UppercasePlugin())
        await manager.unregister("uppercase")
        assert workers() == []
        with pytest.raises(PluginNotFound, match=r"No plugin 'uppercase' is registered; there are: none"):
            await manager.unregister("uppercase")
        await manager.register(UppercasePlugin())


async def test_a_cell_that_is_run_again_replaces_its_plugin(package: Path) -> None:
    """Loading a name again takes the new code in place of the old, and ends the old worker."""
    path = package / "shout.py"
    async with PluginManager() as manager:
        for result in ("1", "2"):
            path.write_text(PLUGIN_CODE.format(name="ShoutPlugin", plugin="shout", result=result))
            await manager.load(str(path))
            assert await manager.process("x") == int(result)
        assert list(manager.plugins) == ["shout"]
        assert len(workers()) == 1


async def test_one_hooks_error_neither_stops_nor_silences_the_others() -> None:
    """All hooks run; then the errors come as a group, and a synchronous hook isn't awaited into one."""
    ran: list[str] = []

    def bad(data: str) -> None:
        ran.append("bad")
        raise LookupError("one")

    async def worse(data: str) -> None:
        ran.append("worse")
        raise ConnectionError("two")

    async with PluginManager() as manager:
        for hook in (bad, lambda data: ran.append("good"), worse, lambda data: ran.append("last")):
            manager.register_hook("pre_process", hook)
        with pytest.raises(ExceptionGroup, match=r"^2 of 4 hooks at pre_process failed; the others ran") as caught:
            await manager.process("x")
        assert ran == ["bad", "good", "worse", "last"]
        assert [str(error) for error in caught.value.exceptions] == ["one", "two"]


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        ("exit", "failed:SystemExit"),
        ("segfault", "died:SIGSEGV"),
        ("cancel", "failed:CancelledError"),
        ("interrupt", "failed:KeyboardInterrupt"),
        ("hang", "limited:wall"),
    ],
)
async def test_no_plugin_ends_or_hangs_the_host(how: str, verdict: str) -> None:
    """sys.exit, a crash, a forged cancellation and a wait without end are verdicts, and the next call works."""
    async with SandboxedPlugin(EndingPlugin(), Policy(wall_s=0.5)) as plugin:
        assert str((await plugin.run(how)).verdict) == verdict
        assert await plugin.process("fine") == "fine"


async def test_concurrent_calls_are_not_blamed_for_each_other() -> None:
    """A thrifty plugin isn't charged for its hungry neighbour that runs at the same time.

    It takes a little more than it must be charged for: what its worker's heap has free already is no growth.
    """
    hungry, thrifty = SandboxedPlugin(HungryPlugin(), memory_limit_mb=128), SandboxedPlugin(UppercasePlugin())
    async with hungry, thrifty:
        big, *small = await asyncio.gather(hungry.run(("heap", 104)), *(thrifty.run("x") for _ in range(20)))
    assert big.usage.peak_memory_bytes - big.usage.baseline_memory_bytes >= 100 * MIB
    assert max(run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes for run in small) < 4 * MIB


async def test_the_hosts_own_tracing_goes_on() -> None:
    """tracemalloc belongs to the user: it runs on as it was, and isn't started either."""
    assert not tracemalloc.is_tracing()
    async with SandboxedPlugin(HungryPlugin(), memory_limit_mb=64) as plugin:
        await plugin.run(("heap", 1))
        assert not tracemalloc.is_tracing()
        tracemalloc.start()
        try:
            held = bytearray(5 * MIB)
            await plugin.run(("heap", 200))
            assert tracemalloc.is_tracing()
            assert tracemalloc.get_traced_memory()[0] >= len(held)
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("way", ["heap", "mmap", "numpy"])
async def test_every_kind_of_memory_is_seen_and_stopped_in_time(way: str) -> None:
    """Memory that tracemalloc is blind to counts as well, and the limit acts while it happens, not afterwards.

    A peak is right to 1 MiB: each processor hands what it counted in to the kernel's high-water mark up to 32 pages
    late, and at the peak itself nobody looks.
    """
    async with SandboxedPlugin(HungryPlugin(), memory_limit_mb=64) as plugin:
        small = await plugin.run((way, 32))
        assert str(small.verdict) == "completed"
        assert small.usage.peak_memory_bytes - small.usage.baseline_memory_bytes > 31 * MIB
        large = await plugin.run((way, 2000))
        assert str(large.verdict) == "limited:memory"
        assert large.usage.peak_memory_bytes < 600 * MIB


async def test_the_wrapper_is_a_plugin() -> None:
    """A `SandboxedPlugin` can be registered like any plugin, under its plugin's name."""
    plugin = SandboxedPlugin(UppercasePlugin(), memory_limit_mb=64)
    assert isinstance(plugin, AgentPlugin)
    assert (plugin.name, plugin.version) == ("uppercase", "1.0.0")
    async with PluginManager() as manager:
        assert await manager.register(plugin) is plugin
        assert await manager.process("a") == "A"
    assert plugin.state == "closed"


LOADER_CODE = f"""
from typing import Protocol
from abc import ABC, abstractmethod
from agentplug.contract.plugin import AgentPlugin

class APlugin(Protocol):
    name: str

class BasePlugin(ABC):
    @abstractmethod
    def process(self, input_data): ...

class BrokenPlugin(Exception):
    pass
{PLUGIN_CODE.format(name="TruePlugin", plugin="true", result="'true'")}
"""


def test_the_loader_takes_the_one_concrete_class(package: Path) -> None:
    """Protocols, base classes, exceptions and imported classes aren't plugins, whatever the alphabet says."""
    (package / "many.py").write_text(LOADER_CODE)
    plugin = load_plugin_from_module("chapter_plugins.many")
    assert plugin.run_sync("x").value == "true"
    plugin.close_sync()


def test_two_plugins_in_a_module_are_no_lottery(package: Path) -> None:
    """With two to choose from the loader lists them; `pkg.mod:Class` says which."""
    for name in ("Second", "First"):
        code = PLUGIN_CODE.format(name=f"{name}Plugin", plugin=name.lower(), result=f"'{name}'")
        with (package / "two.py").open("a") as file:
            file.write(code)
    with pytest.raises(PluginNotFound, match=r"SecondPlugin, FirstPlugin; say which, as in chapter_plugins.two:"):
        load_plugin_from_module("chapter_plugins.two")
    plugin = load_plugin_from_module("chapter_plugins.two:SecondPlugin")
    assert plugin.run_sync("x").value == "Second"
    plugin.close_sync()


def test_nothing_of_a_module_runs_before_it_is_confined(package: Path, tmp_path: Path) -> None:
    """Top-level code of a module meets the barriers: it can write no file, and the host doesn't run it at all."""
    mark = tmp_path / "mark"
    (package / "eager.py").write_text(
        f"try:\n    open({str(mark)!r}, 'w')\n    RESULT = 'written'\n"
        "except PermissionError:\n    RESULT = 'refused'\n"
        + PLUGIN_CODE.format(name="EagerPlugin", plugin="eager", result="RESULT")
    )
    plugin = load_plugin_from_module("chapter_plugins.eager")
    assert plugin.run_sync("x").value == "refused"
    assert not mark.exists()
    plugin.close_sync()


def test_a_stale_pyc_never_runs_in_place_of_its_source(package: Path) -> None:
    """Source changed within its old size and time stamp: the source runs, not what was compiled before."""
    path = package / "stale.py"
    path.write_text(PLUGIN_CODE.format(name="StalePlugin", plugin="stale", result="'old'"))
    script = "import py_compile, sys; py_compile.compile(sys.argv[1], doraise=True)"
    assert python(script, str(path)).returncode == 0
    assert list((package / "__pycache__").glob("stale*.pyc"))
    stamp = path.stat()
    path.write_text(PLUGIN_CODE.format(name="StalePlugin", plugin="stale", result="'new'"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_size == stamp.st_size
    plugin = load_plugin_from_module("chapter_plugins.stale")
    assert plugin.run_sync("x").value == "new"
    plugin.close_sync()


async def test_a_sandbox_costs_the_call_next_to_nothing() -> None:
    """tracemalloc made an allocating call several times slower; here its CPU time is its own."""

    class AllocatingPlugin(UppercasePlugin):
        name = "allocating"

        async def process(self, input_data: Any) -> Any:
            import time

            began = time.process_time()
            for _ in range(100):
                _ = [[number] for number in range(2000)]
            return time.process_time() - began

    async with SandboxedPlugin(AllocatingPlugin) as plugin:
        inside = min([await plugin.process(0) for _ in range(5)])
    gc.collect()
    here = min([await AllocatingPlugin().process(0) for _ in range(5)])
    assert inside < 3 * here
