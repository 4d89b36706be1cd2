"""`Policy.learn`: the least policy under which runs would have completed, as source with a reason for each right."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplug import Policy, SandboxedPlugin
from agentplug.contract.events import Event
from agentplug.contract.record import ErrorText, SourceInfo, Usage
from agentplug.core.run import Run
from agentplug.errors import PolicyError
from agentplug.report.learning import used_rights as learning
from agentplug.report.learning.proposal import Learned
from tests.leftovers import _warmed, nothing_left  # noqa: F401

MIB = 1 << 20
OBSERVED = Policy(observe="files")
REPLY, FAILED = Event(0.9, "reply"), Event(0.9, "error", {"type": "PermissionError"})


def run_of(
    *events: Event,
    policy: Policy = OBSERVED,
    usage: Usage | None = None,
    number: int = 0,
    says: str = "",
    **info: str,
) -> Run:
    error = ErrorText("PermissionError", says) if says else None
    source = SourceInfo("p.py", "file", info.get("digest", "sha256:0"), info.get("name", "p"), "1")
    if usage is None:
        usage = Usage(wall_s=0.1, cpu_s=0.05, threads=1)
    return Run(None, usage, (Event(0.0, "start"), *events), policy, source, number, error=error)


def recorded(**fields: Any) -> Policy:
    """A policy as read from a file: its paths may be those of another machine."""
    return Policy.from_dict(fields, is_record=True)


def opened(path: object, mode: str = "read") -> Event:
    return Event(0.1, "opened", {"path": str(path), "mode": mode, "count": 1})


def connected(address: str, protocol: str = "tcp") -> Event:
    return Event(0.1, "connected", {"address": address, "protocol": protocol, "count": 1})


def tried(syscall: str, argument: str = "") -> Event:
    return Event(0.1, "tried", {"syscall": syscall, "argument": argument, "source": "kernel", "count": 1})


def limit(by: str) -> Event:
    return Event(0.9, "limit", {"by": by, "measured": 2, "bound": 1, "unit": ""})


class TestWhatItTakes:
    """Runs of one plugin, one at least."""

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ([], "no run to learn from"),
            (5, "give it runs"),
            (["a run"], "'a run' isn't a Run"),
            ([run_of(REPLY), run_of(REPLY, name="other")], "other, p"),
        ],
    )
    def test_anything_else_is_refused(self, given: Any, told: str) -> None:
        """With the fact and the remedy."""
        with pytest.raises(PolicyError, match=told):
            Policy.learn(given)

    def test_one_run_will_do(self) -> None:
        """Alone or in any iterable."""
        run = run_of(REPLY)
        assert Policy.learn(run) == Policy.learn([run]) == Policy.learn(iter([run]))


class TestLimits:
    """Figures with some room, and never less than a busy machine needs."""

    def test_they_come_from_the_largest_figures(self) -> None:
        """Of all runs, and of loading the plugin before them."""
        small = run_of(REPLY, number=1)
        floor = Event(0.0, "start", {"floor_bytes": 20 * MIB})
        usage = Usage(3.01, 2.0, peak_memory_bytes=120 * MIB, reply_bytes=MIB, output_bytes=1000, threads=9)
        large = Run(None, usage, (floor, REPLY), OBSERVED, small.source, 2)
        learned = Policy.learn([small, large])
        assert learned.policy == Policy(memory="125M", cpu_s=4.0, wall_s=6.1, threads=11, output="64K", reply="1280K")
        assert learned.reasons["memory"] == "added 100 MiB at its peak (run 2), + 25 %"
        assert learned.notes == ()

    def test_what_loading_took_counts(self) -> None:
        """A plugin may take longest to import."""
        cost = {"cpu_s": 5.0, "wall_s": 6.0, "added_memory_bytes": 200 * MIB, "threads": 4, "write_bytes": 0}
        policy = Policy.learn(run_of(Event(0.0, "loaded", {"during": "load", **cost}), REPLY)).policy
        assert (policy.cpu_s, policy.wall_s, policy.memory, policy.threads) == (10.0, 12.0, 250 * MIB, 6)

    @pytest.mark.parametrize(
        ("by", "field", "doubled"),
        [
            ("memory", "memory", 1024 * MIB),
            ("cpu", "cpu_s", 20.0),
            ("wall", "wall_s", 60.0),
            ("threads", "threads", 128),
            ("files", "open_files", 128),
            ("reply", "reply", 32 * MIB),
            ("disk", "disk", MIB),
        ],
    )
    def test_a_limit_that_stopped_a_run_is_doubled(self, by: str, field: str, doubled: float) -> None:
        """How much would have been enough isn't known, and the reason says so."""
        learned = Policy.learn(run_of(limit(by), number=3))
        assert getattr(learned.policy, field) == doubled
        assert "isn't known" in learned.reasons[field]
        assert "run 3" in learned.reasons[field]
        assert any(f"ended as limited:{by}" in note for note in learned.notes)


