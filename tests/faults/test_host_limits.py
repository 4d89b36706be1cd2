"""A host whose own resource limits are low: workers start all the same, or the error names limit and remedy."""

from __future__ import annotations

import os

import pytest

from tests.leftovers import python

pytestmark = pytest.mark.need("landlock", "seccomp")

HOST = """
import resource, sys
from agentplug import Policy, SandboxedPlugin
from agentplug.errors import AgentplugError
class P:
    name, version = "p", "1"
    def initialize(self, config): pass
    def process(self, seconds):
        import time
        until = time.process_time() + seconds
        while time.process_time() < until: pass
        return "done"
plugin = SandboxedPlugin(P, Policy(wall_s=100))
name, limit, *calls = sys.argv[1:]
resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(limit), int(limit)))
try:
    for seconds in calls:
        run = plugin.run_sync(float(seconds))
        print(run.value, run.verdict, run.explain())
    print(plugin.barriers.set_index("barrier").loc["limits", "detail"])
    plugin.close_sync()
except AgentplugError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("AS", 700_000_000),
        ("CORE", 0),
        ("CPU", 400),
        ("CPU", 8),
        ("DATA", 300_000_000),
        ("FSIZE", 4_096),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
        ("NICE", 0),
        ("NOFILE", 64),
        ("RSS", 1_000_000),
        ("RTPRIO", 0),
        ("RTTIME", 0),
        ("SIGPENDING", 0),
        ("STACK", 1_000_000),
    ],
)
def test_a_low_hard_limit_of_the_host_stops_no_start(name: str, limit: int) -> None:
    """Each limit of a worker is the lower of the wanted one and the host's; the report says which are the host's."""
    done = python(HOST, name, str(limit), "0")
    assert (done.returncode, done.stderr) == (0, "")
    value, detail = done.stdout.splitlines()
    assert value.startswith("done completed")
    lowered = name in ("AS", "CPU", "DATA", "SIGPENDING", "STACK")
    assert (f"{name} {limit}" in detail.partition("lower, as this process's own")[2]) == lowered


@pytest.mark.parametrize(
    ("name", "limit"), [("NOFILE", 12), ("NOFILE", 18), ("NPROC", 1), ("NPROC", 3), ("FSIZE", 0)]
)
def test_a_limit_too_low_for_any_worker_is_named(name: str, limit: int) -> None:
    """The error has the limit's name, its figure and the option that raises it, and no traceback."""
    if name == "NPROC" and os.geteuid() == 0:
        pytest.skip("RLIMIT_NPROC doesn't hold for root")
    done = python(HOST, name, str(limit), "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("BarrierUnavailable ")
    assert f"{name} {limit} (ulimit -" in done.stdout
    assert "Traceback" not in done.stdout


def test_cpu_time_below_the_hosts_own_limit_is_the_hosts_limit() -> None:
    """A worker may use what the host may, in all calls: beyond it, its call ends with that figure."""
    done = python(HOST, "CPU", "2", "0.1", "9", "0.1", timeout_s=110)
    assert (done.returncode, done.stderr) == (0, "")
    before, over, after, _ = done.stdout.splitlines()
    assert (before.split()[:2], after.split()[:2]) == (["done", "completed"],) * 2
    assert "limited:cpu" in over
    assert "s (ulimit -t)" in over  # by ticks, it may be just below the limit


CROWD = """
import asyncio, resource, sys
from agentplug import SandboxedPlugin
from agentplug.errors import AgentplugError
class P:
    name, version = "p", "1"
    def initialize(self, config): pass
    def process(self, value): return value
soft, hard, count = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
async def main():
    plugins = [SandboxedPlugin(P) for _ in range(count)]
    try:
        for plugin in plugins:
            assert await plugin.process(1) == 1
        print("all")
    except AgentplugError as error:
        print(type(error).__name__, error)
    now = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(now[0] == soft, now[0] <= hard, now[1] == hard)
    await asyncio.gather(*(plugin.close() for plugin in plugins))
asyncio.run(main())
"""


def test_many_workers_raise_the_soft_limit_of_descriptors() -> None:
    """Forty workers need twice as many as are there; the hard limit allows them."""
    done = python(CROWD, "256", "2048", "40")
    assert (done.stdout, done.stderr) == ("all\nFalse True True\n", "")


def test_few_workers_leave_the_soft_limit_of_descriptors_as_it_is() -> None:
    """It is the user's."""
    done = python(CROWD, "256", "2048", "3")
    assert (done.stdout, done.stderr) == ("all\nTrue True True\n", "")


def test_the_hard_limit_of_descriptors_is_the_end() -> None:
    """Then the error names it."""
    done = python(CROWD, "128", "200", "40")
    assert done.stdout.startswith("BarrierUnavailable ")
    assert "NOFILE 200 (ulimit -n, a hard limit)" in done.stdout


GROUPS = """
import os, sys
os.setgroups(range(2_000_000_000, 2_000_000_000 + int(sys.argv[1])))
from agentplug import SandboxedPlugin
class P:
    name, version = "p", "1"
    def initialize(self, config): pass
    def process(self, value): return len(bytearray(b"x") * value)
plugin = SandboxedPlugin(P)
run = plugin.run_sync(8 << 20)
print(run.verdict, run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes >= 8 << 20)
plugin.close_sync()
"""


@pytest.mark.need("root")
@pytest.mark.parametrize("number", [0, 400, 4_000])
def test_a_user_may_be_in_many_groups(number: int) -> None:
    """The kernel lists them before a process's figures, which are no less read."""
    done = python(GROUPS, str(number))
    assert (done.stdout, done.stderr) == ("completed True\n", "")
