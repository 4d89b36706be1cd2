"""In real kernels: output, interrupts, restarts and deaths."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.kernels import Notebook, Watched
from tests.leftovers import eventually

pytestmark = pytest.mark.need("landlock", "seccomp")

DEBUGGER: list[tuple[str, dict[str, object]]] = [
    ("initialize", {"clientID": "test", "adapterID": "", "pathFormat": "path"}),
    ("attach", {}),
    ("configurationDone", {}),
]
WAITER = """
%%load_plugin waiter --read . --wall 60 --cpu 60
import asyncio, os

class WaiterPlugin:
    name = "waiter"
    version = "1"

    async def initialize(self, config): ...

    async def process(self, path):
        print("begun", flush=True)
        while not os.path.exists(path):
            await asyncio.sleep(0.01)
        print("\\x1b[31mit is there\\x1b[0m", flush=True)
        return "done"
""".strip()


def test_output_lands_in_the_cell_that_made_the_call(notebook: Notebook, tmp_path: Path) -> None:
    """What a plugin prints while later cells run still goes to the cell that called it, with its colours."""
    notebook.run(WAITER).check()
    caller = notebook.start(f"import asyncio\ntask = asyncio.create_task(waiter.process({str(tmp_path / 'go')!r}))")
    notebook.until(lambda: caller.idle and "begun" in caller.stream())
    other = notebook.run("print('other')\nopen('go', 'w').close()\nprint(await task)")
    notebook.until(lambda: "it is there" in caller.stream())
    assert caller.stream() == "begun\n\x1b[31mit is there\x1b[0m\n"
    assert other.stream() == "other\ndone\n"


def test_output_keeps_its_place_among_the_cells_own(notebook: Notebook) -> None:
    """The plugin's lines stand between what the cell printed before and after the call."""
    notebook.run("%%load_plugin echo\n" + WAITER.partition("\n")[2].replace('"begun"', "path")).check()
    cell = notebook.run(
        "for i in range(20):\n    print('before', i)\n    value = await echo.process('/')\n    print('after', i)"
    )
    expected = [
        line for i in range(20) for line in (f"before {i}", "/", "\x1b[31mit is there\x1b[0m", f"after {i}")
    ]
    assert cell.stream().splitlines() == expected


def test_a_call_from_a_magic_streams_to_its_cell_while_it_runs(notebook: Notebook) -> None:
    """`%%sandbox` blocks the kernel's main thread; its output comes all the same, before it ends."""
    cell = notebook.start("%%sandbox --wall 60\nimport time\nprint('hello')\ntime.sleep(50)")
    notebook.until(lambda: "hello" in cell.stream())
    assert not cell.idle
    notebook.manager.interrupt_kernel()
    notebook.until(lambda: cell.idle)


def test_a_debugger_gets_in_nothings_way(notebook: Notebook) -> None:
    """With JupyterLab's debugger on everything works; breakpoints in a sandboxed cell are said to stop nothing."""
    for command, arguments in DEBUGGER:
        assert notebook.debug(command, arguments)["success"]
    notebook.run("%reload_ext agentplug").check()
    cell = "%%sandbox --keep work\nx = 6\nx * 7"
    path = notebook.debug("dumpCell", {"code": cell})["body"]["sourcePath"]
    notebook.debug("setBreakpoints", {"source": {"path": path}, "breakpoints": [{"line": 2}]})
    ran = notebook.run(cell)
    assert ran.texts == ["42"]
    assert ran.stream("stderr").startswith("The breakpoints in this cell stop nothing: a worker runs it")
    assert notebook.value("%%sandbox --keep work\nx") == "6"
    notebook.run("%unload_ext agentplug").check()
    assert eventually(lambda: notebook.below() == [])


def test_a_flood_is_few_messages(notebook: Notebook) -> None:
    """A plugin that prints without end sends a bounded number of bounded messages."""
    cell = notebook.run("%%sandbox --output 8M\nfor i in range(200_000):\n    print('line', i)")
    streamed = [output for output in cell.outputs if output["type"] == "stream"]
    assert len(streamed) < 200
    assert len(cell.stream()) < 3_000_000
    assert notebook.value("str(_run.verdict)") == "'completed'"