class TestFiles:
    """`read` and `write`, from what was opened and had been granted."""

    def test_a_granted_file_that_was_read(self, tmp_path: Path) -> None:
        """The file alone, and not the folder that was granted."""
        file = tmp_path / "a.csv"
        file.touch()
        learned = Policy.learn(run_of(opened(file), REPLY, policy=OBSERVED.replace(read=tmp_path), number=4))
        assert learned.policy.read == (str(file),)
        assert learned.reasons["read"] == "opened (run 4)"

    def test_many_files_of_a_granted_folder_become_the_folder(self, tmp_path: Path) -> None:
        """Four and more; and never a folder that nobody granted."""
        files = [opened(tmp_path / f"{number}.csv") for number in range(4)]
        granted = Policy.learn(run_of(*files, REPLY, policy=OBSERVED.replace(read=tmp_path)))
        assert granted.policy.read == (str(tmp_path),)
        one_by_one = tuple(str(tmp_path / f"{number}.csv") for number in range(4))
        says = "\n".join(f"[Errno 13] Permission denied: '{path}'" for path in one_by_one)
        assert Policy.learn(run_of(*files, FAILED, says=says)).policy.read == one_by_one

    def test_a_file_that_was_written_takes_its_folder(self, tmp_path: Path) -> None:
        """It may have to be made anew; but nothing above what was granted, and no read right beside it."""
        events = [opened(tmp_path / "out" / "a.csv", "write"), opened(tmp_path / "out" / "b.csv"), REPLY]
        (tmp_path / "out").mkdir()
        learned = Policy.learn(run_of(*events, policy=OBSERVED.replace(write=tmp_path)))
        assert (learned.policy.write, learned.policy.read) == ((str(tmp_path / "out"),), ())
        (tmp_path / "out").rmdir()
        assert Policy.learn(run_of(*events, policy=OBSERVED.replace(write=tmp_path))).policy.write == (str(tmp_path),)

    def test_a_single_granted_file_stays_one(self, tmp_path: Path) -> None:
        """Its folder was never granted."""
        file = tmp_path / "log"
        file.touch()
        run = run_of(opened(file, "write"), REPLY, policy=OBSERVED.replace(write=file))
        assert Policy.learn(run).policy.write == (str(file),)

    def test_what_was_refused_is_not_needed_where_the_run_completed(self, tmp_path: Path) -> None:
        """It did without: the source says so in a comment."""
        learned = Policy.learn(run_of(opened(tmp_path / "secret"), REPLY))
        assert learned.policy.read == ()
        assert f"# not granted: read '{tmp_path}/secret': was refused, and run 0 completed without" in str(learned)

    @pytest.mark.parametrize("says", ["[Errno 13] Permission denied: '{}'", "[Errno 13] Permission denied: 'needed'"])
    def test_what_the_failure_names_is_proposed(self, says: str, tmp_path: Path) -> None:
        """And the note says to try again; what else was refused stands below."""
        file = tmp_path / "needed"
        file.touch()
        run = run_of(opened(file), opened(tmp_path / "other"), FAILED, says=says.format(file))
        learned = Policy.learn(run)
        assert learned.policy.read == (str(file),)
        assert learned.reasons["read"] == "was refused (run 0)"
        assert f"# read '{tmp_path}/other': refused too, not granted (run 0)" in str(learned)
        assert "ended as failed:PermissionError" in learned.notes[0]

    def test_its_scratch_takes_disk(self) -> None:
        """What it wrote there, in whole mebibytes; devices that are always there take nothing."""
        usage = Usage(0.1, 0.1, write_bytes=3 * MIB, threads=1)
        events = [opened("$HOME/a", "write"), opened("$HOME/b"), opened("/dev/null", "write"), REPLY]
        learned = Policy.learn(run_of(*events, policy=OBSERVED.replace(disk="1G"), usage=usage))
        assert (learned.policy.disk, learned.policy.read, learned.policy.write) == (4 * MIB, (), ())
        assert Policy.learn(run_of(REPLY, policy=OBSERVED.replace(disk="1G"))).policy.disk == 0

    def test_a_run_that_was_not_observed_keeps_what_it_had(self, tmp_path: Path) -> None:
        """And a note says why."""
        (tmp_path / "out").mkdir()
        granted = Policy(read=tmp_path, write=tmp_path / "out", network=(443,), processes=2, disk="5M")
        learned = Policy.learn(run_of(REPLY, policy=granted))
        kept = ("write", "network", "processes", "disk")
        assert [getattr(learned.policy, name) for name in kept] == [getattr(granted, name) for name in kept]
        assert learned.policy.read == granted.read
        assert "without Policy(observe='files')" in learned.notes[0]

    def test_what_went_over_the_bound_keeps_what_it_had(self, tmp_path: Path) -> None:
        """More was opened than the host keeps."""
        flood = Event(0.5, "dropped", {"what": "attempts", "count": 5})
        learned = Policy.learn(run_of(flood, REPLY, policy=OBSERVED.replace(read=tmp_path)))
        assert learned.policy.read == (str(tmp_path),)
        assert "more than is kept" in learned.notes[0]


