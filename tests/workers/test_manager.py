"""`PluginManager`: loading, reloading, unloading, trusted plugins, and chains of plugins and hooks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentplug import (
    ContractError,
    LimitExceeded,
    PluginError,
    PluginManager,
    PluginNotFound,
    PluginQuarantined,
    Policy,
    PolicyError,
    SandboxedPlugin,
)
from agentplug.core.trusted import TrustedPlugin
from agentplug.errors import DuplicatePlugin, SpecError
from agentplug.manager.hooks import HookHandle
from tests.leftovers import QuietPlugin, _warmed, eventually, nothing_left, workers  # noqa: F401

CODE = """
import os
class {name}Plugin:
    name, version = "{plugin}", "{version}"
    async def initialize(self, config):
        self.config = config
        {initialize}
    async def process(self, x):
        if x == "exit":
            os._exit(3)
        if x == "config":
            return self.config
        return f"{{x}} {result}"
"""


def write(folder: Path, plugin: str, *, result: str = "", version: str = "1", initialize: str = "pass") -> str:
    """A plugin in a file: its path."""
    path = folder / f"{plugin}.py"
    path.write_text(
        CODE.format(
            name=plugin.title(), plugin=plugin, version=version, result=result or plugin, initialize=initialize
        )
    )
    return str(path)


async def test_load_gives_a_plugin_that_is_ready(tmp_path: Path) -> None:
    """`load` reads, starts, initializes and registers, under the plugin's own name or the one given."""
    async with PluginManager(Policy(memory="100M")) as manager:
        one = await manager.load(write(tmp_path, "one"), config={"k": 1})
        two = await manager.load(write(tmp_path, "two"), name="other", policy=Policy(memory="50M"))
        assert dict(manager.plugins) == {"one": one, "other": two}
        assert [plugin.state for plugin in manager.plugins.values()] == ["ready", "ready"]
        assert [plugin.policy.memory for plugin in (one, two)] == [100 << 20, 50 << 20]
        assert await one.process("config") == {"k": 1}
    assert [plugin.state for plugin in (one, two)] == ["closed", "closed"]


async def test_plugins_are_called_in_order_and_each_gets_what_the_one_before_returned(tmp_path: Path) -> None:
    """`process` is a chain through all plugins, between its two hooks."""
    async with PluginManager() as manager:
        for name in ("one", "two", "three"):
            await manager.load(write(tmp_path, name))
        manager.register_hook("pre_process", lambda x: f"pre {x}")
        manager.register_hook("post_process", lambda x: f"{x} post")
        assert await manager.process("x") == "pre x one two three post"


async def test_reload_takes_the_new_source_with_policy_and_config(tmp_path: Path) -> None:
    """`reload` reads the spec anew; name, policy and configuration stay; the old worker ends."""
    async with PluginManager() as manager:
        path = write(tmp_path, "one", result="old")
        before = await manager.load(path, name="it", policy=Policy(memory="70M"), config={"k": 1})
        write(tmp_path, "one", result="new", version="2")
        after = await manager.reload("it")
        assert after is manager.plugins["it"]
        assert (after.version, after.policy, before.state) == ("2", before.policy, "closed")
        assert await manager.process("x") == "x new"
        assert await after.process("config") == {"k": 1}
        assert len(workers()) == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [("this isn't Python", SpecError), ("", PluginNotFound), ("raise LookupError('no')", PluginError)],
)
async def test_a_reload_that_fails_leaves_the_old_plugin(tmp_path: Path, code: str, error: type[Exception]) -> None:
    """If the new source can't be started, the old plugin goes on as if nothing had happened."""
    async with PluginManager() as manager:
        path = write(tmp_path, "one")
        plugin = await manager.load(path)
        Path(path).write_text(code)
        with pytest.raises(error):
            await manager.reload("one")
        assert manager.plugins["one"] is plugin
        assert await manager.process("x") == "x one"
        assert len(workers()) == 1


async def test_reload_ends_a_quarantine(tmp_path: Path) -> None:
    """A plugin that was lost too often works again after a reload."""
    async with PluginManager() as manager:
        plugin = await manager.load(write(tmp_path, "one"))
        for _ in range(4):
            await plugin.run("exit")
        with pytest.raises(PluginQuarantined):
            await manager.process("x")
        await manager.reload("one")
        assert await manager.process("x") == "x one"


async def test_a_failed_load_changes_nothing(tmp_path: Path) -> None:
    """An `initialize` that raises, or that takes too much, is raised by `load`; nothing is registered or running."""
    async with PluginManager(Policy(wall_s=0.5)) as manager:
        with pytest.raises(PluginError, match="Plugin one raised LookupError: no key"):
            await manager.load(write(tmp_path, "one", initialize="raise LookupError('no key')"))
        with pytest.raises(LimitExceeded, match="Plugin two exceeded time limit"):
            await manager.load(write(tmp_path, "two", initialize="import time; time.sleep(60)"))
        assert dict(manager.plugins) == {}
        assert workers() == []


