"""The command line as a shell sees it: what goes to which stream, the exit status, no traceback for a mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from agentplug.cli import demo

CONFINED = pytest.mark.need("landlock", "seccomp")
ROOT = Path(__file__).resolve().parents[2]
WORD_COUNT = "agentplug.plugins.word_count"

INTERRUPTIBLE = """
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it

from agentplug.cli.app import main

main()
"""

HOSTILE = """
class HostilePlugin:
    name, version = "hostile", "1.0"
    async def initialize(self, config): ...
    async def process(self, given):
        print("\\x1b[2Jprinted")
        return ["\\x1b[31m", "\\u202e", "\\x9b", "\\ud800", {(1, 2): "key"}][given if isinstance(given, int) else 0 :]
"""


def agentplug(*arguments: str, stdin: str | bytes = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [sys.executable, "-m", "agentplug", *arguments],
        input=data,
        capture_output=True,
        timeout=120,
        check=False,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "100", "PYTHONUTF8": "1"} | env,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


# ---------------------------------------------------------------------- in general


def test_the_version_is_the_installed_one() -> None:
    """`--version` tells what is installed, in a form that scripts can cut."""
    done = agentplug("--version")

    assert (done.returncode, done.stdout, done.stderr) == (0, f"agentplug {version('agentplug')}\n", "")


def test_help_lists_every_command() -> None:
    """A newcomer finds all there is from `--help`."""
    done = agentplug("--help")

    assert done.returncode == 0
    assert all(f" {name} " in done.stdout for name in ("demo", "run", "doctor", "lab"))


def test_a_typo_is_answered_without_loading_the_sandbox() -> None:
    """Help and mistakes are answered at once: nothing heavy is imported before a command needs it."""
    code = "import agentplug.cli, sys; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert not {"pandas", "numpy", "matplotlib", "IPython", "msgspec", "psutil", "agentplug.core"} & set(
        done.stdout.split()
    )


# ---------------------------------------------------------------------- run


@CONFINED
def test_run_writes_the_value_to_stdout_and_the_verdict_to_stderr() -> None:
    """A pipe gets the value as JSON and nothing else; a person sees verdict and cost beside it."""
    done = agentplug("run", WORD_COUNT, "one two two")

    assert done.returncode == 0
    assert json.loads(done.stdout)["frequent"] == {"two": 2, "one": 1}
    assert "✓ completed" in done.stderr
    assert re.search(r"wall \S+ m?s of 30 s · CPU \S+ m?s of 10 s · memory \S+ [KM]iB of 512 MiB", done.stderr)


@CONFINED
def test_run_takes_json_from_standard_input() -> None:
    """`- --json` reads structured input from a pipe, and `--config` reaches `initialize`."""
    given = json.dumps({"text": "a b b c"})

    done = agentplug("run", WORD_COUNT, "-", "--json", "--config", '{"top": 1}', stdin=given)

    assert done.returncode == 0
    assert json.loads(done.stdout)["frequent"] == {"b": 2}


@CONFINED
def test_run_exits_with_1_for_another_verdict() -> None:
    """A plugin that was stopped gives status 1, no value, and a sentence with fact, limit and remedy."""
    done = agentplug("run", "agentplug.zoo.memory:Hoarder", "--memory", "32M")

    assert (done.returncode, done.stdout) == (1, "")
    assert "limited:memory" in done.stderr
    assert "> 32.0 MB; raise Policy(memory=…)" in done.stderr


@CONFINED
def test_run_shows_the_traceback_of_the_plugin_and_not_ours() -> None:
    """For a plugin that raised, its own lines are what helps."""
    done = agentplug("run", "agentplug.zoo.host:HostKiller")

    assert done.returncode == 1
    assert "failed:PermissionError" in done.stderr
    assert "os.kill(" in done.stderr
    assert "cli.py" not in done.stderr


@CONFINED
def test_nothing_that_a_plugin_says_steers_the_terminal(tmp_path: Path) -> None:
    """Its value, its output and its name come out escaped, and the value is still JSON that reads back the same."""
    file = tmp_path / "hostile.py"
    file.write_text(HOSTILE)

    texts = agentplug("run", str(file))
    keys = agentplug("run", str(file), "4", "--json")
    name = agentplug("run", "agentplug.zoo.display:Impostor")

    assert texts.returncode == keys.returncode == name.returncode == 0
    assert not set("\x1b\x07\x9b\u202e") & set("".join(d.stdout + d.stderr for d in (texts, keys, name)))
    assert "\\x1b[2Jprinted" in texts.stderr
    assert json.loads(agentplug("run", WORD_COUNT, "é 漢").stdout)["frequent"] == {"é": 1, "漢": 1}
    assert json.loads(keys.stdout) == "[{(1, 2): 'key'}]"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("agentplug.zoo.memory", "No plugin class found in agentplug.zoo.memory"),
        ("agentplug.zoo.memory:Horder", "has no class 'Horder'"),
    ],
)
@CONFINED
def test_what_is_no_plugin_exits_with_2_and_says_why(spec: str, words: str) -> None:
    """Only a worker can say so; the shell sees no difference to other mistakes."""
    done = agentplug("run", spec, COLUMNS="200")

    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@CONFINED
def test_an_interrupt_stops_the_plugin_and_leaves_nothing() -> None:
    """Ctrl-C ends the call with a verdict, status 1, and no process behind it."""
    started = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "run", "agentplug.zoo.cpu:Spinner", "--wall", "60", "--cpu", "60"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    with started:
        process = psutil.Process(started.pid)
        worker = wait_for_a_busy_child(process)
        below = process.children(recursive=True)
        started.send_signal(signal.SIGINT)
        _, stderr = started.communicate(timeout=60)

    assert started.returncode == 1
    assert "stopped:interrupt" in stderr
    assert worker in below
    assert psutil.wait_procs(below, timeout=10)[1] == []


def wait_for_a_busy_child(process: psutil.Process) -> psutil.Process:
    """The worker below `process` once it has used CPU for a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in process.children(recursive=True):
            try:
                if child.ppid() != process.pid and child.cpu_times().user > 0.3:
                    return child
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.02)
    raise TimeoutError("no worker got busy")