class TestNetwork:
    """Ports where TCP is all it needs, else the whole network."""

    @pytest.mark.parametrize(
        ("events", "network"),
        [
            ([connected("10.0.0.1:443"), connected("[::1]:80")], (80, 443)),
            ([connected("10.0.0.1:443"), connected("10.0.0.1:443", "udp")], (443,)),
            ([connected("10.0.0.1:443"), connected("10.0.0.2:53", "udp")], True),
            ([connected("10.0.0.2:53", "")], True),
            ([Event(0.1, "bound", {"address": "0.0.0.0:80", "protocol": "tcp", "count": 1})], True),
            ([], False),
        ],
        ids=["ports", "the resolver asks for a way", "udp", "a name server", "serving", "nothing"],
    )
    def test_what_it_talked_to(self, events: list[Event], network: Any) -> None:
        """Under a policy that granted all."""
        assert Policy.learn(run_of(*events, REPLY, policy=OBSERVED.replace(network=True))).policy.network == network

    @pytest.mark.parametrize(
        ("event", "network"),
        [
            (tried("connect", "10.0.0.1:443"), (443,)),
            (tried("sendto", "10.0.0.1:9"), True),
            (tried("connect", "10.0.0.1:53"), True),
            (tried("getaddrinfo", "example.org:443"), True),
            (tried("socket", "AF_INET SOCK_STREAM"), True),
            (tried("connect", "unix:/run/docker.sock"), False),
            (tried("socket", "AF_PACKET SOCK_RAW"), False),
        ],
    )
    def test_what_it_was_refused(self, event: Event, network: Any) -> None:
        """Proposed where the run failed of it, not where it failed of something else or completed."""
        says = "[Errno 1] Operation not permitted"
        assert Policy.learn(run_of(event, FAILED, says=says)).policy.network == network
        assert Policy.learn(run_of(event, FAILED, says=f"{says}: '/x'")).policy.network is False
        assert Policy.learn(run_of(event, FAILED)).policy.network is False
        assert Policy.learn(run_of(event, REPLY)).policy.network is False

    def test_the_host_that_the_failure_names_is_proposed(self) -> None:
        """And not what was refused before and after."""
        events = [tried("connect", "10.0.0.1:443"), tried("connect", "10.0.0.2:80"), tried("connect", "10.0.0.3:22")]
        learned = Policy.learn(run_of(*events, FAILED, says="[Errno 13] no connection to 10.0.0.2"))
        assert learned.policy.network == (80,)
        assert str(learned).count("refused too, not granted (run 0)") == 2

    def test_the_reason_names_the_address(self) -> None:
        """Each port has its own."""
        learned = Policy.learn(run_of(connected("10.0.0.1:443"), REPLY, policy=OBSERVED.replace(network=True)))
        assert "        443,  # connected to 10.0.0.1:443 (run 0)" in str(learned)


