"""Where attacks are run: freely in a capped subprocess, and confined with the host under watch.

An attack is Python text that defines `attack(given)`. The same text runs in both places, so that what was seen to
work is what is then stopped. `given` and what `attack` returns are JSON values.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from agentplug.contract.policy import Policy
from agentplug.core.boundary import cgroups
from agentplug.core.boundary.bounds import SPARE_NAME
from agentplug.core.host import launcher
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.doctor.battery.pulse import beating

T = TypeVar("T")
MIB = 1 << 20
LONGEST_GAP_S = 0.100
MACHINES = str(Path(__file__).parent / "machines")

PLUGIN = """

class AttackPlugin:
    name, version = "attack", "1"

    async def initialize(self, config):
        pass

    {kind}def process(self, given):
        return {wait}attack(given)
"""

UNCONFINED = """
import json, resource, sys
reply_fd, given, memory, seconds, code = map(json.loads, sys.argv[1:])
for limit, most in (("AS", memory), ("CPU", int(seconds) + 1), ("FSIZE", 64 << 20), ("NOFILE", 1024), ("CORE", 0)):
    hard = getattr(resource, f"RLIMIT_{limit}")
    resource.setrlimit(hard, (most, most))
scope = {"__name__": "attack"}
exec(compile(code, "attack.py", "exec"), scope)
result = scope["attack"](given)
if hasattr(result, "__await__"):
    import asyncio
    async def awaited():
        return await result
    result = asyncio.run(awaited())
with open(reply_fd, "w") as reply:
    json.dump(result, reply)
"""


@dataclass(frozen=True)
class Seen:
    """What an unconfined attack did. `status` is an exit code, minus a signal's number, or None: it had to be killed
    when its time was over. `value` is what it returned, if it came to that; `left` how many processes it left."""

    status: int | None
    value: Any
    stdout_bytes: int
    stderr: str
    left: int


def run_unconfined(
    code: str, given: Any = None, *, memory: int = 1 << 30, seconds: float = 10, pass_fds: Sequence[int] = ()
) -> Seen:
    """Run an attack in a plain subprocess of this user, under a safe outer cap, and end all that it began."""
    before = set(children(os.getpid()))
    with ExitStack() as stack:
        # Files: nobody has to read them for the attack to go on, and no daemon holds up their end.
        stdout, stderr, reply = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        arguments = [json.dumps(value) for value in (reply.fileno(), given, memory, seconds, code)]
        process = subprocess.Popen(
            [sys.executable, "-Ic", UNCONFINED, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=[reply.fileno(), *pass_fds],
            start_new_session=True,
        )
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        left = kill_below(before)
        for file in (stderr, reply):
            file.seek(0)
        said = stderr.read(1 << 16).decode(errors="replace")
        return Seen(status, _value(reply.read()), os.fstat(stdout.fileno()).st_size, said, left)


def _value(reply: bytes) -> Any:
    with suppress(ValueError):
        return json.loads(reply)
    return None


def children(pid: int) -> list[int]:
    """The living or unreaped children of a process, by what each process says of its parent.

    Not by /proc/PID/task/TID/children, which may leave some out while others come and go: proc(5).
    """
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1]) == pid:
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return found


def kill_below(kept: set[int]) -> int:
    """End every child of this process (a subreaper) that isn't in `kept`, until none is left; how many there were."""
    count = 0
    while left := set(children(os.getpid())) - kept:
        count += len(left)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pid in left:
            os.waitpid(pid, 0)
    return count


