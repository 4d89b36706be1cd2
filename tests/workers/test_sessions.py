"""Sessions of code as text: names that live on, limits of each run, losses that are said, bad input."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from agentplug import ContractError, Policy, PolicyError, Sandbox, WorkerDied
from agentplug.contract.record import Verdict
from agentplug.core.host.output import stream_to
from agentplug.core.run import Run

pytestmark = pytest.mark.need("landlock", "seccomp")

SMALL = Policy(memory="64M")


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def ignore(value: object) -> None: ...


def outcome(run: Run) -> tuple[Any, dict[str, Any], str]:
    return run.value, dict(run.out), str(run.verdict)


async def test_names_live_on_from_run_to_run() -> None:
    """Variables, functions, imports and files of one run are there in the next; none of the host's is."""
    async with Sandbox(SMALL.replace(disk="1M")) as box:
        assert outcome(await box.run("import math\nx = 41\ndef twice(n): return 2 * n")) == (None, {}, "completed")
        assert outcome(await box.run("x + 1, twice(x), math.floor(2.5)")) == ((42, 82, 2), {}, "completed")
        await box.run("open('note', 'w').write('two words')")
        assert (await box.run("open('note').read()")).value == "two words"
        assert str((await box.run("SMALL")).verdict) == "failed:NameError"
        assert (await box.run("import asyncio\nx = await asyncio.sleep(0, 43)\nx")).value == 43
        assert [run.number for run in box.runs] == [0, 1, 2, 3, 4, 5]
        assert box.trace["plugin"].unique().tolist() == ["sandbox"]


async def test_variables_are_sent_and_brought_back() -> None:
    """`given` are set before the run and stay; `out` has those that were asked for, the last value beside them."""
    async with Sandbox(SMALL) as box:
        run = await box.run("y = x + 1\ny * 2", given={"x": 1, "f": lambda n: -n}, out=["y"])
        assert outcome(run) == (4, {"y": 2}, "completed")
        assert outcome(await box.run("f(x)", out=("x", "y"))) == (-1, {"x": 1, "y": 2}, "completed")


async def test_a_missing_name_loses_nothing() -> None:
    """The run fails for it, by name; its value and the other names are there, and the session goes on."""
    async with Sandbox(SMALL) as box:
        run = await box.run("total = 3\n'value'", out=["totl", "total", "zzz"])
        assert outcome(run) == ("value", {"total": 3}, "failed:NameError")
        assert run.error is not None
        assert run.error.message == (
            "the code left no variable 'totl' to bring back, but one named 'total'; "
            "the code left no variable 'zzz' to bring back"
        )
        assert (await box.run("total")).value == 3


async def test_an_error_leaves_what_was_done_before_it() -> None:
    """As in a notebook: the names that were bound stay, also after an interrupt, and the worker is the same."""
    async with Sandbox(SMALL) as box:
        assert str((await box.run("x = 1\n1 / 0")).verdict) == "failed:ZeroDivisionError"
        assert str((await box.run("x = = 2")).verdict) == "failed:SyntaxError"
        assert str((await box.run("import sys; sys.exit(3)")).verdict) == "failed:SystemExit"
        pid = box.pid
        begun, loop = asyncio.Event(), asyncio.get_running_loop()
        stream_to(lambda: lambda name, text: ignore(loop.call_soon_threadsafe(begun.set)))
        task = asyncio.create_task(box.run("x = 2\nprint('on')\nimport time; time.sleep(30)"))
        await begun.wait()
        stream_to(None)
        task.cancel()
        await asyncio.wait([task])
        assert str(box.runs[-1].verdict) == "stopped:interrupt"
        assert ((await box.run("x")).value, box.pid) == (2, pid)


async def test_an_interrupted_run_that_awaits_is_over() -> None:
    """What stands behind its `await` never runs, also while a later run awaits; a `finally` does."""
    code = (
        "asyncio.get_running_loop().call_later(0.1, print, 'on')\n"
        "try:\n    await asyncio.sleep(0.5)\n    x = 'went on'\nfinally:\n    y = 'cleaned up'"
    )
    async with Sandbox(SMALL) as box:
        await box.run("import asyncio\nx = y = ''")
        begun, loop = asyncio.Event(), asyncio.get_running_loop()
        stream_to(lambda: lambda name, text: ignore(loop.call_soon_threadsafe(begun.set)))
        task = asyncio.create_task(box.run(code))
        await begun.wait()
        stream_to(None)
        task.cancel()
        await asyncio.wait([task])
        assert str(box.runs[-1].verdict) == "stopped:interrupt"
        assert (await box.run("await asyncio.sleep(0.7)\nx, y")).value == ("", "cleaned up")


async def test_limits_count_for_each_run() -> None:
    """CPU time of earlier runs doesn't count."""
    burn = "import time\nend = time.process_time() + .25\nwhile time.process_time() < end: pass"
    async with Sandbox(SMALL.replace(cpu_s=0.5)) as box:
        for _ in range(3):
            assert str((await box.run(burn)).verdict) == "completed"
        assert str((await box.run("while True: pass")).verdict) == "limited:cpu"


@pytest.mark.parametrize(
    ("code", "because"),
    [("import os; os._exit(3)", "died:exit 3"), ("hog = bytearray(1 << 28)\nlen(hog)", "limited:memory")],
)
async def test_a_loss_is_said_once(code: str, because: str) -> None:
    """The next run begins empty and says why; the one after it says nothing."""
    async with Sandbox(SMALL) as box:
        await box.run("x = 1")
        await box.run(code)
        if box.pid is not None:
            return  # the memory was refused, and the worker lives
        with pytest.warns(RuntimeWarning) as seen:
            run = await box.run("'x' in globals()")
        assert run.value is False
        [warning] = seen
        assert str(warning.message) == (
            f"sandbox begins empty: its worker was lost ({because}), and all names with it."
        )
        assert warning.filename == __file__
        assert run.events[0].detail == {"because": because}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (await box.run("5")).events[0].kind == "start"


