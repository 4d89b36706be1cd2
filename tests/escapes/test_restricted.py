"""On a poorer machine a promise is enforced or refused: an older Landlock, none, no seccomp.

Each machine is a zygote with a module of `machines` preloaded, which takes features away before a worker is forked.
Namespaces are away on all of them: they would cover up what is missing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from arena import MACHINES, Arena, machines
from test_host import KILL, OWNED, PIDFD, PRLIMIT, QUEUED, READ_MEMORY, STOP, TGKILL, TGKILL_NUMBER
from test_network import CONNECT, FAST_OPEN, LISTEN, PAIR, SEND_TO, serving

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.host import launcher
from agentplug.core.host.launcher import zygote_for
from agentplug.core.run import Run
from agentplug.errors import BarrierUnavailable

pytestmark = pytest.mark.need("landlock", "seccomp")

REFUSED = Verdict("failed", "PermissionError")
NO_CHILD = Verdict("limited", "processes")


class Lack(NamedTuple):
    """What a machine lacks: of which barrier, which promises that loses, and words of the remedy."""

    barrier: str
    lost: set[str]
    remedy: str


LANDLOCK = Lack("landlock", {"files"}, "Linux 5.13")
SECCOMP = Lack("seccomp", {"host", "memory", "network", "processes"}, "CONFIG_SECCOMP_FILTER")
OLDER = ("machine_landlock_1", "machine_landlock_3", "machine_landlock_5", "machine_no_listener")
POORER = {
    "machine_no_landlock": [LANDLOCK],
    "machine_no_seccomp": [SECCOMP],
    "machine_nothing": [LANDLOCK, SECCOMP],
}

READ = """
def attack(given):
    with open(given) as file:
        return file.read()
"""

FORK = """
import os

def attack(given):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "forked"
"""

EXECUTE = """
import os

def attack(given):
    os.execv("/bin/true", ["true"])
"""

ECHO = "def attack(given):\n    return given\n"

# Ways to empty a file. Each is the whole of `attack`; `call` is syscall(2).
TRUNCATIONS = {
    "truncate": "os.truncate(given, 0)",
    "open for writing": "os.open(given, os.O_WRONLY | os.O_TRUNC)",
    "open for reading": "os.open(given, os.O_RDONLY | os.O_TRUNC)",
    "open with odd access": "os.open(given, 3 | os.O_TRUNC)",
    "creat": "call(numbers['creat'], path, 0o600)",
    "open by its old name": "call(numbers['open'], path, os.O_RDONLY | os.O_TRUNC)",
    "openat2": "call(numbers['openat2'], -100, path, struct.pack('QQQ', os.O_TRUNC, 0, 0), 24)",
    "ftruncate": "os.ftruncate(os.open(given, os.O_RDONLY), 0)",
}
TRUNCATE = """
import ctypes, os, platform, struct

libc = ctypes.CDLL(None, use_errno=True)
numbers = {"creat": 85, "open": 2, "openat2": 437}

def call(*values):
    if libc.syscall(*values) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def attack(given):
    path = given.encode()
    WAY
    return os.stat(given).st_size
"""
CHANGES = {
    "create": "open(given + '.new', 'w').close()",
    "overwrite": "open(given, 'r+').write('gone')",
    "append": "open(given, 'a').write('more')",
    "unlink": "os.unlink(given)",
    "rename": "os.rename(given, given + '.moved')",
    "hardlink": "os.link(given, os.path.expanduser('~/link'))",
    "move in": "os.rename(given, os.path.expanduser('~/mine'))",
    "mkdir": "os.mkdir(given + '.d')",
    "mkfifo": "os.mkfifo(given + '.fifo')",
    "socket": "__import__('socket').socket(1).bind(given + '.socket')",
    "chmod": "os.chmod(given, 0o777)",
}


def own(name: str, **fields: Any) -> Policy:
    """A policy for a plugin on the machine `name`."""
    return Policy(preload=(name,), **fields)


@pytest.fixture(scope="module", autouse=True)
def _machines() -> Iterator[None]:
    with machines(*OLDER, *POORER):
        yield


@pytest.fixture(params=OLDER)
def older(request: pytest.FixtureRequest) -> str:
    """A machine on which everything can still be kept."""
    return str(request.param)


@pytest.fixture(params=POORER)
def poorer(request: pytest.FixtureRequest) -> str:
    """A machine on which promises are lost."""
    return str(request.param)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's, outside everything that is granted."""
    path = tmp_path / "home" / "id_rsa"
    path.parent.mkdir()
    path.write_text("PRIVATE KEY")
    return path


