"""Each field of a policy has its row in the table of limits, an option, and a proof that it does what it promises."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Any

import pytest

from agentplug import AgentMessage, PluginManager, Policy, SandboxedPlugin
from agentplug.contract.limits import FIELDS, LIMITS, REFUSALS, Kind
from agentplug.contract.options import policy_from_options
from agentplug.core.run import Run
from agentplug.errors import BarrierUnavailable
from tests.escapes.arena import machines
from tests.leftovers import _warmed, nothing_left  # noqa: F401

NAMES = [field.name for field in fields(Policy)]
MIB = 1 << 20
REFUSED = "failed:PermissionError"
POORER = "machine_nothing"  # neither Landlock nor seccomp
confined = pytest.mark.need("landlock", "seccomp")

Proof = Callable[[str, Path], Awaitable[None]]


class UserPlugin:
    """Uses what its input says."""

    name, version = "user", "1"
    hooks = {"input": "veto"}  # noqa: RUF012

    async def initialize(self, config: dict[str, Any]) -> None: ...

    async def on_message(self, point: str, message: dict[str, Any]) -> bool:
        return False

    async def process(self, given: tuple[str, Any]) -> Any:
        what, amount = given
        match what:
            case "memory":
                return len(bytearray(os.urandom(1) * amount))
            case "cpu_s":
                until = time.process_time() + amount
                while time.process_time() < until:
                    pass
            case "wall_s":
                time.sleep(amount)  # noqa: ASYNC251
            case "processes":
                child = os.fork()
                if child == 0:
                    time.sleep(0.2)  # noqa: ASYNC251
                    os._exit(0)
                os.waitpid(child, 0)  # noqa: ASYNC222
            case "threads":
                begun = [threading.Thread(target=time.sleep, args=(0.2,)) for _ in range(amount)]
                for thread in begun:
                    thread.start()
                for thread in begun:
                    thread.join()
            case "open_files":
                for file in [os.open("/dev/null", os.O_RDONLY) for _ in range(amount)]:
                    os.close(file)
            case "disk":
                Path("file").write_bytes(b"x" * amount)
            case "output":
                print("x" * amount, end="")
            case "reply":
                return b"x" * amount
            case "network":
                socket.create_connection(("127.0.0.1", amount), timeout=5).close()
            case "read":
                return Path(amount).read_text()
            case "write":
                Path(amount).write_text("new")
            case "env":
                return os.environ.get(amount)
            case "preload":
                return amount in sys.modules
        return None


async def run_under(policy: Policy, *given: Any) -> Run:
    """Call a fresh `UserPlugin` once."""
    async with SandboxedPlugin(UserPlugin, policy) as plugin:
        return await plugin.run(given)


# ---------------------------------------------------------------------- proofs


def limit(little: Any, enough: Any, amount: Any) -> Proof:
    """Prove a limit: using `amount` of it ends in its verdict under a `little` one, and completes under one that is
    `enough`."""

    async def proof(name: str, folder: Path) -> None:
        over = await run_under(Policy(**{name: little}), name, amount)
        within = await run_under(Policy(**{name: enough}), name, amount)
        assert (str(over.verdict), str(within.verdict)) == (f"limited:{FIELDS[name].by}", "completed")
        assert FIELDS[name].remedy in over.explain()

    return proof


async def output(name: str, folder: Path) -> None:
    """What is over it is counted and dropped, and the call goes on."""
    run = await run_under(Policy(output="4K"), name, 10_000)
    dropped = [event.detail["count"] for event in run.events if event.kind == "dropped"]
    assert (str(run.verdict), len(run.stdout), run.usage.output_bytes) == ("completed", 4096, 10_000)
    assert dropped == [10_000 - 4096]


async def network(name: str, folder: Path) -> None:
    """No port, that port, another port, all of them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        grants = (False, (port,), (port % 65535 + 1,), True)
        verdicts = [str((await run_under(Policy(network=grant), name, port)).verdict) for grant in grants]
    assert verdicts == [REFUSED, "completed", REFUSED, "completed"]


async def read(name: str, folder: Path) -> None:
    """A file of the user's, refused and granted."""
    (folder / "file").write_text("old")
    refused = await run_under(Policy(), name, folder / "file")
    granted = await run_under(Policy(read=(folder,)), name, folder / "file")
    assert (str(refused.verdict), granted.value) == (REFUSED, "old")


async def write(name: str, folder: Path) -> None:
    """A right to read is none to write."""
    (folder / "file").write_text("old")
    refused = await run_under(Policy(read=(folder,)), name, folder / "file")
    assert (str(refused.verdict), (folder / "file").read_text()) == (REFUSED, "old")
    granted = await run_under(Policy(write=(folder,)), name, folder / "file")
    assert (str(granted.verdict), (folder / "file").read_text()) == ("completed", "new")


async def env(name: str, folder: Path) -> None:
    """The host's variables aren't there, those that are granted are."""
    os.environ["AGENTPLUG_PROOF"] = "the host's"
    try:
        hidden = await run_under(Policy(), name, "AGENTPLUG_PROOF")
        granted = await run_under(Policy(env={"AGENTPLUG_PROOF": "its own"}), name, "AGENTPLUG_PROOF")
    finally:
        del os.environ["AGENTPLUG_PROOF"]
    assert (hidden.value, granted.value) == (None, "its own")


