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
except AgentplugError as error:
    print(type(error).__name__, error)
plugin.close_sync()
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
    done = python(HOST, "CPU", "3", "0.1", "9", "0.1")
    assert (done.returncode, done.stderr) == (0, "")
    before, over, after, _ = done.stdout.splitlines()
    assert (before.split()[:2], after.split()[:2]) == (["done", "completed"],) * 2
    assert "limited:cpu" in over
    assert "2.00 s (ulimit -t)" in over