def rows_of(arena: Arena, policy: Policy) -> tuple[dict[str, dict[str, Any]], str]:
    """The rows of the barriers table of a plugin that started, and its card."""

    async def started() -> tuple[dict[str, dict[str, Any]], str]:
        async with arena.plugin(ECHO, policy) as plugin:
            assert await plugin.process("works") == "works"
            assert list(plugin.barriers.columns) == ["barrier", "protects", "status", "detail"]
            shown = plugin.barriers.set_index("barrier")["status"]
            rows = {row["barrier"]: row for row in plugin._inside.barrier_rows()}
            assert {name: row["status"] for name, row in rows.items()} == dict(shown)
            return rows, plugin._repr_html_()

    return asyncio.run(started())  # unwatched: a first table imports pandas


def refusal(arena: Arena, policy: Policy) -> str:
    """The words in which a start is refused."""

    async def start() -> str:
        plugin = arena.plugin(ECHO, policy)
        with pytest.raises(BarrierUnavailable) as caught:
            await plugin.start()
        state = plugin.state
        await plugin.close()
        assert state == "failed"
        return str(caught.value)

    return arena.watched(start)


class TestOlder:
    """An older Landlock, and seccomp without a listener: other barriers cover what it lacks."""

    def test_a_plugin_starts_and_its_table_tells_the_version(self, arena: Arena, older: str) -> None:
        """Nothing is lost; the table says how old Landlock is, and the card warns of nothing."""
        rows, card = rows_of(arena, own(older))

        assert all(not row["lost"] for row in rows.values())
        assert rows["namespaces"]["status"] == "unavailable"
        assert rows["seccomp"]["status"] == "enforced"
        assert "Not enforced" not in card
        abi = older.removeprefix("machine_landlock_")
        if abi.isdigit():
            assert rows["landlock"]["status"] == "partial"
            assert f"ABI {abi}" in rows["landlock"]["detail"]

    def test_a_secret_cannot_be_read(self, unconfined: Any, confined: Any, secret: Path, older: str) -> None:
        """Files are what Landlock keeps from its first version on."""
        assert unconfined(READ, str(secret)).value == "PRIVATE KEY"

        assert confined(READ, str(secret), policy=own(older)).verdict == REFUSED

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls are x86_64's")
    @pytest.mark.parametrize("granted", [False, True], ids=["nothing", "read"])
    @pytest.mark.parametrize("way", TRUNCATIONS)
    def test_a_file_cannot_be_emptied(self, confined: Any, secret: Path, older: str, way: str, granted: bool) -> None:
        """Before version 3 Landlock knows no truncation: seccomp refuses it, also of files that may be read."""
        code = TRUNCATE.replace("WAY", TRUNCATIONS[way])
        policy = own(older, read=str(secret.parent)) if granted else own(older)

        run = confined(code, str(secret), policy=policy)

        assert run.verdict.kind == "failed"
        assert secret.read_text() == "PRIVATE KEY"

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls are x86_64's")
    @pytest.mark.parametrize("way", [way for way in TRUNCATIONS if way not in ("openat2", "ftruncate")])
    def test_emptying_works_where_nothing_stops_it(self, unconfined: Any, secret: Path, way: str) -> None:
        """The attacks above are real ones."""
        assert unconfined(TRUNCATE.replace("WAY", TRUNCATIONS[way]), str(secret)).value == 0

    @pytest.mark.parametrize("name", CHANGES)
    def test_nothing_outside_can_be_changed(self, confined: Any, secret: Path, older: str, name: str) -> None:
        """Names, links and content outside stay as they are, with a scratch directory to move them to."""
        code = f"import os\n\ndef attack(given):\n    {CHANGES[name]}\n    return 'done'\n"

        run = confined(code, str(secret), policy=own(older, disk="1M"))

        assert run.verdict == REFUSED or run.error.type == "OSError"  # EXDEV: before version 2 nothing moves anywhere
        assert [path.name for path in secret.parent.iterdir()] == ["id_rsa"]
        assert (secret.read_text(), secret.stat().st_nlink) == ("PRIVATE KEY", 1)

    def test_granted_paths_are_granted_as_asked(self, confined: Any, secret: Path, older: str) -> None:
        """Not an attack: a granted folder can be read, or written, and the scratch directory used."""
        write = "def attack(given):\n    open(given, 'a').write('!')\n    return open(given).read()\n"
        scratch = "def attack(given):\n    open('a', 'w').write('x')\n    return open('a').read()\n"
        folder = str(secret.parent)

        assert confined(READ, str(secret), policy=own(older, read=folder)).value == "PRIVATE KEY"
        assert confined(write, str(secret), policy=own(older, read=folder)).verdict == REFUSED
        assert confined(write, str(secret), policy=own(older, write=folder)).value == "PRIVATE KEY!"
        assert confined(scratch, policy=own(older, disk="1M")).value == "x"

    @pytest.mark.parametrize("kind", ["tcp", "tcp6", "udp", "path", "abstract", "datagram"])
    def test_no_service_can_be_reached(self, confined: Any, tmp_path: Path, older: str, kind: str) -> None:
        """Before version 4 Landlock knows no TCP, before 6 no abstract sockets: seccomp lets no socket be made."""
        with serving(kind, tmp_path) as service:
            assert confined(CONNECT, service.given, policy=own(older)).verdict == REFUSED
            assert (
                confined(PAIR if kind == "datagram" else SEND_TO, service.given, policy=own(older)).verdict == REFUSED
            )
            assert service.heard() == b""

    @pytest.mark.parametrize("kind", ["path", "abstract", "datagram"])
    def test_granted_network_is_no_way_to_local_services(
        self, confined: Any, tmp_path: Path, older: str, kind: str
    ) -> None:
        """`network=True` opens the network, and no socket of this machine's, whatever Landlock knows of those."""
        with serving(kind, tmp_path) as service, serving("tcp", tmp_path) as tcp:
            policy = own(older, network=True)
            for code in (CONNECT, PAIR) if kind == "datagram" else (CONNECT,):
                assert confined(code, service.given, policy=policy).verdict == REFUSED
            assert service.heard() == b""
            assert confined(CONNECT, tcp.given, policy=policy).value == "sent"
            assert tcp.heard() == b"secret"

    def test_granted_ports_are_kept_or_refused(self, arena: Arena, confined: Any, tmp_path: Path, older: str) -> None:
        """A list of ports needs version 4: older ones refuse to start, with the remedy; others open those alone."""
        with serving("tcp", tmp_path) as granted, serving("tcp", tmp_path) as other, serving("udp", tmp_path) as udp:
            policy = own(older, network=(granted.port,))
            if older in ("machine_landlock_1", "machine_landlock_3"):
                told = refusal(arena, policy)
                assert "landlock can't protect network" in told
                assert "no TCP ports" in told
                assert "Linux 6.7" in told
                assert "best_effort=True" in told
                rows, card = rows_of(arena, own(older, network=(granted.port,), best_effort=True))
                assert rows["landlock"]["lost"] == ["network"]
                assert "Not enforced on this machine: landlock for network" in card
                return
            assert confined(CONNECT, granted.given, policy=policy).value == "sent"
            assert granted.heard() == b"secret"
            for code, service in ((CONNECT, other), (FAST_OPEN, other), (SEND_TO, udp)):
                assert confined(code, service.given, policy=policy).verdict == REFUSED
                assert service.heard() == b""
            assert confined(LISTEN, policy=policy).verdict == REFUSED

    @pytest.mark.parametrize("processes", [0, 4])
    @pytest.mark.parametrize("code", [KILL, STOP, TGKILL, QUEUED, PIDFD, PRLIMIT, READ_MEMORY])
    def test_no_other_process_can_be_touched(
        self, confined: Any, victim: Any, older: str, code: str, processes: int
    ) -> None:
        """Before version 6 Landlock knows no signals: seccomp lets them go to the worker alone. The victim, the
        zygote and the host are out of reach, with children granted too."""
        policy = own(older, processes=processes)
        common = {"address": victim.address, "tgkill": TGKILL_NUMBER}
        for pid in (victim.pid, zygote_for((older,)).pid, os.getpid()):
            assert confined(code, {"pid": pid} | common, policy=policy).verdict == REFUSED
        assert victim.alive

    @pytest.mark.parametrize("processes", [0, 4])
    def test_no_signal_by_another_hand(self, confined: Any, victim: Any, older: str, processes: int) -> None:
        """A file's owner gets signals from the kernel: without Landlock's scope, seccomp refuses to name one."""
        run = confined(OWNED, {"pid": victim.pid}, policy=own(older, processes=processes))

        assert run.verdict in (REFUSED, Verdict("completed"))
        assert victim.alive

    def test_one_plugin_cannot_reach_another(self, arena: Arena, older: str) -> None:
        """A sibling of the same zygote, by signal and by limit."""

        async def side_by_side() -> tuple[list[Verdict], Any]:
            async with arena.plugin(ECHO, own(older)) as quiet:
                verdicts = []
                for code in (KILL, PRLIMIT):
                    async with arena.plugin(code, own(older)) as loud:
                        verdicts.append((await loud.run({"pid": quiet.pid})).verdict)
                return verdicts, await quiet.process("still here")

        assert arena.watched(side_by_side) == ([REFUSED, REFUSED], "still here")

    def test_no_process_can_be_made(self, confined: Any, older: str) -> None:
        """fork is refused as a process limit refuses it, execve outright.

        Where no kernel reports the refused call, the host has only the plugin's word for the limit.
        """
        claimed = Verdict("failed", "BlockingIOError")
        assert confined(FORK, policy=own(older)).verdict == (claimed if "listener" in older else NO_CHILD)
        assert confined(EXECUTE, policy=own(older)).verdict == REFUSED
        assert confined(FORK, policy=own(older, processes=2)).value == "forked"