class TestTheRest:
    """Processes, what stays, what nobody grants."""

    def test_children_are_counted(self) -> None:
        """As many as one call started, for they may have run at once; within what was granted."""
        events = [Event(0.1, "forked", {"count": 3}), Event(0.1, "ran", {"program": "/bin/true", "count": 3}), REPLY]
        assert Policy.learn(run_of(*events, policy=OBSERVED.replace(processes=8))).policy.processes == 3
        learned = Policy.learn(run_of(*events, policy=OBSERVED.replace(processes=2)))
        assert learned.policy.processes == 2
        assert "/bin/true" in learned.reasons["processes"]

    def test_children_take_memory(self) -> None:
        """Each begins as large as its parent, whether or not the host saw it so."""
        usage = Usage(0.1, 0.1, baseline_memory_bytes=20 * MIB, peak_memory_bytes=21 * MIB, threads=1)
        run = run_of(Event(0.1, "forked", {"count": 2}), REPLY, policy=OBSERVED.replace(processes=8), usage=usage)
        assert Policy.learn(run).policy.memory == (16 + 2 * 20) * MIB

    def test_a_refused_child_is_proposed_where_the_run_ended_of_it(self) -> None:
        """One, since how many it needs isn't known."""
        assert Policy.learn(run_of(tried("vfork"), limit("processes"))).policy.processes == 1
        assert Policy.learn(run_of(tried("vfork"), REPLY)).policy.processes == 0

    def test_variables_hooks_and_preloads_stay(self) -> None:
        """A variable's value may be a secret: the source doesn't show it."""
        policy = OBSERVED.replace(env={"TOKEN": "s3cret"}, hooks={"input": "veto"}, preload="json", best_effort=True)
        learned = Policy.learn(run_of(REPLY, policy=policy))
        kept = learned.policy
        assert (kept.env, kept.hooks, kept.preload) == ({"TOKEN": "s3cret"}, {"input": "veto"}, ("json",))
        assert kept.best_effort
        for text in (str(learned), learned._repr_html_(), str(learned.to_frame())):
            assert "s3cret" not in text

    def test_what_no_policy_grants_is_said(self) -> None:
        """Once, of a run that may have ended because of it."""
        learned = Policy.learn(run_of(tried("ptrace", "the host"), FAILED))
        assert "# not granted: warning ptrace the host: no policy grants this (run 0)" in str(learned)

    def test_claims_and_changed_bytes_are_noted(self) -> None:
        """What a worker says of itself is no evidence."""
        claim = Event(0.1, "connected", {"address": "1.2.3.4:5", "protocol": "tcp", "source": "worker", "count": 1})
        runs = [
            run_of(claim, REPLY, policy=OBSERVED.replace(network=True)),
            run_of(REPLY, digest="sha256:1", number=1),
        ]
        first, second = Policy.learn(runs).notes
        assert "own report" in first
        assert "bytes" in second


