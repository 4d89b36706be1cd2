"""`SandboxedPlugin`: calls, queues, windows, cancellation, ends and replacements."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import agentplug
from agentplug import Policy, SandboxedPlugin
from agentplug.contract.plugin import AgentPlugin
from agentplug.core.run import Run
from agentplug.errors import ContractError, PluginError, PluginQuarantined, WorkerDied
from tests.leftovers import _warmed, eventually, nothing_left, workers  # noqa: F401
from tests.unit.test_surface import PolitePlugin


class DoPlugin:
    """Does what its input says."""

    name = "do"
    version = "1.0"

    def __init__(self) -> None:
        self.config: Any = None
        self.calls = 0
        self.kept: list[Any] = []

    async def initialize(self, config: dict[str, Any]) -> None:
        self.config = config

    async def process(self, what: Any) -> Any:
        self.calls += 1
        match what:
            case "config":
                return self.config
            case "calls":
                return self.calls
            case "pid":
                return os.getpid()
            case "sleep":
                await asyncio.sleep(60)
            case "swallow":
                while True:
                    try:
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        print("no", flush=True)
            case "crash":
                os.abort()
            case "exit":
                os._exit(3)
            case "raise":
                raise LookupError("as asked")
            case "blocked":
                time.sleep(60)  # noqa: ASYNC251
            case "defy":  # and work a little as the grace ends
                try:
                    time.sleep(60)  # noqa: ASYNC251
                except KeyboardInterrupt:
                    time.sleep(0.9)  # noqa: ASYNC251
                    spin(0.02)
                    time.sleep(60)  # noqa: ASYNC251
            case ("wait", seconds):
                await asyncio.sleep(seconds)
                return seconds
            case ("spin", seconds):
                spin(seconds)
            case ("grow", mib):
                self.kept.append(bytearray(os.urandom(1) * (mib << 20)))
                del self.kept[:]
            case ("burn later", seconds):
                threading.Thread(target=spin, args=(seconds,), daemon=True).start()
            case ("grow later", mib):
                threading.Thread(target=grow, args=(self.kept, mib), daemon=True).start()
        return what


def spin(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def grow(kept: list[Any], mib: int) -> None:
    for _ in range(mib):
        kept.append(os.urandom(1) * (1 << 20))
        time.sleep(0.001)


async def begun(plugin: SandboxedPlugin) -> None:
    """A call is on its way in the worker."""
    while plugin.state != "busy":  # noqa: ASYNC110
        await asyncio.sleep(0.001)


# ---------------------------------------------------------------------- one plugin, one call


async def test_a_plugin_goes_from_new_to_ready_to_closed() -> None:
    """The state, the pid, the runs and the trace of a plugin follow its life."""
    plugin = SandboxedPlugin(DoPlugin, config={"depth": 2})
    assert (plugin.state, plugin.pid, plugin._inside.calls, list(plugin.runs)) == ("new", None, 0, [])
    await plugin.start()
    assert plugin.state == "ready"
    assert await plugin.process("pid") == plugin.pid
    assert await plugin.process("config") == {"depth": 2}
    assert [run.value for run in plugin.runs] == [plugin.pid, {"depth": 2}]
    assert [str(run.verdict) for run in plugin.runs] == ["completed", "completed"]
    assert [run.number for run in plugin.runs] == [0, 1]
    await plugin.close()
    assert (plugin.state, plugin.pid, plugin._inside.calls) == ("closed", None, 2)
    await plugin.close()
    assert plugin.state == "closed"


async def test_a_sandboxed_plugin_is_an_agent_plugin() -> None:
    """The wrapper keeps the contract itself, so it can stand wherever a plugin can."""
    plugin = SandboxedPlugin(DoPlugin)
    assert isinstance(plugin, AgentPlugin)
    async with plugin:
        assert (plugin.name, plugin.version) == ("do", "1.0")


async def test_barriers_are_listed_once_it_runs() -> None:
    """`barriers` is a table of what confines the worker, empty before it runs."""
    plugin = SandboxedPlugin(DoPlugin)
    assert list(plugin.barriers.columns) == ["barrier", "protects", "status", "detail"]
    assert len(plugin.barriers) == 0
    async with plugin:
        assert {"landlock", "seccomp", "limits", "privileges"} <= set(plugin.barriers["barrier"])
        assert set(plugin.barriers["status"]) <= {"enforced", "partial", "unavailable"}


async def test_the_error_of_a_plugin_is_a_verdict_and_the_worker_goes_on() -> None:
    """What a plugin raises makes the run `failed:TYPE`; its worker lives, and `process` raises `PluginError`."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        pid = plugin.pid
        run = await plugin.run("raise")
        assert str(run.verdict) == "failed:LookupError"
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("LookupError", "as asked")
        assert "in process" in run.error.traceback
        with pytest.raises(PluginError, match=r"^Plugin do raised LookupError: as asked\n") as caught:
            await plugin.process("raise")
        assert caught.type.__name__ == "LookupError"
        assert plugin.pid == pid
        assert plugin.state == "ready"