@pytest.mark.parametrize(
    "body", ["while True: pass", "import time; time.sleep(100)", "import asyncio; await asyncio.sleep(100)"]
)
def test_interrupt_stops_a_sandbox_cell(notebook: Notebook, body: str) -> None:
    """The interrupt reaches the worker, is raised in the notebook, and leaves the partial Run."""
    cell = notebook.start(f"%%sandbox --wall 200 --cpu 200\nprint('begun')\n{body}")
    notebook.until(lambda: "begun" in cell.stream())
    notebook.manager.interrupt_kernel()
    notebook.until(lambda: cell.idle)
    assert cell.error is not None
    assert cell.error[0] == "KeyboardInterrupt"
    assert notebook.value("str(_run.verdict), _run.stdout") == "('stopped:interrupt', 'begun\\n')"
    assert notebook.run("%%sandbox\n6 * 7").check().texts == ["42"]


def test_interrupt_of_a_cell_that_ignores_it_kills_its_worker(notebook: Notebook) -> None:
    """A plugin that swallows the interrupt is killed after the grace time."""
    code = (
        "%%sandbox --wall 200 --cpu 200\n"
        "import time\n"
        "print('begun')\n"
        "while True:\n"
        "    try:\n"
        "        time.sleep(100)\n"
        "    except BaseException:\n"
        "        pass"
    )
    cell = notebook.start(code)
    notebook.until(lambda: "begun" in cell.stream())
    notebook.manager.interrupt_kernel()
    notebook.until(lambda: cell.idle)
    assert cell.error is not None
    assert cell.error[0] == "KeyboardInterrupt"
    assert notebook.value("str(_run.verdict)") == "'stopped:interrupt'"


def test_interrupt_stops_an_awaited_call(notebook: Notebook) -> None:
    """`await plugin.process(…)` is interrupted like any await; the plugin has a Run and answers the next call."""
    notebook.run(WAITER).check()
    cell = notebook.start("await waiter.process('/nowhere')")
    notebook.until(lambda: "begun" in cell.stream())
    notebook.manager.interrupt_kernel()
    notebook.until(lambda: cell.idle)
    assert cell.error is not None
    assert cell.error[0] in ("KeyboardInterrupt", "CancelledError")
    assert notebook.value("str(waiter.runs[-1].verdict)") == "'stopped:interrupt'"
    assert notebook.value("await waiter.process('/')") == "'done'"


def test_interrupt_while_loading_registers_nothing(notebook: Notebook) -> None:
    """A plugin that hangs in `initialize` can be interrupted; nothing is registered or bound, its worker ends."""
    told = "config):\n        print('worker', os.getpid(), 'begun')\n        await asyncio.sleep(100)"
    cell = notebook.start(WAITER.replace("config): ...", told))
    notebook.until(lambda: "begun" in cell.stream())
    worker = Watched(int(cell.stream().split()[1]))
    assert worker.pid in {process.pid for process in notebook.below()}
    notebook.manager.interrupt_kernel()
    notebook.until(lambda: cell.idle)
    assert cell.error is not None
    assert cell.error[0] == "KeyboardInterrupt"
    assert worker.ended()
    assert notebook.value("%plugins") == "No plugin is loaded; load one with %load_plugin SPEC."
    assert notebook.value("'waiter' in globals()") == "False"


@pytest.mark.parametrize("now", [False, True], ids=["asked", "killed"])
def test_a_restart_leaves_no_orphan(notebook: Notebook, now: bool) -> None:
    """Zygote and workers, a busy one among them, end with the kernel that is restarted, and the new one works."""
    notebook.run(WAITER).check()
    caller = notebook.start("task = __import__('asyncio').create_task(waiter.process('/nowhere'))")
    notebook.until(lambda: caller.idle and "begun" in caller.stream())
    below = notebook.below()
    assert notebook.worker("waiter").pid in {process.pid for process in below}
    notebook.restart(now=now)
    assert all(process.ended() for process in below)
    notebook.run("%load_ext agentplug").check()
    assert notebook.run("%%sandbox\n6 * 7").check().texts == ["42"]