class TestSource:
    """The proposal as Python source, a table and a card."""

    def learned(self, path: str = "/nowhere/a") -> Learned:
        events = [opened(path), connected("10.0.0.1:443"), opened("$HOME/x", "write"), REPLY]
        return Policy.learn(run_of(*events, policy=recorded(read="/", network=True, disk="5M", observe="files")))

    def test_it_makes_the_same_policy_again(self) -> None:
        """To be pasted, and edited."""
        learned = self.learned()
        assert eval(str(learned), {"Policy": recorded}) == learned.policy
        assert repr(learned) == str(learned)

    def test_each_right_has_its_reason(self) -> None:
        """On its own line, as a comment."""
        for line in str(self.learned()).splitlines():
            assert line.endswith(("(", ")", "),")) or ",  # " in line

    @pytest.mark.parametrize("path", ["/x\n    processes=4096,", "/'\",)\r\nimport os", "/\u2028#\x1b[31m<script>"])
    def test_a_path_stays_text(self, path: str) -> None:
        """A plugin chooses its name: it can't write a line of the source, nor markup."""
        learned = self.learned(path)
        found = eval(str(learned), {"Policy": recorded})
        assert found == learned.policy
        assert (found.processes, len(found.read)) == (0, 1)
        assert "\x1b" not in str(learned)
        assert "<script>" not in learned._repr_html_()

    def test_the_frame_has_a_row_a_right(self) -> None:
        """And one for what isn't granted."""
        frame = Policy.learn(run_of(opened("/nowhere/b"), REPLY)).to_frame()
        assert list(frame.columns) == ["field", "value", "granted", "reason"]
        assert frame[~frame["granted"]]["value"].tolist() == ["'/nowhere/b'"]
        assert frame[frame["granted"]]["field"].tolist() == [
            "memory",
            "cpu_s",
            "wall_s",
            "threads",
            "output",
            "reply",
        ]


# ---------------------------------------------------------------------- round trips


class Busy:
    """Does one thing that takes a right."""

    name, version = "busy", "1"

    async def initialize(self, config: Any) -> None:
        self.what = config["what"]

    async def process(self, given: Any) -> Any:
        return getattr(self, self.what)(given)

    def read(self, path: str) -> str:
        return Path(path).read_text()

    def write(self, path: str) -> None:
        Path(path, "made.txt").write_text("made")

    def keep(self, mib: int) -> int:
        Path("kept").write_bytes(bytes(mib << 20))
        return Path("kept").stat().st_size

    def connect(self, port: int) -> None:
        socket.create_connection(("127.0.0.1", port)).close()

    def send(self, port: int) -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            return client.sendto(b"x", ("127.0.0.1", port))

    def serve(self, _: Any) -> None:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()

    def spawn(self, _: Any) -> str:
        return subprocess.run(["/bin/echo", "hi"], capture_output=True, text=True, check=True).stdout

    def fork(self, _: Any) -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def threads(self, number: int) -> None:
        over = threading.Event()
        running = [threading.Thread(target=over.wait) for _ in range(number)]
        for thread in running:
            thread.start()
        time.sleep(0.1)  # long enough for the host to count them
        over.set()
        for thread in running:
            thread.join()

    def load(self, folder: str) -> tuple[int, bool]:
        import importlib
        import sys

        sys.path.insert(0, folder)
        return importlib.import_module("helper").answer, sys.dont_write_bytecode

    def grow(self, mib: int) -> int:
        return sum(bytearray(b"x" * (mib << 20))[:: 1 << 20]) > 0


class EarlyReader:
    """Reads while it is initialized."""

    name, version = "early reader", "1"

    async def initialize(self, config: Any) -> None:
        self.text = Path(config["path"]).read_text()

    async def process(self, given: Any) -> str:
        return self.text


def test_paths_by_the_thousand_are_each_compared_with_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that opens others in every run can't hold up whoever learns from it, granted or refused."""
    compared = 0

    def inside(path: str, place: str) -> bool:
        nonlocal compared
        compared += 1
        return path == place or path.startswith(f"{place}/")

    monkeypatch.setattr(learning, "_inside", inside)
    granted = recorded(read="/tmp", observe="files")
    for policy, end, parts in (
        (granted, REPLY, "rights"),
        (OBSERVED, FAILED, "refused"),
        (OBSERVED, REPLY, "refused"),
    ):
        compared = 0
        runs = [
            run_of(*(opened(f"/tmp/{n}-{i}/f") for i in range(500)), end, policy=policy, number=n) for n in range(4)
        ]
        learned = Policy.learn(runs)

        assert sum(right.field == "read" for right in getattr(learned, parts)) == 2_000
        assert compared <= 3 * 2_000


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.txt").write_text("data")
    return tmp_path