async def hooks(name: str, folder: Path) -> None:
    """A veto that wasn't granted isn't asked for."""
    message = AgentMessage(id="m", point="input", parts=[{"type": "text", "content": "hello"}])
    allowed = []
    for granted in ({}, {"input": "veto"}):
        async with PluginManager() as manager:
            await manager.register(SandboxedPlugin(UserPlugin, Policy(hooks=granted)))
            allowed.append((await manager.dispatch(message)).allowed)
    assert allowed == [True, False]


async def preload(name: str, folder: Path) -> None:
    """The module is there before the plugin's own code is."""
    found = [(await run_under(Policy(preload=preloads), name, "colorsys")).value for preloads in ((), ("colorsys",))]
    assert found == [False, True]


async def observe(name: str, folder: Path) -> None:
    """A granted file that was opened stands in the run, where that was asked for."""
    path = folder / "file"
    path.write_text("text")
    runs = [await run_under(Policy(read=(path,), observe=word), "read", path) for word in ("", "files")]
    opened = [[event.detail["path"] for event in run.events if event.kind == "opened"] for run in runs]
    assert opened == [[], [str(path)]]


async def profile(name: str, folder: Path) -> None:
    """A profile of that kind comes with the run."""
    runs = [await run_under(Policy(profile=word), "memory", MIB) for word in ("", *FIELDS[name].words)]
    assert [run.profile and run.profile.kind for run in runs] == [None, *FIELDS[name].words]


async def best_effort(name: str, folder: Path) -> None:
    """A machine without barriers is refused; so asked, the plugin starts on it, and its card says what is lost."""
    with pytest.raises(BarrierUnavailable):
        await SandboxedPlugin(UserPlugin, Policy(preload=(POORER,))).start()
    async with SandboxedPlugin(UserPlugin, Policy(preload=(POORER,), best_effort=True)) as plugin:
        assert await plugin.process(("reply", 1)) == b"x"
        assert "Not enforced on this machine" in plugin._repr_html_()


PROOFS: dict[str, Proof] = {
    "memory": limit("32M", "256M", 64 * MIB),
    "cpu_s": limit(0.2, 10, 0.5),
    "wall_s": limit(0.2, 10, 0.5),
    "processes": limit(0, 1, 1),
    "threads": limit(2, 32, 8),
    "open_files": limit(16, 64, 40),
    "disk": limit("64K", "4M", MIB),
    "output": output,
    "reply": limit("64K", "4M", MIB),
    "network": network,
    "read": read,
    "write": write,
    "env": env,
    "hooks": hooks,
    "preload": preload,
    "observe": observe,
    "profile": profile,
    "best_effort": best_effort,
}


@pytest.fixture(scope="module", autouse=True)
def _zygotes() -> Iterator[None]:
    """Those that preload something, from before the first test to after the last."""
    with machines(POORER, "colorsys", "memray"):
        yield


def lacking(policy: type) -> list[str]:
    """The fields of a policy without a row in the table, or without a proof."""
    return [field.name for field in fields(policy) if field.name not in FIELDS.keys() & PROOFS.keys()]


@confined
@pytest.mark.parametrize("name", NAMES)
async def test_every_field_keeps_its_promise(name: str, tmp_path: Path) -> None:
    """A limit that is reached ends the call in its own verdict, a right that isn't granted is refused, and all else
    has its effect."""
    assert name in PROOFS, f"write a proof in PROOFS that {name} is enforced when it is reached, or refused"
    await PROOFS[name](name, tmp_path)


@confined
async def test_what_cannot_be_kept_back_is_no_start() -> None:
    """On a machine without the barriers behind rights (here to files, network, processes) nothing starts, and the
    error names all that would be lost."""
    with pytest.raises(BarrierUnavailable) as caught:
        await SandboxedPlugin(UserPlugin, Policy(preload=(POORER,))).start()
    lost = re.findall(r"Barrier (\w+) can't protect ([\w, ]+):", str(caught.value))
    assert lost == [("landlock", "files"), ("seccomp", "host, memory, network, processes")]


def test_a_field_that_is_merely_added_is_missed() -> None:
    """Neither the table nor the proofs know it, so both tests of all fields would be red."""
    wider = make_dataclass("Wider", [("gpu", int, 0)], bases=(Policy,), frozen=True, kw_only=True)
    assert lacking(wider) == ["gpu"]
    assert lacking(Policy) == []
    assert list(FIELDS) == list(PROOFS) == NAMES


# ---------------------------------------------------------------------- what reads the table

TYPED = {
    Kind.SIZE: "2M",
    Kind.SECONDS: "3",
    Kind.COUNT: "17",
    Kind.PORTS: "443",
    Kind.PATHS: ["/etc"],
    Kind.VARIABLES: ["NAME=value"],
    Kind.GRANTS: ["input=veto"],
    Kind.MODULES: ["json"],
    Kind.WORD: "cpu",
    Kind.FLAG: True,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_field_has_an_option_that_sets_it_alone(name: str) -> None:
    """As text from a command line or a magic's line."""
    row = FIELDS[name]
    policy = policy_from_options({row.option: True if row.is_switch else TYPED[row.kind]})
    assert [other for other in NAMES if getattr(policy, other) != getattr(Policy(), other)] == [name]


def test_a_verdict_names_one_limit() -> None:
    """No two limits share a word or an error's number."""
    assert len(LIMITS) == sum(bool(row.by) for row in FIELDS.values())
    numbers = [number for row in REFUSALS.values() for number in row.errnos]
    assert len(numbers) == len(set(numbers))


def test_workers_read_the_table_without_the_policy() -> None:
    """What a worker imports for an error's limit is the table alone, and not the checks of policies."""
    code = "import sys, agentplug.core.worker.error_text; print('agentplug.contract.policy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