def test_a_killed_kernel_leaves_no_orphan(notebook: Notebook) -> None:
    """SIGKILL gives the kernel no time to clean up, and nothing of it stays all the same."""
    notebook.run(WAITER).check()
    caller = notebook.start("task = __import__('asyncio').create_task(waiter.process('/nowhere'))")
    notebook.until(lambda: caller.idle and "begun" in caller.stream())
    below = notebook.below()
    assert notebook.worker("waiter").pid in {process.pid for process in below}
    code = "from agentplug.core.host import launcher\nprint(launcher.zygote_for().scratch_root)"
    root = notebook.run(code).stream()
    assert Path(root.strip()).is_dir()
    os.kill(notebook.pid, signal.SIGKILL)
    assert all(process.ended() for process in below)
    assert not Path(root.strip()).exists()


@pytest.mark.parametrize(
    ("body", "ended"),
    [
        ("import os; os._exit(3)", "died:exit 3"),
        ("import ctypes; ctypes.string_at(0)", "died:SIGSEGV"),
        ("import os; os.kill(os.getppid(), 9)", "failed:PermissionError"),
        ("import sys; sys.exit()", "failed:SystemExit"),
    ],
)
def test_the_kernel_outlives_a_plugin_that_ends_the_process(notebook: Notebook, body: str, ended: str) -> None:
    """What would be a DeadKernelError in the kernel is a verdict, and the kernel goes on."""
    pid = notebook.value("__import__('os').getpid()")
    cell = notebook.run(f"%%sandbox --expect '{ended}'\n{body}").check()
    (text,) = cell.texts
    assert text.splitlines()[0] == f"<Run of sandbox cell: {ended}>"  # what it tried may stand below
    assert notebook.value("__import__('os').getpid()") == pid


STABLE = [
    WAITER,
    "await waiter.process('/')",
    "waiter.runs[-1]",
    "waiter",
    "%plugins",
    "%reload_plugin waiter",
    "%%sandbox --memory 32M --expect limited:memory\nprint('hog')\nx = bytearray(1 << 28)",
    "_run",
    "%%sandbox\n{'a': [1, 2.5, None]}",
    "%sandbox_doctor",
    "waiter.barriers",
    "%unload_plugin waiter",
]


def test_texts_are_the_same_from_run_to_run(notebook: Notebook) -> None:
    """No pid, time or address in text/plain: a notebook compares equal after a restart."""
    first = [(cell.texts, cell.stream(), cell.stream("stderr"), cell.error) for cell in map(notebook.run, STABLE)]
    notebook.restart(now=False)
    notebook.run("%load_ext agentplug").check()
    again = [(cell.texts, cell.stream(), cell.stream("stderr"), cell.error) for cell in map(notebook.run, STABLE)]
    assert again == first
    assert all(error is None for *_, error in first)


def test_close_while_the_kernels_own_loop_has_a_call_under_way(notebook: Notebook) -> None:
    """A magic blocks the loop that a task of the user waits on; unloading ends that call and comes back."""
    notebook.run(WAITER).check()
    caller = notebook.start("task = __import__('asyncio').create_task(waiter.process('/nowhere'))")
    notebook.until(lambda: caller.idle and "begun" in caller.stream())
    worker = notebook.worker("waiter")
    cell = notebook.run("%%sandbox --plugin waiter\n'/'")
    assert cell.error is not None
    assert "'waiter' is busy with another call" in cell.error[1]
    notebook.run("plugin = waiter").check()
    notebook.run("%unload_plugin waiter").check()
    assert worker.ended()
    told = notebook.value("(await __import__('asyncio').gather(task, return_exceptions=True))[0]")
    assert "WorkerDied('Plugin waiter was stopped because it was closed" in told
    assert notebook.value("str(plugin.runs[-1].verdict)") == "'stopped:close'"


def test_unload_and_reload_in_a_kernel(notebook: Notebook) -> None:
    """After `%unload_ext` the magics are gone and the workers with them; `%reload_ext` brings them back."""
    notebook.run(WAITER).check()
    worker = notebook.worker("waiter")
    notebook.run("%unload_ext agentplug").check()
    assert worker.ended()
    assert "not found" in notebook.run("%plugins").stream("stderr")
    notebook.run("%load_ext agentplug").check()
    notebook.run("%reload_ext agentplug").check()
    assert notebook.run("%%sandbox\n'again'").check().texts == ["'again'"]