async def called(plugin: object, config: dict[str, Any], given: Any, policy: Policy) -> Run:
    async with SandboxedPlugin(plugin, policy, config=config) as confined:
        return await confined.run(given)


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "read": (lambda folder, port: f"{folder}/data.txt", {"read": ...}, "read"),
    "write": (lambda folder, port: str(folder), {"write": ...}, "write"),
    "keep": (lambda folder, port: 3, {"disk": "50M"}, "disk"),
    "connect": (lambda folder, port: port, {"network": True}, "network"),
    "send": (lambda folder, port: port, {"network": True}, "network"),
    "serve": (lambda folder, port: None, {"network": True}, "network"),
    "spawn": (lambda folder, port: None, {"processes": 5}, "processes"),
    "fork": (lambda folder, port: None, {"processes": 5}, "processes"),
    "threads": (lambda folder, port: 12, {}, "threads"),
    "grow": (lambda folder, port: 60, {}, "memory"),
}
LEAST: dict[str, Any] = {"threads": 2, "memory": "16M"}


@pytest.mark.need("seccomp", "landlock")
class TestRoundTrips:
    """Learned under a wide policy, the least one lets the same call complete; without its right, it doesn't."""

    @pytest.mark.parametrize("what", CASES)
    async def test_the_learned_policy_is_enough_and_the_least(self, what: str, folder: Path, port: int) -> None:
        """Of all that was granted one right is left, and taking that away stops it."""
        given, wide, field = CASES[what]
        wide = {name: folder if bound is ... else bound for name, bound in wide.items()}
        value = given(folder, port)
        run = await called(Busy, {"what": what}, value, OBSERVED.replace(**wide))
        assert str(run.verdict) == "completed"
        learned = Policy.learn(run)
        rights = ("read", "write", "disk", "network", "processes")
        granted = {name for name in rights if getattr(learned.policy, name) != getattr(Policy(), name)}
        assert granted == {field} & set(rights)
        with contextlib.suppress(FileNotFoundError):
            (folder / "made.txt").unlink()

        again = await called(Busy, {"what": what}, value, learned.policy)
        assert (str(again.verdict), again.value) == ("completed", run.value)

        less = learned.policy.replace(**{field: LEAST.get(field, getattr(Policy(), field))})
        stopped = await called(Busy, {"what": what}, value, less)
        assert stopped.verdict.kind in ("failed", "limited")

    @pytest.mark.parametrize("what", ["read", "connect", "spawn"])
    async def test_a_refused_call_teaches_what_it_lacks(self, what: str, folder: Path, port: int) -> None:
        """From a policy that grants nothing."""
        value = CASES[what][0](folder, port)
        run = await called(Busy, {"what": what}, value, OBSERVED)
        assert run.verdict.kind in ("failed", "limited")
        again = await called(Busy, {"what": what}, value, Policy.learn(run).policy)
        assert str(again.verdict) == "completed"

    async def test_no_import_writes_bytecode(self, folder: Path) -> None:
        """Not even where it may: the host would run it."""
        (folder / "helper.py").write_text("answer = 42")
        granted = OBSERVED.replace(read=folder, write=folder)
        run = await called(Busy, {"what": "load"}, str(folder), granted)
        assert (run.value, os.listdir(folder).count("__pycache__")) == ((42, True), 0)
        assert not [path for path in Policy.learn(run).policy.write if "pycache" in path]

    async def test_what_was_read_before_the_first_call_counts(self, folder: Path) -> None:
        """The run of the first call brings it."""
        config = {"path": f"{folder}/data.txt"}
        run = await called(EarlyReader, config, None, OBSERVED.replace(read=folder))
        learned = Policy.learn(run)
        assert learned.policy.read == (f"{folder}/data.txt",)
        assert (await called(EarlyReader, config, None, learned.policy)).value == "data"