async def test_initialize_gives_a_new_configuration() -> None:
    """`initialize(config)` reaches the running worker, and each that replaces it."""
    async with SandboxedPlugin(DoPlugin, config={"a": 1}) as plugin:
        await plugin.initialize({"a": 2})
        assert await plugin.process("config") == {"a": 2}
        await plugin.run("exit")
        assert await plugin.process("config") == {"a": 2}


# ---------------------------------------------------------------------- many


async def test_twenty_plugins_work_at_once() -> None:
    """Twenty plugins each have a worker of their own, and all are gone when they are closed."""
    plugins = [SandboxedPlugin(DoPlugin, config={"number": number}) for number in range(20)]
    configs = await asyncio.gather(*(plugin.process("config") for plugin in plugins))
    assert configs == [{"number": number} for number in range(20)]
    assert workers() == sorted(plugin.pid or 0 for plugin in plugins)
    await asyncio.gather(*(plugin.close() for plugin in plugins))
    assert workers() == []


async def test_calls_made_at_once_are_served_in_their_order_and_measured_alone() -> None:
    """Calls to one plugin queue up; a cheap one isn't charged for the dear one before it."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        inputs = [("spin", 0.1), "cheap", ("grow", 60), "cheap", *range(20)]
        runs = await asyncio.gather(*(plugin.run(value) for value in inputs))
        assert [run.value for run in runs] == inputs
        assert [run.number for run in runs] == list(range(len(inputs)))
        assert [run.usage.calls for run in runs] == [1] * len(inputs)
        assert runs[0].usage.cpu_s >= 0.1
        assert all(run.usage.cpu_s < 0.05 for run in runs[3:])
        assert runs[2].usage.peak_memory_bytes - runs[2].usage.baseline_memory_bytes >= 60 << 20
        assert all(r.usage.peak_memory_bytes - r.usage.baseline_memory_bytes < 8 << 20 for r in runs[3:])


async def test_map_keeps_the_order_and_one_by_one_measures_alone() -> None:
    """`map` yields a run for each input, in order, of any iterable or async iterable."""

    async def later() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async with SandboxedPlugin(DoPlugin) as plugin:
        assert [run.value async for run in plugin.map(range(5))] == [0, 1, 2, 3, 4]
        assert [run.value async for run in plugin.map(later())] == [0, 1, 2]
        assert [run async for run in plugin.map([])] == []
        assert {run.usage.calls for run in plugin.runs} == {1}


async def test_a_window_pipelines_and_shares_one_measurement() -> None:
    """Calls of a window are one exchange: each has its value, all the same usage, `calls` of them."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        runs = [run async for run in plugin.map(range(10), window=4)]
        assert [run.value for run in runs] == list(range(10))
        assert [run.usage.calls for run in runs] == [4, 4, 4, 4, 4, 4, 4, 4, 2, 2]
        assert runs[0].usage == runs[3].usage
        assert runs[4].usage != runs[0].usage
        assert [str(run.verdict) for run in runs] == ["completed"] * 10


