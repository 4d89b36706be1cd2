"""What a plugin may read of its own process: what libraries ask for, and nothing about its host's network.

On machines without namespaces, since an empty network of its own would cover up what /proc shows of the host's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from arena import machines

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

pytestmark = pytest.mark.need("landlock", "seccomp")

NAMES = ("machine_landlock_1", "machine_landlock_3", "machine_landlock_5", "machine_no_listener")

LIST_SOCKETS = """
import os, pathlib, threading

def attack(given):
    own = f"/proc/{os.getpid()}"
    ways = [f"{own}/net", f"{own}/task/{os.getpid()}/net", f"{own}/task/{threading.get_native_id()}/net",
            f"{own}/cwd/../proc/self/net", f"{own}/root{own}/net", "/proc/self/net", "/proc/thread-self/net",
            "/proc/net", f"/proc/{os.getppid()}/net", "/proc/1/net"]
    seen = []
    def look(ways):
        for way in ways:
            for name in ("unix", "tcp", "route", "arp"):
                try:
                    with open(f"{way}/{name}") as file:
                        file.read()
                except (PermissionError, FileNotFoundError, NotADirectoryError):
                    continue
                seen.append(f"{way}/{name}")
    look(ways)
    thread = threading.Thread(target=lambda: look([f"{own}/task/{threading.get_native_id()}/net"]))
    thread.start()
    thread.join()
    if given and os.fork() == 0:
        try:
            look([*ways, f"/proc/{os.getpid()}/net"])
        finally:
            os._exit(len(seen))
    if given:
        seen += ["of a child"] * os.waitstatus_to_exitcode(os.wait()[1])
    return seen
"""

READ_OWN = """
import os

def attack(given):
    for name in "status stat statm maps smaps cmdline comm mounts mountinfo cgroup limits io environ".split():
        with open(f"/proc/self/{name}") as file:
            file.read()
    with open("/proc/self/fdinfo/0") as file:
        file.read()
    return len(os.listdir("/proc/self/fd")) >= 4
"""

USE = {
    "numpy": """
import threading
import numpy as np

def attack(given):
    sums = []
    threads = [threading.Thread(target=lambda: sums.append(float((np.ones((300, 300)) @ np.ones((300, 300))).sum())))
               for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sums == [300.0**3] * 3
""",
    "pandas": """
import pandas as pd

def attack(given):
    table = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=4, tz="Europe/Paris"), "n": range(4)})
    return int(table.groupby(table.day.dt.month).n.sum().iloc[0]) == 6
""",
    "matplotlib": """
import io, os

def attack(given):
    os.environ["MPLCONFIGDIR"] = os.getcwd()
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    figure, axes = plt.subplots()
    axes.plot([1, 2], [3, 4])
    axes.set_title("a title")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return len(file.getvalue()) > 1000
""",
    "asyncio": """
import asyncio

def attack(given):
    async def work():
        return await asyncio.to_thread(sum, [1, 2]) + await asyncio.sleep(0, 3)
    return asyncio.run(work()) == 6
""",
    "psutil": """
import psutil

def attack(given):
    process = psutil.Process()
    with process.oneshot():
        figures = [process.memory_info().rss, process.cpu_times().user, process.num_fds(), process.num_threads()]
        figures += [process.memory_full_info().uss, process.io_counters().read_count]
        return process.name() == "agentplug" and bool(process.cmdline()) and min(figures) >= 0
""",
    "subprocess": """
import subprocess

def attack(given):
    return subprocess.run(["/bin/echo", "a word"], capture_output=True, text=True).stdout == "a word\\n"
""",
}


@pytest.fixture(scope="module", autouse=True)
def _machines() -> Iterator[None]:
    with machines(*NAMES):
        yield


@pytest.fixture(params=NAMES)
def machine(request: pytest.FixtureRequest) -> str:
    """A machine without namespaces."""
    return str(request.param)


def test_sockets_are_listed_where_nothing_stops_it(unconfined: Any) -> None:
    """The files are there, and show what is asked for."""
    seen = unconfined(LIST_SOCKETS, True).value

    assert {"/proc/self/net/unix", "/proc/thread-self/net/tcp", "/proc/1/net/route"} <= set(seen)
    assert "of a child" in seen


@pytest.mark.parametrize("processes", [0, 2])
def test_the_hosts_sockets_are_listed_nowhere(confined: Any, machine: str, processes: int) -> None:
    """By no path to `net` in /proc, from the main thread, another one or a granted child."""
    run = confined(LIST_SOCKETS, processes > 0, policy=Policy(preload=(machine,), processes=processes))

    assert run.value == []


def test_a_plugin_reads_about_itself(confined: Any, machine: str) -> None:
    """Not an attack: its memory, descriptors and limits are what many programs look at."""
    assert confined(READ_OWN, policy=Policy(preload=(machine,))).value is True


@pytest.mark.parametrize("library", USE)
def test_libraries_work(confined: Any, machine: str, library: str) -> None:
    """Not an attack: they find of their own process what they look for."""
    policy = Policy(preload=(machine,), processes=4 * (library == "subprocess"), disk="16M", memory="512M", cpu_s=60)

    run = confined(USE[library], policy=policy)

    assert (run.verdict, run.value) == (Verdict("completed"), True), run.error
