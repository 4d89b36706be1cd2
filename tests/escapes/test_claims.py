"""Where no kernel tells what is tried, the worker does: marked as its own report, bounded, and no way to the host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arena import Arena

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.host import launcher
from agentplug.core.host.launcher import zygote_for
from agentplug.core.run import Run
from agentplug.report.refused_calls import refused_lines

pytestmark = pytest.mark.need("landlock", "seccomp")

MACHINES = str(Path(__file__).parent / "machines")
POOR = ("machine_no_listener",)

TRY = """
import os, socket, subprocess, resource

def attack(given):
    host, path = given
    for call in (
        lambda: socket.create_connection(("10.0.0.1", 443)),
        lambda: socket.create_connection(("10.0.0.1", 443)),
        lambda: subprocess.run(["/bin/sh", "-c", "id"]),
        os.fork,
        lambda: os.kill(host, 9),
        lambda: os.kill(os.getpid(), 0),
        lambda: resource.prlimit(host, resource.RLIMIT_NOFILE, (3, 3)),
        lambda: socket.socketpair()[0].close(),
        lambda: open(path).read(),
    ):
        try:
            call()
        except OSError:
            pass
    return "tried"
"""

USE = """
import os, socket, subprocess

def attack(given):
    port, path = given
    socket.create_connection(("127.0.0.1", port)).close()
    subprocess.run(["/bin/true"])
    open("notes", "w").close()
    return open(path).read()
"""

FLOOD = """
import os

def attack(times):
    for number in range(times):
        try:
            os.execv(f"/bin/{number}" + "x" * 5_000, ["x"])
        except OSError:
            pass
    return "flooded"
"""

MEDDLE = """
import gc, os

def attack(given):
    for found in gc.get_objects():
        if type(found).__name__ == "AuditHook":
            found._seen = {("tried", "kill", "\\x1b[31m<b>the host</b>" + "x" * 300): 1 << 40}
    return "meddled"
"""

# Frames of the plugin's own making on the channel: `frames` are (kind, call or None for the right one, body, blobs).
FORGE = """
import gc, os, struct, sys
import msgspec

def attack(frames):
    frame = sys._getframe()
    while "frame" not in frame.f_locals or not hasattr(frame.f_locals["frame"], "call"):
        frame = frame.f_back
    call = frame.f_locals["frame"].call
    for kind, number, body, blobs in frames:
        number = call if number is None else number
        os.write(3, struct.pack("<BBHIII", 0xA6, kind, 0, number, len(body), len(blobs)) + body + blobs)
    return "forged"