@pytest.mark.parametrize(("bad", "verdict"), [("crash", "died:SIGABRT"), ("raise", "failed:LookupError")])
async def test_what_goes_wrong_inside_a_window_is_its_own_callers(bad: str, verdict: str) -> None:
    """Items before a crash keep their values, the one that crashed has its verdict, those after are still run."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        runs = [run async for run in plugin.map([1, 2, bad, 4, 5, 6], window=6)]
        assert [run.value for run in runs] == [1, 2, None, 4, 5, 6]
        expected = ["completed", "completed", verdict, "completed", "completed", "completed"]
        assert [str(run.verdict) for run in runs] == expected
        assert [run.number for run in runs] == [0, 1, 2, 3, 4, 5]


async def test_a_limit_inside_a_window_is_each_calls_own() -> None:
    """`wall_s` counts from the answer before, so a window may take longer than one call."""
    async with SandboxedPlugin(DoPlugin, Policy(wall_s=0.4)) as plugin:
        runs = [run async for run in plugin.map([("wait", 0.25)] * 3 + ["sleep", 5], window=5)]
        assert [str(run.verdict) for run in runs] == ["completed"] * 3 + ["limited:wall", "completed"]
        assert runs[4].value == 5


async def test_a_map_that_is_left_early_leaves_the_plugin_usable() -> None:
    """Breaking out of a `map` ends it; the next call works."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        async for run in plugin.map(range(100), window=10):
            if run.value == 3:
                break
        assert await plugin.process("x") == "x"


# ---------------------------------------------------------------------- cancel, stop, close


async def test_a_cancelled_call_interrupts_the_worker_which_lives_if_it_obeys() -> None:
    """`asyncio.wait_for` ends the call at once; the plugin saw the cancellation, and its worker goes on."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        pid = plugin.pid
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(plugin.run("sleep"), 0.2)
        assert time.monotonic() - began < 0.8
        assert str(plugin.runs[-1].verdict) == "stopped:interrupt"
        assert plugin.pid == pid
        assert await plugin.process("calls") == 2


async def test_a_blocked_plugin_obeys_an_interrupt_too() -> None:
    """A plugin that sleeps in a plain call gets KeyboardInterrupt, and its worker goes on."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        pid = plugin.pid
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(plugin.run("blocked"), 0.2)
        assert str(plugin.runs[-1].verdict) == "stopped:interrupt"
        assert plugin.pid == pid


async def test_a_plugin_that_works_as_the_grace_ends_has_no_more_of_it() -> None:
    async with SandboxedPlugin(DoPlugin) as plugin:
        call = asyncio.create_task(plugin.run("defy"))
        await begun(plugin)
        await asyncio.sleep(0.3)
        plugin._inside.stop("interrupt")
        run = await call
        stopped, killed = (next(e.t_s for e in run.events if e.kind == kind) for kind in ("stop", "kill"))
        assert 1.0 <= killed - stopped < 1.5


async def test_a_plugin_that_swallows_the_cancellation_is_killed_after_the_grace() -> None:
    """A second after it was asked in vain it is killed: `stopped:interrupt`, and the next call has a fresh worker."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        pid = plugin.pid
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(plugin.run("swallow"), 0.2)
        assert 1.0 < time.monotonic() - began < 2.2
        run = plugin.runs[-1]
        assert str(run.verdict) == "stopped:interrupt"
        assert [event.kind for event in run.events] == ["start", "stop", "kill", "exit"]
        assert run.stdout == "no\n"
        assert plugin.state == "failed"
        assert await plugin.process("calls") == 1
        assert plugin.pid != pid


async def test_a_call_cancelled_while_it_queues_is_never_made() -> None:
    """Cancelling a call that waits for its turn neither reaches the worker nor holds up those behind it."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        first = asyncio.create_task(plugin.run(("wait", 0.3)))
        await begun(plugin)
        second = asyncio.create_task(plugin.run("second"))
        third = asyncio.create_task(plugin.run("calls"))
        await asyncio.sleep(0)
        second.cancel()
        assert (await first).value == 0.3
        assert (await third).value == 2
        assert second.cancelled()
        assert len(plugin.runs) == 2