def test_nothing_of_ours_is_left_after_unload(notebook: Notebook) -> None:
    """Widgets, comms, cell events, the receiver of clicks and processes are as they were; the user's own stay."""
    state = (
        "import ipywidgets, comm\n"
        "kernel, events = get_ipython().kernel, get_ipython().events\n"
        "def state():\n"
        "    widgets = set(ipywidgets.widgets.widget._instances) | set(comm.get_comm_manager().comms)\n"
        "    return widgets, list(events.callbacks['post_run_cell']), kernel.shell_stream._recv_callback"
    )
    notebook.run(f"%unload_ext agentplug\n{state}\nmine = ipywidgets.IntSlider()").check()
    assert notebook.below() == []
    notebook.run("before = state()\n%load_ext agentplug").check()
    for _ in range(3):
        notebook.run("%%sandbox --live\n42").check()
    notebook.until(lambda: all(cell.idle for cell in notebook.cells.values()))
    assert notebook.value("state()[0] == before[0]") == "True"
    notebook.run(f"{WAITER.replace('--cpu 60', '--cpu 60 --live')}").check()
    notebook.run("import agentplug\nmanager = agentplug.PluginManager()\nagentplug.dashboard(manager)").check()
    below = notebook.below()
    assert below
    notebook.run("%unload_ext agentplug").check()
    assert all(process.ended() for process in below)
    assert notebook.value("state() == before") == "True"
    assert notebook.run("%load_ext agentplug\n%plugins").check().texts


def test_live_shows_a_dashboard_and_leaves_the_card_of_its_run(notebook: Notebook) -> None:
    """--live shows widgets, and HTML that follows the cell; at its end the widgets are closed, the card stays."""
    cell = notebook.start("%%sandbox --live --wall 60\nimport time\nprint('begun')\ntime.sleep(50)")
    notebook.until(lambda: "begun" in cell.stream() and sum("data" in output for output in cell.outputs) >= 2)
    notebook.manager.interrupt_kernel()
    notebook.until(lambda: cell.idle)
    shown = [output for output in cell.outputs if output["type"] in ("display_data", "update_display_data")]
    assert "application/vnd.jupyter.widget-view+json" in shown[0]["data"]
    assert [output["data"]["text/plain"] for output in shown][:2] == ["<Dashboard of this call>"] * 2
    assert shown[-1]["data"]["text/plain"] == "<Run of sandbox cell: stopped:interrupt>"
    assert shown[-1]["type"] == "update_display_data"
    assert "stopped:interrupt" in shown[-1]["data"]["text/html"]
    assert any(output["type"] == "comm_close" for output in cell.outputs)


def test_live_shows_one_thing(notebook: Notebook) -> None:
    """No card stands beside a dashboard: neither of a plugin that it follows, nor of a run whose card it becomes."""
    limited = notebook.run("%%sandbox --live --wall 0.2 --expect limited:wall\nimport time\ntime.sleep(9)").check()
    loaded = notebook.run(WAITER.replace("--cpu 60", "--cpu 60 --live")).check()
    for cell in (limited, loaded):
        assert [o["type"] for o in cell.outputs if o["type"] in ("display_data", "execute_result")] == ["display_data"] * 2
    [*_, last] = [o for o in limited.outputs if o["type"] == "update_display_data"]
    assert last["data"]["text/plain"] == "<Run of sandbox cell: limited:wall>"
    assert notebook.value("waiter, str(_run.verdict)") == "(<SandboxedPlugin waiter 1: ready>, 'limited:wall')"


def test_nbclient_sees_a_verdict_and_not_a_typo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that run notebooks fail on a verdict that wasn't expected."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("%load_ext agentplug"),
            nbformat.v4.new_code_cell("%%sandbox --wall 0.2 --expect limited:wall\nimport time\ntime.sleep(9)"),
            nbformat.v4.new_code_cell("%%sandbox --expect limited:memory\n1"),
        ]
    )
    with pytest.raises(CellExecutionError, match="expected the verdict limited:memory, got completed"):
        nbclient.NotebookClient(book, timeout=60, kernel_name="python3").execute(cwd=str(tmp_path))
    assert book.cells[1].outputs[0].data["text/plain"] == "<Run of sandbox cell: limited:wall>"
