"""A debugger in the host, and zygotes that don't become ready."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from agentplug import Policy, SandboxedPlugin
from agentplug.core.host import launcher, zygote_process
from agentplug.errors import BarrierUnavailable
from tests.faults.conftest import FaultyPlugin
from tests.leftovers import _warmed, eventually, nothing_left, python  # noqa: F401

pytestmark = pytest.mark.need("landlock", "seccomp")

HOST = """
{}
from agentplug import SandboxedPlugin
from agentplug.core.host.launcher import zygote_for
class P:
    name, version = "p", "1"
    def initialize(self, config): pass
    def process(self, value): return value
plugin = SandboxedPlugin(P)
print(plugin.run_sync(1).value)
print(open(f"/proc/{{zygote_for().process.pid}}/cmdline").read().count("debug"))
plugin.close_sync()
"""
DEBUGPY = """
import debugpy
debugpy.listen(("127.0.0.1", 0))
"""
PYDEVD = """
import debugpy
from debugpy._vendored import force_pydevd
from _pydev_bundle import pydev_monkey
import pydevd
pydevd.SetupHolder.setup = {"client": "127.0.0.1", "port": 9, "multiprocess": True, "ppid": 0}
pydev_monkey.patch_new_process_functions()
"""
OTHER = """
import os, subprocess, _posixsubprocess, multiprocessing
def hang(*arguments, **options): raise SystemError("a debugger's")
os.fork = os.posix_spawn = os.posix_spawnp = os.execv = os.execve = hang
subprocess.Popen = subprocess._fork_exec = _posixsubprocess.fork_exec = hang
os.environ |= {"PYDEVD_USE_CYTHON": "NO", "PYTHONSTARTUP": "/debug", "PYTHONPATH": "/debug", "PYTHONBREAKPOINT": "x"}
"""


@pytest.mark.parametrize("debugger", [DEBUGPY, PYDEVD, OTHER], ids=["debugpy", "pydevd", "other"])
def test_a_debugger_in_the_host_never_reaches_the_zygote(debugger: str) -> None:
    """It replaces what starts processes; the zygote starts without it, at once, and the value comes back."""
    if debugger is not OTHER:
        pytest.importorskip("debugpy")
    done = python(HOST.format(debugger), timeout_s=60)
    assert (done.stdout, done.returncode) == ("1\n0\n", 0), done.stderr


@pytest.fixture
def preloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A module that zygotes can preload, its code to be written."""
    real = launcher.worker_path
    monkeypatch.setattr(launcher, "worker_path", lambda: [*real(), str(tmp_path)])
    return tmp_path / "slow_module.py"


def start(policy: Policy) -> None:
    plugin = SandboxedPlugin(FaultyPlugin, policy)
    try:
        plugin.run_sync("x")
    finally:
        plugin.close_sync()
        if zygote := launcher._registry.get(policy.preload):
            zygote.close()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import socket; a, b = socket.socketpair(); a.recv(1)", "it stood still for 2 s"),
        ("import subprocess; subprocess.run(['sleep', '1000'])", "it stood still for 2 s"),
        ("while True: pass", "wasn't ready after 2 s of CPU time"),
    ],
    ids=["waits", "waits for a child", "spins"],
)
def test_a_zygote_that_never_becomes_ready_is_ended(
    preloaded: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    """The error has the reason and its last words, and nothing of it stays."""
    monkeypatch.setattr(zygote_process, "STILL_S", 2.0)
    monkeypatch.setattr(zygote_process, "START_CPU_S", 2.0)
    preloaded.write_text(f"import sys\nprint('last words', file=sys.stderr, flush=True)\n{code}\n")

    with pytest.raises(BarrierUnavailable, match=reason) as caught:
        start(Policy(preload=("slow_module",)))

    assert "it said: last words" in str(caught.value)
    below = psutil.Process().children(recursive=True)
    assert eventually(lambda: not any("sleep" in process.name() for process in below if process.is_running()))


def test_a_slow_zygote_becomes_ready(preloaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it works, however little, a start has time."""
    monkeypatch.setattr(zygote_process, "STILL_S", 2.0)
    preloaded.write_text(
        "import time\nfor _ in range(50):\n    time.sleep(0.1)\n    until = time.process_time() + 0.002\n"
        "    while time.process_time() < until: pass\n"
    )
    began_s = time.monotonic()
    start(Policy(preload=("slow_module",)))
    assert time.monotonic() - began_s > 5


def test_a_zygote_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last words are in the error."""
    launcher.close_all()
    monkeypatch.setattr(launcher, "worker_path", list)
    with pytest.raises(BarrierUnavailable, match=r"(?s)ended; it said: .*No module named"):
        start(Policy())