async def test_closing_during_a_call_stops_it() -> None:
    """`close` ends the running call as `stopped:close`, those that queue find the plugin closed."""
    plugin = SandboxedPlugin(DoPlugin)
    await plugin.start()
    call = asyncio.create_task(plugin.run("sleep"))
    await begun(plugin)
    queued = asyncio.create_task(plugin.run("queued"))
    await asyncio.sleep(0)
    await plugin.close()
    assert str((await call).verdict) == "stopped:close"
    with pytest.raises(WorkerDied, match="is closed; make or load a new one"):
        await queued
    assert plugin.state == "closed"


async def test_stop_from_another_thread_kills_the_call() -> None:
    """`stop()` needs no loop: the call ends as `stopped:kill`, and that is no loss that counts."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        call = asyncio.create_task(plugin.run("sleep"))
        await begun(plugin)
        await asyncio.to_thread(plugin._inside.stop)
        run = await call
        assert str(run.verdict) == "stopped:kill"
        with pytest.raises(WorkerDied, match="stopped by a kill"):
            run.check()
        assert await plugin.process("calls") == 1
        plugin._inside.stop()  # nothing runs: nothing to stop
        assert await plugin.process("calls") == 2


async def test_a_closed_plugin_says_so() -> None:
    """Every use after `close` raises `WorkerDied` with the remedy, and starts nothing."""
    plugin = SandboxedPlugin(DoPlugin)
    await plugin.process(1)
    await plugin.close()
    for use in (plugin.start, plugin.initialize, lambda: plugin.process(1), lambda: plugin.run(1)):
        with pytest.raises(WorkerDied, match=r"^Plugin do is closed; make or load a new one$"):
            await use()
    with pytest.raises(WorkerDied, match="is closed"):
        [run async for run in plugin.map([1, 2], window=2)]


# ---------------------------------------------------------------------- loops and threads


def test_two_loops_in_two_threads_use_one_plugin() -> None:
    """Calls from event loops of different threads take turns like those of one."""
    plugin = SandboxedPlugin(DoPlugin)
    results: dict[str, list[Any]] = {}

    def work(name: str) -> None:
        async def calls() -> list[Any]:
            return await asyncio.gather(*(plugin.process((name, number)) for number in range(50)))

        results[name] = asyncio.run(calls())

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    plugin.close_sync()
    assert results == {name: [(name, number) for number in range(50)] for name in "ab"}
    assert sorted(run.number for run in plugin.runs) == list(range(100))


def test_run_sync_in_a_script() -> None:
    """`run_sync` and `close_sync` need no loop."""
    plugin = SandboxedPlugin(DoPlugin)
    assert plugin.run_sync(5).value == 5
    assert str(plugin.run_sync("raise").verdict) == "failed:LookupError"
    plugin.close_sync()
    assert plugin.state == "closed"


async def test_run_sync_inside_a_running_loop() -> None:
    """`run_sync` works where a loop is running already, as in a notebook's cell."""
    plugin = SandboxedPlugin(DoPlugin)
    assert plugin.run_sync(5).value == 5
    assert await plugin.process(6) == 6
    plugin.close_sync()


async def test_run_sync_refuses_to_wait_for_a_call_of_its_own_loop() -> None:
    """That call couldn't end while `run_sync` holds its loop up; in time it works again, and a close never waits."""
    plugin = SandboxedPlugin(DoPlugin)
    await plugin.start()
    held = asyncio.create_task(plugin.run("sleep"))
    queued = asyncio.create_task(plugin.run(2))
    await begun(plugin)
    with pytest.raises(RuntimeError, match="Await run"):
        plugin.run_sync(1)
    held.cancel()
    assert (await queued).value == 2
    assert plugin.run_sync(3).value == 3
    held = asyncio.create_task(plugin.run("sleep"))
    await begun(plugin)
    plugin.close_sync()
    assert str((await held).verdict) == "stopped:close"