async def test_a_loss_between_two_runs_is_said() -> None:
    """A worker that somebody killed while nobody called it."""
    async with Sandbox(SMALL) as box:
        await box.run("x = 1")
        assert box.pid is not None
        os.kill(box.pid, signal.SIGKILL)
        await until(lambda: box.state == "failed")
        with pytest.warns(RuntimeWarning, match=r"begins empty: its worker was lost \(died:SIGKILL\)"):
            await box.run("1")


async def test_losses_quarantine_no_session() -> None:
    """Each run is asked for by its user, who sees how the last one ended."""
    async with Sandbox(SMALL) as box:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            for _ in range(6):
                assert str((await box.run("import os; os._exit(3)")).verdict) == "died:exit 3"


async def test_an_answer_that_was_not_asked_for_ends_the_worker() -> None:
    """The code can replace what runs it, and gains nothing."""
    async with Sandbox(SMALL) as box:
        forge = "import sys\nsys.modules['agentplug.core.worker.cells']._answer = lambda *_: {'last value': 1}"
        assert outcome(await box.run(forge)) == (None, {}, "broken:protocol")
        with pytest.warns(RuntimeWarning, match=r"\(broken:protocol\)"):
            assert (await box.run("2")).value == 2


async def test_a_session_closed_in_mid_run() -> None:
    """The run under way ends with that verdict; the next one is refused, and closing again changes nothing."""
    box = Sandbox(SMALL)
    task = asyncio.create_task(box.run("import time; time.sleep(30)"))
    await until(lambda: box.state == "busy")
    await box.close()
    assert (await task).verdict == Verdict("stopped", "close")
    with pytest.raises(WorkerDied, match=r"^This sandbox is closed; make a new one$"):
        await box.run("1")
    await box.close()
    assert (box.state, box.pid) == ("closed", None)


async def test_the_users_own_tasks_go_on() -> None:
    """A run only waits."""
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.01)

    async with Sandbox(SMALL) as box:
        ticking = asyncio.create_task(tick())
        await box.run("import time; time.sleep(0.5)")
        ticking.cancel()
    assert len(ticks) > 20


async def test_runs_at_the_same_time_queue_up() -> None:
    """In the order in which they were asked for."""
    async with Sandbox(SMALL) as box:
        await box.run("seen = []")
        runs = await asyncio.gather(*(box.run("seen.append(n)\nlist(seen)", {"n": n}) for n in range(4)))
        assert [run.value for run in runs] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_scripts_need_no_loop() -> None:
    """`run_sync` and `close_sync` do the same."""
    box = Sandbox(SMALL)
    assert box.run_sync("x = 2\nx", out=["x"]).out == {"x": 2}
    assert box.run_sync("x + 1").value == 3
    assert repr(box) == "<Sandbox: ready, 2 runs>"
    box.close_sync()
    assert repr(box) == "<Sandbox: closed, 2 runs>"


async def test_preloaded_modules_are_there() -> None:
    """They add to those of the policy, and are imported before the session begins."""
    async with Sandbox(SMALL.replace(preload=("colorsys",)), preload=["wave"]) as box:
        assert box.policy.preload == ("colorsys", "wave")
        assert (await box.run("import sys\n'wave' in sys.modules, 'colorsys' in sys.modules")).value == (True, True)


async def test_a_misspelt_preload_says_so() -> None:
    """With the nearest module that is there."""
    box = Sandbox(SMALL, preload=["pandsa"])
    with pytest.raises(PolicyError, match=r"'pandsa' can't be imported: .*; did you mean 'pandas'\?$"):
        await box.run("1")
    await box.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((b"x = 1",), "code is of type bytes; write text, as in run('x = 1')"),
        ((None,), "code is of type NoneType; write text, as in run('x = 1')"),
        (("x = '\ud800'",), "code holds a lone surrogate, which no file could hold; write an escape like '\\ud800'"),
        (("1", [1]), "given is of type list; write a dict of names and values"),
        (("1", {1: 2}), "given: 1 can't be a variable's name"),
        (("1", {"a b": 2}), "given: 'a b' can't be a variable's name"),
        (("1", None, "x"), "out is of type str; write a list of names, as in out=['x']"),
        (("1", None, 5), "out is of type int; write a list of names, as in out=['x']"),
        (("1", None, ["class"]), "out: 'class' can't be a variable's name"),
        (("1", None, [b"x"]), "out: b'x' can't be a variable's name"),
    ],
)
async def test_bad_input_is_refused_before_anything_runs(arguments: Any, message: str) -> None:
    """With the argument's name; no worker is started for it."""
    box = Sandbox(SMALL)
    with pytest.raises(ContractError) as caught:
        await box.run(*arguments)
    assert (str(caught.value), box.state, len(box.runs)) == (message, "new", 0)
    await box.close()


async def test_what_cannot_be_sent_is_refused() -> None:
    """A thing of the host's own stays there, and the session goes on."""
    async with Sandbox(SMALL) as box:
        told = r"^The variable file can't be sent to a worker: _io.TextIOWrapper has no plain form"
        with open(os.devnull) as file, pytest.raises(ContractError, match=told):
            await box.run("1", given={"dumps": os.fspath, "module": os, "file": file})
        assert (await box.run("2")).value == 2


def test_a_bad_policy_is_refused() -> None:
    """As by every plugin."""
    with pytest.raises(PolicyError, match="policy='64M': write a Policy"):
        Sandbox("64M")  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="preload: 'no name' isn't a module name"):
        Sandbox(preload=["no name"])
