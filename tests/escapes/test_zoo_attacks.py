"""Every attack of the zoo: contained by the battery, and shown to work where nothing stops it.

A free run happens in a subprocess under an outer cap, on a stage of its own, and may harm that stage's victim alone.
Where the machine itself refuses an attack there, the test says so and is skipped, once it is seen to be contained.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from arena import Seen, run_unconfined

from agentplug.doctor.battery.catalogue import CATALOGUE, Attack
from agentplug.doctor.battery.matrix import Row
from agentplug.doctor.battery.run import run_battery
from agentplug.doctor.battery.stage import Stage
from tests.breaches import BREACHES, BREACHES_WITHOUT
from tests.conftest import missing

FREELY = """
import importlib, os

async def attack(given):
    os.chdir(given["folder"])
    module, _, name = given["spec"].partition(":")
    plugin = getattr(importlib.import_module(module), name)()
    await plugin.initialize({})
    value = await plugin.process(given["given"])
    return repr(value)[:100_000]
"""

# What shows that an attack works: it leaves marks on the stage, or comes away with its secrets ...
TOUCHES = """
    memory:DevShmHoarder files:Snoop files:Vandal files:Planter files:Walker files:Heir files:Flagger
    files:AttributeReader scratch:Linker scratch:HardLinker network:Caller network:Whisperer network:PortHopper
    network:FastOpener network:PathCaller network:AbstractCaller network:PairWhisperer network:Eavesdropper
    signals:Stopper signals:GroupKiller signals:ThreadKiller signals:QueueKiller signals:HandleKiller
    signals:OwnerKiller host:HostKiller host:Starver host:Renicer host:Idler host:Pinner host:DiskStarver
    host:Scapegoater host:MemoryWriter spying:MemoryReader spying:MemoryFileReader spying:EnvironmentReader
    spying:SiblingSnoop
""".split()
# ... or it comes to its end, and nothing has stood in its way ...
RETURNS = """
    memory:HiddenHoarder memory:Parker memory:Burster memory:Misnomer memory:LockedHoarder memory:PipeHoarder
    memory:LockHoarder memory:SocketHoarder memory:Splicer memory:SocketWidener memory:PipeWidener spying:ClockReader
    memory:TableHoarder memory:PagePinner
    memory:SegmentHoarder memory:PageCacheHoarder memory:PrivateMapper processes:ShellRunner processes:Mayfly
    processes:ThreadBomb files:BytecodePlanter files:Reopener files:Leaseholder files:Opener files:Watcher
    files:Lister scratch:FifoMaker scratch:DeviceMaker scratch:ModeSetter scratch:OneFileFiller scratch:InodeFiller
    scratch:Preallocator kernel:Filterer
    scratch:NameFiller scratch:DeepDigger scratch:LockedRoom scratch:Newliner network:Server network:Netlinker
    network:Smuggler signals:Undying signals:Hider signals:LimitRaiser host:Tracer host:SelfPatcher
    host:NameTaker spying:DescriptorThief spying:RootWalker kernel:OldDoor kernel:WideDoor kernel:MachineCode
    kernel:Cloner kernel:RingMaster kernel:FaultHandler kernel:KeyKeeper kernel:Namespacer kernel:Programmer
    kernel:Comparer display:Flooder display:Grumbler display:Impostor display:Mirror
""".split()
# ... or it doesn't come to an end by itself ...
ENDLESS = """
    cpu:Spinner cpu:CatastrophicRegex cpu:Sleeper cpu:BlockedLoop cpu:ThreadSpinner cpu:HugeInteger cpu:HashCollider
    cpu:SlowStarter cpu:Revenant signals:SelfStopper signals:Deaf display:EndlessError runtime:ExitBomb
    runtime:FinalizerBomb runtime:HandlerThief memory:StubbornHoarder