async def test_run_sync_refuses_to_queue_behind_a_call_of_its_own_loop() -> None:
    """Another thread has the turn, but a call of this loop gets it next and could never give it back."""
    plugin = SandboxedPlugin(DoPlugin)
    await plugin.start()
    theirs = asyncio.create_task(asyncio.to_thread(plugin.run_sync, "sleep"))
    await begun(plugin)
    ours = asyncio.create_task(plugin.run(2))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Await run"):
        plugin.run_sync(1)
    plugin._inside.stop()
    assert str((await theirs).verdict) == "stopped:kill"
    assert (await ours).value == 2
    await plugin.close()


def test_run_sync_from_many_threads() -> None:
    """Threads without loops share a plugin; each gets its own answer."""
    plugin = SandboxedPlugin(DoPlugin)
    answers: list[Any] = [None] * 8

    def work(number: int) -> None:
        answers[number] = [plugin.run_sync((number, n)).value for n in range(10)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    plugin.close_sync()
    assert answers == [[(number, n) for n in range(10)] for number in range(8)]


# ---------------------------------------------------------------------- losses


async def test_a_lost_worker_is_replaced_and_initialized_with_the_same_config() -> None:
    """After a crash the next call has a fresh worker with the configuration of the first."""
    async with SandboxedPlugin(DoPlugin, config={"key": "value"}) as plugin:
        pid = plugin.pid
        assert str((await plugin.run("crash")).verdict) == "died:SIGABRT"
        assert plugin.state == "failed"
        assert plugin.pid is None
        assert await plugin.process("config") == {"key": "value"}
        assert await plugin.process("calls") == 2
        assert plugin.pid not in (None, pid)
        assert plugin.state == "ready"


async def test_a_worker_killed_between_calls_is_replaced() -> None:
    """Somebody else's SIGKILL between calls is an event, a state, and no trouble for the next call."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        assert plugin.pid is not None
        os.kill(plugin.pid, signal.SIGKILL)
        assert await asyncio.to_thread(eventually, lambda: plugin.state == "failed")
        assert [(event.kind, dict(event.detail)) for event in plugin._inside.events] == [
            ("exit", {"status": "SIGKILL"})
        ]
        assert await plugin.process("calls") == 1


async def test_more_than_three_losses_quarantine_the_plugin() -> None:
    """The fourth loss within five minutes is the last: calls raise `PluginQuarantined`, and no worker starts."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        verdicts = [str((await plugin.run("exit")).verdict) for _ in range(4)]
        assert verdicts == ["died:exit 3"] * 4
        assert plugin.state == "quarantined"
        for _ in range(2):
            with pytest.raises(PluginQuarantined, match=r"do lost 4 workers within 5 minutes .* reload it"):
                await plugin.process(1)
        assert workers() == []
        assert len(plugin.runs) == 4


async def test_a_user_who_stops_calls_never_quarantines() -> None:
    """Interrupts and kills by the user are no losses."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        for _ in range(6):
            call = asyncio.create_task(plugin.run("sleep"))
            await begun(plugin)
            plugin._inside.stop()
            assert str((await call).verdict) == "stopped:kill"
        assert await plugin.process(1) == 1


async def test_cpu_used_between_calls_ends_the_worker() -> None:
    """A plugin that goes on burning CPU after its answer is ended, with an event; the next call works."""
    async with SandboxedPlugin(DoPlugin) as plugin:
        assert str((await plugin.run(("burn later", 30))).verdict) == "completed"
        assert await asyncio.to_thread(eventually, lambda: plugin.state == "failed")
        event = plugin._inside.events[0]  # its exit follows
        assert (event.kind, event.detail["by"], event.detail["bound"]) == ("limit", "cpu", 1.0)
        assert 1.0 < event.detail["measured"] < 1.5
        assert await plugin.process("calls") == 1


async def test_memory_grown_between_calls_ends_the_worker() -> None:
    """A plugin that grows over its memory after its answer is ended, with an event; the next call works."""
    async with SandboxedPlugin(DoPlugin, Policy(memory="64M")) as plugin:
        assert str((await plugin.run(("grow later", 4000))).verdict) == "completed"
        assert await asyncio.to_thread(eventually, lambda: plugin.state == "failed")
        event = plugin._inside.events[0]  # its exit follows
        assert (event.kind, event.detail["by"], event.detail["bound"]) == ("limit", "memory", 64 << 20)
        assert await plugin.process("calls") == 1


# ---------------------------------------------------------------------- nothing stays


async def test_a_plugin_dropped_without_close_leaves_nothing() -> None:
    """Collecting the object ends its worker."""
    plugin: SandboxedPlugin | None = SandboxedPlugin(DoPlugin)
    assert plugin is not None
    pid = await plugin.process("pid")
    plugin = None
    gc.collect()
    assert await asyncio.to_thread(eventually, lambda: not psutil.pid_exists(pid))


async def test_a_loop_that_ends_in_the_middle_of_a_call_leaves_nothing() -> None:
    """`asyncio.run` that is over while a call is running cancels it; the plugin can be used from the next loop."""
    plugin = SandboxedPlugin(DoPlugin)

    async def abandon() -> None:
        task = asyncio.create_task(plugin.run("sleep"))
        await begun(plugin)
        task.add_done_callback(lambda _: None)

    await asyncio.to_thread(lambda: asyncio.run(abandon()))
    assert str(plugin.runs[-1].verdict) == "stopped:interrupt"
    assert await plugin.process(7) == 7
    await plugin.close()


async def test_starting_is_cancelled_without_a_trace() -> None:
    """Cancelling `start` at any moment leaves no process; the plugin can be started again."""
    for delay_s in (0.0, 0.001, 0.003, 0.006, 0.010, 0.015):
        plugin = SandboxedPlugin(DoPlugin)
        starting = asyncio.create_task(plugin.start())
        await asyncio.sleep(delay_s)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        assert await plugin.process(1) == 1
        await plugin.close()
        assert await asyncio.to_thread(eventually, lambda: workers() == [])


async def test_output_belongs_to_the_call_that_printed_it(tmp_path: Path) -> None:
    """stdout and stderr of each call are in its run, and of no other."""
    path = tmp_path / "talker.py"
    path.write_text(
        "import sys\n"
        "class TalkerPlugin:\n"
        "    name, version = 'talker', '1'\n"
        "    def initialize(self, config): print('hello')\n"
        "    def process(self, x):\n"
        "        print('out', x); print('err', x, file=sys.stderr)\n"
    )
    async with SandboxedPlugin(path) as plugin:
        runs: list[Run] = [await plugin.run(number) for number in range(3)]
        assert [run.stdout for run in runs] == ["out 0\n", "out 1\n", "out 2\n"]
        assert [run.stderr for run in runs] == ["err 0\n", "err 1\n", "err 2\n"]
        assert [run.usage.output_bytes for run in runs] == [12, 12, 12]


async def test_map_refuses_a_window_that_makes_no_sense() -> None:
    """A window is a whole number from 1 to 1024, and inputs are iterable."""
    plugin = SandboxedPlugin(DoPlugin)
    for window in (0, -1, 1025, 1.5, True, "2"):
        with pytest.raises(ContractError, match=r"window=.*: a whole number from 1 to 1024"):
            [run async for run in plugin.map([1], window=window)]  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="takes an iterable of inputs, not a int"):
        [run async for run in plugin.map(5)]  # type: ignore[arg-type]
    assert plugin.state == "new"


def test_public_names_are_all_there() -> None:
    """Every name of `__all__` loads, and an unknown one is an AttributeError."""
    assert all(getattr(agentplug, name) is not None for name in agentplug.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Plugin'"):
        _ = agentplug.Plugin


async def test_a_plugin_can_be_given_again_with_another_policy() -> None:
    """The same bytes in another worker: what came from a cell has no other name to be called by."""
    first = SandboxedPlugin(PolitePlugin)
    async with SandboxedPlugin(first, first.policy.replace(memory="100M")) as second:
        assert await second.process("sit") == "Please, sit"
        assert (second.name, second.policy.memory, first.state) == ("polite", 100 << 20, "new")
        assert second.trace.attrs["digest"] == first.trace.attrs["digest"]