async def test_trusted_plugins_run_in_the_host_and_are_marked() -> None:
    """`trusted=True` runs the object itself, in this process, wherever plugins are listed."""
    events: list[str] = []

    class Trusted:
        name, version = "<b>mine</b>", "1"

        def initialize(self, config: dict[str, Any]) -> None:
            events.append(f"initialize {config}")

        async def process(self, x: Any) -> Any:
            return [self, x]

        async def shutdown(self) -> None:
            events.append("shutdown")

    plugin = Trusted()
    async with PluginManager() as manager:
        registered = await manager.register(plugin, {"k": 1}, trusted=True)
        assert isinstance(registered, TrustedPlugin)
        assert await manager.process("x") == [plugin, "x"]
        html = manager._repr_html_()
        assert "the host, trusted and unconfined" in html
        assert "<b>mine" not in html
        assert len(manager.trace) == 0
        await manager.register(QuietPlugin)
        assert "a confined worker" in manager._repr_html_()
    assert events == ["initialize {'k': 1}", "shutdown"]


@pytest.mark.parametrize("wrong", [object(), 5, None, QuietPlugin, "agentplug"])
async def test_what_is_no_plugin_is_not_trusted_either(wrong: object) -> None:
    """The contract is checked for trusted objects too."""
    async with PluginManager() as manager:
        with pytest.raises(ContractError, match="isn't an agent plugin"):
            manager.register(wrong, trusted=True)
        assert dict(manager.plugins) == {}


async def test_many_registrations_at_once_initialize_side_by_side() -> None:
    """Un-awaited registrations all come to be, and a name counts from the moment it is registered."""

    def plugin(number: int) -> Any:
        class NumberedPlugin(QuietPlugin):
            name = f"number {number}"

            async def process(self, x: Any) -> Any:
                return [*x, number]

        return NumberedPlugin()

    async with PluginManager() as manager:
        for number in range(8):
            manager.register(plugin(number))
        with pytest.raises(DuplicatePlugin, match="Plugin number 3 already registered"):
            manager.register(plugin(3))
        assert await manager.process([]) == list(range(8))
        assert len(workers()) == 8


async def test_unregistering_before_the_initialization_is_over(tmp_path: Path) -> None:
    """A plugin may be unregistered while it still initializes: it ends, and leaves nothing."""
    async with PluginManager() as manager:
        registration = manager.register(
            SandboxedPlugin(write(tmp_path, "one", initialize="import time; time.sleep(5)"))
        )
        (name,) = manager.plugins
        await manager.unregister(name)
        assert dict(manager.plugins) == {}
        with pytest.raises(Exception, match=r"closed|stopped"):
            await registration
    assert await asyncio.to_thread(eventually, lambda: workers() == [])


async def test_the_trace_holds_the_calls_of_all_plugins_in_their_order(tmp_path: Path) -> None:
    """`manager.trace` is the calls frame of everything that ran, oldest first."""
    async with PluginManager() as manager:
        assert len(manager.trace) == 0
        for name in ("one", "two"):
            await manager.load(write(tmp_path, name))
        for _ in range(2):
            await manager.process("x")
        trace = manager.trace
        assert list(trace["plugin"]) == ["one", "two", "one", "two"]
        assert list(trace["verdict"]) == ["completed"] * 4
        assert trace["started_at"].is_monotonic_increasing


async def test_a_hook_that_is_removed_during_a_run_is_no_trouble() -> None:
    """Hooks may take themselves off, or add others, while they run."""
    manager = PluginManager()
    calls: list[str] = []
    handles: list[HookHandle] = []

    def once(_: Any) -> None:
        calls.append("once")
        handles[0].remove()
        manager.register_hook("input", lambda _: calls.append("added"))

    handles.append(manager.register_hook("input", once))
    await manager.run_hooks("input", 1)
    await manager.run_hooks("input", 1)
    assert calls == ["once", "added"]
    assert repr(handles[0]) == "<HookHandle at input>"


async def test_a_cancelled_hook_cancels_the_run() -> None:
    """Cancelling `process` while a hook waits is a cancellation, not a hook's error."""
    async with PluginManager() as manager:
        manager.register_hook("pre_process", lambda _: asyncio.sleep(60))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(manager.process(1), 0.05)


def test_one_manager_in_several_loops(tmp_path: Path) -> None:
    """Plugins loaded in one `asyncio.run` can be called in the next and closed in a third."""
    manager = PluginManager()
    path = write(tmp_path, "one")
    asyncio.run(manager.load(path))
    assert asyncio.run(manager.process("x")) == "x one"
    asyncio.run(manager.close())
    assert workers() == []


@pytest.mark.parametrize("wrong", [5, "512M", {"memory": 1}])
def test_a_manager_takes_a_policy(wrong: Any) -> None:
    """Anything else is a `PolicyError` with the remedy."""
    with pytest.raises(PolicyError, match=r"write a Policy, as in Policy\(memory='256M'\)"):
        PluginManager(wrong)


async def test_closing_twice_and_closing_with_a_call_under_way(tmp_path: Path) -> None:
    """`close` stops running calls, and may be called again."""
    manager = PluginManager()
    plugin = await manager.load(write(tmp_path, "one", initialize="import time; self.sleep = time.sleep"))
    call = asyncio.create_task(plugin.run("x"))
    await manager.close()
    await manager.close()
    run = (await asyncio.gather(call, return_exceptions=True))[0]
    assert dict(manager.plugins) == {}
    assert "closed" in str(run) or str(run.verdict) in ("completed", "stopped:close")