@dataclass
class Arena:
    """Runs attacks in `SandboxedPlugin`s and keeps the longest time that the host's loop was held up."""

    folder: Path
    gap_s: float = 0.0
    _count: int = field(default=0, repr=False)

    def plugin(self, code: str, policy: Policy | None = None, *, coroutine: bool = False) -> SandboxedPlugin:
        """A plugin whose `process` (a coroutine function, if asked) is the `attack` of `code`."""
        self._count += 1
        path = self.folder / f"attack_{self._count}.py"
        path.write_text(code + PLUGIN.format(kind="async " * coroutine, wait="await " * coroutine))
        return SandboxedPlugin(path, policy)

    def confined(self, code: str, given: Any = None, *, policy: Policy | None = None, coroutine: bool = False) -> Run:
        """Run an attack as the one call of a confined plugin, close it, and give back what the host saw."""

        async def call() -> Run:
            async with self.plugin(code, policy, coroutine=coroutine) as plugin:
                return await plugin.run(given)

        return self.watched(call)

    def watched(self, main: Callable[[], Awaitable[T]]) -> T:
        """`asyncio.run(main())`, while a pulse of the same loop measures how long it is held up."""

        async def both() -> T:
            async with beating() as pulse:
                try:
                    return await main()
                finally:
                    self.gap_s = max(self.gap_s, pulse.longest_s)

        return asyncio.run(both())


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that announces itself to nobody."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def overshoot(run: Run) -> int:
    """Bytes by which a run's peak exceeded what its policy allows above the floor."""
    floor = run.events[0].detail["floor_bytes"]
    return int(run.usage.peak_memory_bytes - floor - int(run.policy.memory))


@contextmanager
def machines(*names: str) -> Iterator[None]:
    """Zygotes on these machines (modules of the folder `machines`), for as long as a test module runs: from before
    its first stock-taking until after its last."""
    real = launcher.worker_path
    with patch.object(launcher, "worker_path", lambda: [*real(), MACHINES]):
        for name in names:
            launcher.zygote_for((name,))
    yield
    for name in names:
        launcher.zygote_for((name,)).close()


@dataclass(frozen=True)
class Host:
    """What the host holds and is: everything that an attack could leave behind or change."""

    processes: frozenset[str]
    files: frozenset[str]
    threads: frozenset[str]
    scratch: frozenset[str]
    cgroups: frozenset[str]
    settings: frozenset[Any]

    @classmethod
    def look(cls) -> Host:
        """Take stock. Zygotes and their keepers count with everything below, but for each one's spare."""
        zygotes = [zygote for zygote in launcher._registry.values() if zygote.gone is None]
        roots = [pid for zygote in zygotes for pid in (zygote.process.pid, zygote.pid)]
        below, queue = [], [os.getpid(), *roots]
        while queue:
            found = [pid for pid in children(queue.pop()) if pid not in roots and _name(pid) != SPARE_NAME]
            below += found
            queue += found
        names = {f"agentplug-{zygote.pid}-" for zygote in zygotes}
        groups = [folder for parent in cgroups.parents().values() for folder in os.scandir(parent)]
        return cls(
            frozenset(f"{pid} {_name(pid)}" for pid in below),
            frozenset(_open_files()),
            frozenset(_threads()),
            frozenset(f"{z.scratch_root}/{name}" for z in zygotes for name in os.listdir(z.scratch_root)),
            frozenset(entry.path for entry in groups if entry.name.startswith(tuple(names))),
            frozenset([*_settings(), ("zygotes", *roots)]),
        )

    def since(self, before: Host) -> dict[str, Any]:
        """What is there now and wasn't before."""
        now = {field.name: getattr(self, field.name) - getattr(before, field.name) for field in fields(self)}
        return {name: more for name, more in now.items() if more}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _open_files() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{fd}: {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            continue  # the one that lists the folder
    return found


def _threads() -> list[str]:
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("agentplug-decoder")]
    return [f"{thread.name} {thread.native_id}" for thread in threads]


def _settings() -> tuple[Any, ...]:
    """What others may set for a process: limits, priorities, affinity, tracer."""
    limits = [(name, resource.getrlimit(getattr(resource, name))) for name in dir(resource) if "RLIMIT_" in name]
    tracer = next(line for line in Path("/proc/self/status").read_text().splitlines() if "TracerPid" in line)
    return (
        *limits,
        ("priority", os.getpriority(os.PRIO_PROCESS, 0)),
        ("scheduler", os.sched_getscheduler(0), tuple(sorted(os.sched_getaffinity(0)))),
        ("oom_score_adj", Path("/proc/self/oom_score_adj").read_text()),
        tracer,
    )