class TestPoorer:
    """Without Landlock, without seccomp, without both: refused, or gone on without in plain sight."""

    @pytest.mark.parametrize("fields", [{}, {"processes": 2}, {"network": True}, {"read": "/usr"}], ids=str)
    def test_a_plugin_is_not_started(self, arena: Arena, poorer: str, fields: dict[str, Any]) -> None:
        """The refusal names each barrier that is missing, what it would protect, why it can't, and the remedy."""
        told = refusal(arena, own(poorer, **fields))

        for lack in POORER[poorer]:
            assert f"Barrier {lack.barrier} can't protect" in told
            for promise in lack.lost:
                assert promise in told
            assert lack.remedy in told
        assert "Policy(best_effort=True)" in told

    def test_a_refused_plugin_never_ran(self, arena: Arena, poorer: str, tmp_path: Path) -> None:
        """Not a byte of the plugin is loaded before the barriers are known to stand."""
        mark = tmp_path / "ran"
        plugin = arena.plugin(f"open({str(mark)!r}, 'w').close()\n{ECHO}", own(poorer))

        async def start() -> None:
            with pytest.raises(BarrierUnavailable):
                await plugin.process("x")
            await plugin.close()

        arena.watched(start)
        assert not mark.exists()

    def test_best_effort_starts_and_says_so_in_plain_sight(self, arena: Arena, poorer: str) -> None:
        """The table names what is lost and the remedy; the card opens with a warning that says the same."""
        rows, card = rows_of(arena, own(poorer, best_effort=True))

        lost = {name: set(row["lost"]) for name, row in rows.items() if row["lost"]}
        assert lost == {lack.barrier: lack.lost for lack in POORER[poorer]}
        for lack in POORER[poorer]:
            assert rows[lack.barrier]["status"] == "unavailable"
            assert rows[lack.barrier]["detail"]
            assert lack.remedy in rows[lack.barrier]["remedy"]
            assert f"{lack.barrier} for {', '.join(rows[lack.barrier]['lost'])} is unavailable" in card
            assert lack.remedy in card
        assert "Not enforced on this machine" in card
        assert 'role="note"' in card

    def test_best_effort_keeps_what_can_be_kept(
        self, confined: Any, secret: Path, tmp_path: Path, victim: Any, poorer: str
    ) -> None:
        """What the other barriers protect stays protected, and only the rest is open."""
        policy = own(poorer, best_effort=True)
        there = {lack.barrier for lack in POORER[poorer]}
        read = confined(READ, str(secret), policy=policy)
        with serving("tcp", tmp_path) as service:
            sent = confined(CONNECT, service.given, policy=policy)
        killed = confined(KILL, {"pid": victim.pid}, policy=policy)

        assert read.verdict == (Verdict("completed") if "landlock" in there else REFUSED)
        seccomp = "seccomp" not in there
        # Landlock alone keeps TCP from ABI 4 and signals from ABI 6 on: as much as this kernel really has.
        scoped = "landlock" not in there and landlock_abi() >= 6
        assert (sent.verdict == REFUSED) == (seccomp or ("landlock" not in there and landlock_abi() >= 4))
        assert (killed.verdict == REFUSED) == (seccomp or scoped)
        if seccomp:
            assert confined(FORK, policy=policy).verdict == NO_CHILD
            assert confined(PRLIMIT, {"pid": os.getpid()}, policy=policy).verdict == REFUSED

    def test_limits_hold_without_barriers(self, confined: Any, poorer: str) -> None:
        """The watchdog needs no barrier: memory, CPU, time and processes stay limited."""
        policy = own(poorer, best_effort=True, memory="64M", cpu_s=0.3, wall_s=2.0)

        assert hog(confined, "x = bytearray(1 << 28)", policy) == Verdict("limited", "memory")
        assert hog(confined, "while True: pass", policy) == Verdict("limited", "cpu")
        assert hog(confined, "__import__('time').sleep(60)", policy) == Verdict("limited", "wall")

    @pytest.mark.parametrize("machine", ["machine_no_seccomp", "machine_nothing"])
    def test_children_are_counted_where_nothing_stops_a_fork(self, confined: Any, machine: str) -> None:
        """No limit can be got around by letting a child do it: a child that isn't granted is one too many."""
        code = "import os, time\n    os.fork() or time.sleep(60)\n    time.sleep(60)"

        assert hog(confined, code, own(machine, best_effort=True)) == NO_CHILD


def hog(confined: Any, body: str, policy: Policy) -> Verdict:
    run: Run = confined(f"def attack(given):\n    {body}\n", policy=policy)
    return run.verdict


def landlock_abi() -> int:
    """Of this kernel."""
    import landlockpy

    return landlockpy.abi_version()


def test_this_machine_is_richer(arena: Arena) -> None:
    """Without a machine's module more barriers stand, so what was shown is its doing, and nothing stays of it."""
    rows, _ = rows_of(arena, Policy())

    assert all(not row["lost"] for row in rows.values())
    assert rows["landlock"]["detail"] == f"ABI {landlock_abi()}"
    assert MACHINES not in launcher.worker_path()