# ---------------------------------------------------------------------- doctor, lab


@CONFINED
def test_doctor_shows_every_barrier_of_a_fit_machine() -> None:
    """Status 0 and a row a barrier, where every promise can be kept."""
    done = agentplug("doctor", COLUMNS="160")

    assert done.returncode == 0
    assert "This machine can confine plugins" in done.stdout
    assert all(name in done.stdout for name in ("landlock", "seccomp", "limits", "privileges", "descriptors"))


def test_lab_starts_jupyterlab_on_the_notebooks_with_further_arguments(tmp_path: Path) -> None:
    """`agentplug lab` becomes JupyterLab: the folder of the notebooks first, then what else was typed."""
    fake = tmp_path / "jupyterlab"
    fake.mkdir()
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text("import sys; print(sys.argv[1:])")

    done = agentplug("lab", "--no-browser", "--port=1", PYTHONPATH=str(tmp_path))

    assert done.stdout == f"{[str(ROOT / 'notebooks'), '--no-browser', '--port=1']}\n"
    assert done.returncode == 0


def test_lab_without_jupyterlab_says_how_to_install_it() -> None:
    """The remedy, not a traceback."""
    code = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "jupyterlab" else find_spec(name, *rest)
sys.argv[1:] = ["lab"]
import agentplug.__main__
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "JupyterLab isn't installed here; pip install 'agentplug[lab]'" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------- demo


@CONFINED
def test_the_demo_shows_every_plugin_and_saves_its_picture(tmp_path: Path) -> None:
    """Without a terminal it prints a line a plugin, proves that the host went on, and names what to open next."""
    picture = tmp_path / "memory.png"

    done = agentplug("demo", "--output", str(picture))

    acts = demo.programme()
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(f" {act.expected} " in done.stdout for act in acts) == len(acts)
    assert f"✓ {len(acts)} of {len(acts)} verdicts are the expected ones" in done.stdout
    assert "✓ no process is left of them" in done.stdout
    assert "quickstart.ipynb" in done.stdout
    assert "agentplug lab" in done.stdout
    assert not set("\x1b\x07") & set(done.stdout)
    assert picture.read_bytes().startswith(b"\x89PNG")


@CONFINED
@pytest.mark.parametrize("width", [80, 120])
def test_the_live_table_fits_the_terminal(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the table of the end has a row a plugin, none broken, within 80 columns and within 120."""
    acts = [act for act in demo.programme() if act.expected.startswith(("died", "failed", "completed"))]
    acts.append(demo.Act("agentplug.zoo.memory:Hoarder", "fills its heap", "limited:memory"))
    monkeypatch.setattr(demo, "programme", lambda: acts)
    monkeypatch.setenv("COLUMNS", str(width))
    file = tmp_path / "screen"
    with file.open("w+") as screen:
        console = Console(file=screen, force_terminal=True, width=width, height=60, color_system=None)
        good = demo.show(console, tmp_path / "p.png", Path("n.ipynb"), "agentplug lab")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", file.read_text()).rpartition("plugin  ")[2]
    shown = shown.partition("verdicts are")[0].splitlines()

    assert good
    assert max(len(line) for line in shown) <= width
    for act in acts:
        assert any(f" {act.expected} " in line and ("MiB" in line) for line in shown)


@CONFINED
def test_the_demo_fails_when_a_verdict_is_not_the_expected_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine on which something gets through is told apart by the exit status, and by the plugin's name."""
    acts = [
        demo.Act(WORD_COUNT, "counts", "limited:cpu", "one two"),
        demo.Act("agentplug.zoo.memory:Hoarder", "fills its heap", "limited:memory"),
    ]
    monkeypatch.setattr(demo, "programme", lambda: acts)
    with (tmp_path / "screen").open("w+") as screen:
        good = demo.show(Console(file=screen, width=100), tmp_path / "p.png", Path("n.ipynb"), "agentplug lab")

    told = (tmp_path / "screen").read_text()
    assert not good
    assert "✗ 1 of 2 verdicts are the expected ones" in told
    assert f"{WORD_COUNT}: expected limited:cpu. Plugin word_count completed" in told


def test_the_demo_refuses_a_picture_without_a_directory(tmp_path: Path) -> None:
    """A wrong `--output` is told before anything runs."""
    done = agentplug("demo", "--output", str(tmp_path / "none" / "p.png"), COLUMNS="300")

    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no directory" in done.stderr