""".split()
# ... or it ends its process, ...
ENDS = {
    "host:Quitter": 3,
    "host:Segfaulter": -signal.SIGSEGV,
    "host:Aborter": -signal.SIGABRT,
    "signals:SelfAccuser": -signal.SIGXCPU,
    "processes:Changeling": 0,
    "memory:Hoarder": 1,
    "memory:FalseAlarm": 1,
    "memory:SharedHoarder": 1,
    "memory:PageTableHoarder": 1,
    "memory:StackHoarder": 1,
    "display:GiantError": 1,
    "display:DeadlyError": 1,
    "runtime:CancellationForger": 1,
    "runtime:TaskCanceller": 1,
    "runtime:Exiter": 1,
    "scratch:SparseFiller": 1,
}
# ... or it leaves so many processes behind.
LEAVES = {"processes:ForkBomb": 15, "processes:Swarm": 20, "processes:Straggler": 1, "processes:Daemon": 1}

# What is given to a free attack that isn't what the catalogue gives: less to do, or another thing to do it to.
GIVEN: dict[str, Any] = {
    "memory:Hoarder": 4096,
    "memory:SharedHoarder": 4096,
    "memory:HiddenHoarder": 32,
    "memory:PrivateMapper": 200,
    "memory:LockHoarder": 5000,
    "memory:TableHoarder": 1000,
    "processes:Mayfly": 1,
    "memory:PageCacheHoarder": 32,
    "processes:ForkBomb": 4,
    "processes:Swarm": 20,
    "processes:ThreadBomb": 300,
    "files:BytecodePlanter": "$module",
    "files:Opener": 500,
    "scratch:OneFileFiller": 32,
    "scratch:InodeFiller": 2000,
    "scratch:NameFiller": 200,
    "scratch:DeepDigger": 300,
    "display:Flooder": 4,
    "spying:SiblingSnoop": "$project",
    "host:NameTaker": 65534,
}
SHOWN = [*TOUCHES, *RETURNS, *ENDLESS, *ENDS, *LEAVES]
NAMED = {attack.spec.removeprefix("agentplug.zoo."): attack for attack in CATALOGUE}
LATE = {"processes:Swarm", "processes:ForkBomb", "processes:Daemon"}  # their children hold on to them
pytestmark = pytest.mark.need("landlock", "seccomp")


@pytest.fixture(scope="module")
def rows(_warm: None) -> dict[str, Row]:
    """What became of each attack of the catalogue, run once for all of these tests."""
    matrix = asyncio.run(run_battery())
    return {f"{row.family}:{row.attack}": row for row in matrix.rows}


def breaches() -> dict[str, str]:
    """The attacks that are known to get through on this machine, and why."""
    here = {name: why for name, (feature, why) in BREACHES_WITHOUT.items() if missing(feature)}
    return BREACHES | here


def test_a_battery_is_over_soon(rows: dict[str, Row]) -> None:
    """It is meant to be run before a plugin is trusted, so it takes a minute and not a coffee break."""
    assert sum(row.wall_s for row in rows.values()) < 90


@pytest.mark.parametrize("name", NAMED)
def test_an_attack_is_contained(name: str, rows: dict[str, Row], request: pytest.FixtureRequest) -> None:
    """Its verdict is one that will do, the stage is unharmed, nothing is left, and the host's loop went on."""
    if name in breaches():
        request.applymarker(pytest.mark.xfail(reason=f"BREACH: {breaches()[name]}", strict=True))

    assert rows[name].contained, rows[name].evidence


async def freely(attack: Attack, name: str) -> tuple[Seen, list[str]]:
    """What the attack does where nothing stops it, and what that does to its stage."""
    async with Stage() as stage:
        given = stage.fill(GIVEN.get(name, attack.argument), freely=True)
        folder = os.path.join(os.path.dirname(stage.bait["project"]), "scratch")
        os.mkdir(folder)
        stage.accept_files()
        seen = run_unconfined(
            FREELY,
            {"folder": folder, "spec": attack.spec, "given": given},
            seconds=0.7 if name in ENDLESS or name in LATE else 20,
            pass_fds=[stage.bait["descriptor"]],
        )
        return seen, await stage.damage() + stage.secrets_in(f"{seen.value}")


def refusal(seen: Seen) -> str:
    """The error with which this machine itself refused an attack, if it did."""
    if seen.status == -signal.SIGSYS:
        return "a seccomp filter that was here before us"
    last = seen.stderr.strip().rpartition("\n")[2]
    return last if last.startswith(("PermissionError", "OSError", "NotImplementedError")) else ""


@pytest.mark.parametrize("name", SHOWN)
def test_an_attack_works_where_nothing_stops_it(name: str) -> None:
    """So what contains it are the barriers, and not a mistake in the attack."""
    seen, marks = asyncio.run(freely(NAMED[name], name))

    if name in {*TOUCHES, *RETURNS} and not marks and (reason := refusal(seen)):
        pytest.skip(f"this machine refuses {name} by itself: {reason}")
    if name in TOUCHES:
        assert marks, seen
    elif name in RETURNS:
        assert (seen.status, seen.value is not None) == (0, True), seen.stderr
    elif name in ENDLESS:
        assert seen.status in (None, -signal.SIGKILL, -signal.SIGXCPU), seen.stderr
    elif name in LEAVES:
        assert seen.left >= LEAVES[name], seen.stderr
    else:
        assert seen.status == ENDS[name], seen.stderr


def test_no_attack_is_shown_that_is_not_there() -> None:
    """The lists above name attacks of the catalogue, each once."""
    assert len(SHOWN) == len(set(SHOWN))
    assert set(SHOWN) <= set(NAMED)
    assert set(GIVEN) | set(BREACHES) | set(BREACHES_WITHOUT) <= set(NAMED)