"""


@pytest.fixture(scope="module", autouse=True)
def _machine() -> Iterator[None]:
    """A zygote of a machine without listeners, from before the first stock-taking until the last test here."""
    real = launcher.worker_path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "worker_path", lambda: [*real(), MACHINES])
        zygote_for(POOR)
    yield
    zygote_for(POOR).close()


def poor(**fields: Any) -> Policy:
    return Policy(preload=POOR, **fields)


def told(run: Run) -> list[tuple[Any, ...]]:
    """Kind and detail of what was told but for its source, which is the worker."""
    found = [(event.kind, dict(event.detail)) for event in run.events if "source" in event.detail]
    assert all(detail.pop("source") == "worker" for _, detail in found)
    return [(kind, *detail.values()) for kind, detail in found if "during" not in detail]


def body(*claims: object, dropped: int = 0) -> bytes:
    import msgspec

    return msgspec.msgpack.encode({"calls": claims, "dropped": dropped})


def test_what_is_tried_is_the_workers_own_report(confined: Any, tmp_path: Path) -> None:
    """The same events with another source; opened files only where that was asked for."""
    run = confined(TRY, [os.getpid(), str(tmp_path / "x")], policy=poor())
    assert (run.verdict, run.value) == (Verdict("completed"), "tried")
    assert told(run) == [
        ("tried", "getaddrinfo", "10.0.0.1:443", 2),
        ("tried", "socket", "AF_INET SOCK_STREAM", 2),
        ("tried", "execve", "/bin/sh", 1),
        ("tried", "fork", "", 1),
        ("tried", "kill", "another process SIGKILL", 1),
        ("tried", "prlimit64", "another process", 1),
    ]
    assert refused_lines(run.events)[0] == "tried: getaddrinfo 10.0.0.1:443 ×2 (its worker's own report)"


def test_what_is_used_is_reported_when_observed(confined: Any, tmp_path: Path) -> None:
    """Addresses, processes, programs, and the files beyond those that everybody may read."""
    import socket

    file = tmp_path / "data"
    file.write_text("data")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        policy = poor(observe="files", network=(port,), processes=2, disk="1M", read=str(file))
        run = confined(USE, [port, str(file)], policy=policy)
    assert (run.verdict, run.value) == (Verdict("completed"), "data")
    assert told(run) == [
        ("connected", f"127.0.0.1:{port}", "tcp", 1),
        ("forked", 1),
        ("ran", "/bin/true", 1),
        ("opened", "$HOME/notes", "write", 1),
        ("opened", str(file), "read", 1),
    ]
    assert Policy.learn(run).policy.replace(preload=()).network == (port,)


def test_the_table_says_whose_word_it_is(arena: Arena) -> None:
    """And loses no promise for it."""

    async def details() -> list[str]:
        async with arena.plugin("def attack(given): return given", poor()) as plugin:
            return [row["detail"] for row in plugin._inside.barrier_rows() if row["barrier"] == "seccomp"]

    assert "what is tried is the worker's own report" in arena.watched(details)[0]


def test_where_the_kernel_tells_the_worker_reports_nothing(confined: Any) -> None:
    """It has no ear there, which would slow it down."""
    run = confined("import gc\ndef attack(given): return [type(x).__name__ for x in gc.get_objects()]")
    assert "AuditHook" not in run.value


def test_a_flood_is_bounded(confined: Any) -> None:
    """A hundred things at most, each cut; the rest is counted."""
    run = confined(FLOOD, 1_000, policy=poor())
    assert run.value == "flooded"
    *kept, last = told(run)
    assert (len(kept), last) == (100, ("dropped", "attempts", 900))
    assert max(len(str(claim)) for claim in kept) < 500


def test_meddling_with_the_report_only_makes_another_claim(confined: Any) -> None:
    """What it claims is shown as such, and harmless."""
    run = confined(MEDDLE, policy=poor())
    assert run.value == "meddled"
    assert [detail[1] for detail in told(run)] == ["kill"]
    line = refused_lines(run.events)[0]
    assert line.endswith("(its worker's own report)")
    assert "\x1b" not in line


CLAIMS = 23
GOOD = body(["tried", "kill", "x", 1])
FORGERIES = {
    "twice": [(CLAIMS, None, GOOD, b""), (CLAIMS, None, GOOD, b"")],
    "for no call": [(CLAIMS, 7, GOOD, b"")],
    "no such kind": [(CLAIMS, None, body(["limit", "memory", "x", 1]), b"")],
    "too many": [(CLAIMS, None, body(*[["tried", "kill", str(n), 1] for n in range(101)]), b"")],
    "too long": [(CLAIMS, None, body(["tried", "kill", "x" * 401, 1]), b"")],
    "no count": [(CLAIMS, None, body(["tried", "kill", "x", 0]), b"")],
    "negative drop": [(CLAIMS, None, body(dropped=-1), b"")],
    "no text": [(CLAIMS, None, body(["tried", "kill", 5, 1]), b"")],
    "no structure": [(CLAIMS, None, b"\xc1", b"")],
    "empty": [(CLAIMS, None, b"", b"")],
    "blobs": [(CLAIMS, None, GOOD, b"x")],
    "too large": [(CLAIMS, None, b"\x90" * (1 << 17), b"")],
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_report_out_of_order_breaks_the_protocol(confined: Any, name: str) -> None:
    """Each call has one report at most, typed and bounded."""
    run = confined(FORGE, FORGERIES[name], policy=poor())
    assert run.verdict == Verdict("broken", "protocol")
    assert run.value is None


def test_one_forged_report_is_a_claim(confined: Any) -> None:
    """It takes the place of the worker's, which had nothing to say."""
    run = confined(FORGE, [(CLAIMS, None, GOOD, b"")], policy=poor())
    assert run.value == "forged"
    assert told(run) == [("tried", "kill", "x", 1)]


def test_a_report_where_the_kernel_tells_breaks_the_protocol(confined: Any) -> None:
    """Nobody asked for it."""
    assert confined(FORGE, [(CLAIMS, None, GOOD, b"")]).verdict == Verdict("broken", "protocol")
