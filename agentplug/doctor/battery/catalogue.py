"""Every attack of the zoo, once: its target, its policy and the accepted verdicts (host).

Specs are strings: nothing of the zoo is imported here. In `argument` and `granted`, `$name` stands for a bait of the
stage. Numbers bound an attack that no barrier stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentplug.contract.policy import Policy

TIGHT = Policy(memory="64M", cpu_s=0.3, wall_s=5.0, disk="8M", reply="4M")
BRIEF = TIGHT.replace(wall_s=0.5)
WORKING = TIGHT.replace(cpu_s=3.0)
GROWN = TIGHT.replace(processes=4, memory="512M", cpu_s=1.0)
PARENTAL = TIGHT.replace(processes=1, threads=8, memory="256M")
PORT = TIGHT.replace(network=(9,))


@dataclass(frozen=True)
class Attack:
    """One attack. `contained` are the accepted verdicts as texts; the first is the one that its class names.

    `argument` is the template of its input; `granted` has templates for fields of the policy, as (field, templates)
    pairs. The plugin is called up to `calls` times, until it returns something or doesn't complete.
    """

    spec: str
    target: str
    contained: tuple[str, ...]
    policy: Policy = TIGHT
    argument: Any = None
    granted: tuple[tuple[str, tuple[str, ...]], ...] = ()
    calls: int = 1

    @property
    def family(self) -> str:
        """The module of the zoo that has the attack."""
        return self.spec.partition(":")[0].rpartition(".")[2]

    @property
    def name(self) -> str:
        """The name of the attack's class."""
        return self.spec.rpartition(":")[2]


def _attack(name: str, target: str, *contained: str, **more: Any) -> Attack:
    return Attack(f"agentplug.zoo.{name}", target, contained, **more)


_MEMORY, _CPU, _WALL, _DISK, _FILES = (f"limited:{name}" for name in ("memory", "cpu", "wall", "disk", "files"))
_FORKS, _THREADS, _REPLY = (f"limited:{name}" for name in ("processes", "threads", "reply"))
_REFUSED, _ERROR, _DONE = "failed:PermissionError", "failed:OSError", "completed"
_PROTOCOL, _MISFIT = "broken:protocol", "broken:unserializable"
_FALLEN = ("died:exit 1", "died:exit 125")
_READ_LIBRARY = (("read", ("$library",)),)

CATALOGUE: tuple[Attack, ...] = (
    _attack("memory:Hoarder", "memory", _MEMORY, argument=512),
    _attack("memory:SharedHoarder", "memory", _MEMORY, argument=512),
    _attack("memory:Parker", "the kernel's memory", _MEMORY, argument=128),
    _attack("memory:HiddenHoarder", "memory", _MEMORY, argument=128),
    _attack("memory:StubbornHoarder", "memory", _MEMORY),
    _attack("memory:Burster", "memory", _MEMORY),
    _attack("memory:Misnomer", "the host's readings", _MEMORY),
    _attack("memory:FalseAlarm", "the verdict", "failed:MemoryError"),
    _attack("memory:PrivateMapper", "memory", _MEMORY, argument=4000),
    _attack("memory:PageTableHoarder", "the kernel's memory", _MEMORY),
    _attack("memory:TableHoarder", "the kernel's memory", _MEMORY),
    _attack("memory:StackHoarder", "address space", "failed:RuntimeError", _THREADS, _MEMORY),
    _attack("memory:LockedHoarder", "memory", _REFUSED, _MEMORY),
    _attack("memory:LockHoarder", "the kernel's memory", _CPU, _MEMORY),
    _attack("memory:PipeHoarder", "the kernel's memory", _FILES),
    _attack("memory:SocketHoarder", "the kernel's memory", _FILES),
    _attack("memory:SocketWidener", "the kernel's memory", "failed:BlockingIOError"),
    _attack("memory:PipeWidener", "the kernel's memory", _REFUSED),
    _attack("memory:Splicer", "memory", _REFUSED),
    _attack("memory:PagePinner", "the kernel's memory", _ERROR),
    _attack("memory:SegmentHoarder", "memory", _MEMORY),
    _attack("memory:DevShmHoarder", "memory", _REFUSED, argument="$mark"),
    _attack("memory:PageCacheHoarder", "memory", _DISK, _FILES, policy=WORKING, argument=128),
    _attack("cpu:Spinner", "the processor", _CPU),
    _attack("cpu:CatastrophicRegex", "the processor", _CPU),
    _attack("cpu:Sleeper", "whoever waits", _WALL, policy=BRIEF),
    _attack("cpu:BlockedLoop", "whoever waits", _WALL, policy=BRIEF),
    _attack("cpu:ThreadSpinner", "the processor", _CPU),
    _attack("cpu:HugeInteger", "the processor", _CPU),
    _attack("cpu:HashCollider", "the processor", _CPU),
    _attack("cpu:SlowStarter", "the processor", _CPU),
    _attack("cpu:LateSpinner", "the processor", _DONE),
    _attack("cpu:Revenant", "the host's readings", "died:SIGKILL"),
    _attack("processes:ForkBomb", "the process table", _FORKS, argument=6),
    _attack("processes:Daemon", "the process table", _FORKS),
    _attack("processes:Changeling", "the machine", _REFUSED),
    _attack("processes:ShellRunner", "the machine", _FORKS),
    _attack("processes:ThreadBomb", "the process table", _THREADS),
    _attack("processes:Swarm", "the process table", _FORKS, policy=GROWN),
    _attack("processes:Straggler", "the process table", _DONE, policy=GROWN),
    _attack("processes:ZombieKeeper", "the process table", _FORKS, policy=GROWN),
    _attack("processes:ThreadingChild", "the process table", _THREADS, _FORKS, policy=PARENTAL),
    _attack("processes:Hopper", "the process table", _FORKS, policy=GROWN, argument=3),
    _attack("processes:Mayfly", "the processor", _CPU, _WALL, policy=GROWN, argument=10),
    _attack("files:Snoop", "the user's keys", _REFUSED, argument="$home"),
    _attack("files:DiskFiller", "the disk", _DISK, policy=WORKING),
    _attack("files:Vandal", "the user's files", _REFUSED, argument="$secret"),
    _attack("files:Planter", "the host's imports", _REFUSED, argument=["$project", "$library"]),
    _attack("files:BytecodePlanter", "the host's imports", _REFUSED),
    _attack("files:Walker", "the user's files", _REFUSED, argument="$secret"),
    _attack("files:Reopener", "the host's imports", _REFUSED, argument="$module", granted=_READ_LIBRARY),
    _attack("files:Heir", "the host's open files", _ERROR, argument="$descriptor"),
    _attack("files:Leaseholder", "the host's imports", _REFUSED, argument="$module", granted=_READ_LIBRARY),
    _attack("files:Flagger", "the user's files", _REFUSED, argument="$module", granted=_READ_LIBRARY),
    _attack("files:AttributeReader", "the user's files", _REFUSED, _ERROR, argument="$secret"),
    _attack("files:Opener", "open files", _FILES),
    _attack("files:Watcher", "the user's files", _REFUSED, argument="$project"),
    _attack("files:Lister", "the user's files", _REFUSED, argument="$home"),
    _attack("scratch:Linker", "the user's files", _REFUSED, argument="$secret"),
    _attack("scratch:HardLinker", "the user's files", _ERROR, _REFUSED, argument="$secret"),
    _attack("scratch:FifoMaker", "whoever cleans up", _REFUSED),
    _attack("scratch:DeviceMaker", "the machine", _REFUSED),
    _attack("scratch:ModeSetter", "other users", _REFUSED),
    _attack("scratch:OneFileFiller", "the disk", _DISK, policy=WORKING),
    _attack("scratch:SparseFiller", "the disk", _DISK),
    _attack("scratch:Preallocator", "the disk", _DISK, _REFUSED, _ERROR, argument=64),
    _attack("scratch:InodeFiller", "the disk", _DISK, policy=WORKING),
    _attack("scratch:NameFiller", "the disk", _DISK, policy=WORKING),
    _attack("scratch:DeepDigger", "whoever cleans up", _DISK, policy=WORKING),
    _attack("scratch:LockedRoom", "whoever cleans up", _DONE, _DISK),
    _attack("scratch:Newliner", "whoever cleans up", _DONE),
    _attack("network:Caller", "the network", _REFUSED, argument="$tcp"),
    _attack("network:Whisperer", "the network", _REFUSED, argument="$udp"),
    _attack("network:PortHopper", "the network", _REFUSED, policy=PORT, argument="$tcp"),
    _attack("network:FastOpener", "the network", _REFUSED, policy=PORT, argument="$tcp"),
    _attack("network:PathCaller", "this machine's services", _REFUSED, argument="$path"),
    _attack("network:AbstractCaller", "this machine's services", _REFUSED, argument="$abstract"),
    _attack("network:PairWhisperer", "this machine's services", _REFUSED, argument="$datagram"),
    _attack("network:Server", "the network", _REFUSED),
    _attack("network:Netlinker", "the network", _REFUSED),
    _attack("network:Eavesdropper", "this machine's services", _DONE, _REFUSED),
    _attack("network:Smuggler", "open files", _REFUSED),
    _attack("signals:Stopper", "other processes", _REFUSED, argument="$pids"),
    _attack("signals:GroupKiller", "other processes", _REFUSED, argument="$pids"),
    _attack("signals:ThreadKiller", "other processes", _REFUSED, argument="$pids"),
    _attack("signals:QueueKiller", "other processes", _REFUSED, argument="$pids"),
    _attack("signals:HandleKiller", "other processes", _REFUSED, argument="$pids"),
    _attack("signals:OwnerKiller", "other processes", _REFUSED, argument="$pids"),
    _attack("signals:Undying", "the host's control", _REFUSED),
    _attack("signals:Hider", "the host's readings", _REFUSED),
    _attack("signals:SelfStopper", "whoever waits", _WALL, policy=BRIEF),
    _attack("signals:Deaf", "whoever waits", _WALL, policy=BRIEF),
    _attack("signals:SelfAccuser", "the verdict", "died:SIGXCPU"),
    _attack("signals:LimitRaiser", "its own limits", _REFUSED),
    _attack("host:HostKiller", "the host", _REFUSED, argument="$pids"),
    _attack("host:Quitter", "the host", "died:exit 3"),
    _attack("host:Segfaulter", "the host", "died:SIGSEGV"),
    _attack("host:Aborter", "the host", "died:SIGABRT"),
    _attack("host:Starver", "the host", _REFUSED, argument="$pids"),
    _attack("host:Renicer", "the host", _REFUSED, argument="$pids"),
    _attack("host:Idler", "the host", _REFUSED, argument="$pids"),
    _attack("host:Pinner", "the host", _REFUSED, argument="$pids"),
    _attack("host:DiskStarver", "the host", _REFUSED, argument="$pids"),
    _attack("host:Scapegoater", "the host", _REFUSED, argument="$pids"),
    _attack("host:Tracer", "the host", _REFUSED, argument="$pids"),
    _attack("host:MemoryWriter", "the host", _REFUSED, argument="$places"),
    _attack("host:SelfPatcher", "its own barriers", _REFUSED),
    _attack("host:Typist", "the user's terminal", _REFUSED, _ERROR),
    _attack("host:Pesterer", "the host's memory", _DONE, _CPU, _WALL, policy=WORKING),
    _attack("host:NameTaker", "the machine", _REFUSED),
    _attack("spying:MemoryReader", "secrets in memory", _REFUSED, argument="$places"),
    _attack("spying:MemoryFileReader", "secrets in memory", _REFUSED, argument="$places"),
    _attack("spying:EnvironmentReader", "secrets in environments", _REFUSED, argument="$pids"),
    _attack("spying:ClockReader", "other processes", _REFUSED, argument="$pids"),
    _attack("spying:DescriptorThief", "the host's open files", _REFUSED, argument="$pids"),
    _attack("spying:RootWalker", "the user's files", _REFUSED, argument="$pids"),
    _attack("spying:Scavenger", "other plugins' secrets", _DONE, policy=WORKING, argument="$keys"),
    _attack("spying:SiblingSnoop", "other plugins' files", _REFUSED, argument="$sibling"),
    _attack("kernel:OldDoor", "the kernel", "died:SIGSYS", "failed:NotImplementedError"),
    _attack("kernel:WideDoor", "the kernel", _REFUSED, _ERROR, "died:SIGSYS"),
    _attack("kernel:MachineCode", "the kernel", _REFUSED, "failed:NotImplementedError"),
    _attack("kernel:Cloner", "the kernel", _ERROR),
    _attack("kernel:RingMaster", "the kernel", _REFUSED),
    _attack("kernel:FaultHandler", "the kernel", _REFUSED),
    _attack("kernel:KeyKeeper", "the kernel", _REFUSED),
    _attack("kernel:Namespacer", "the kernel", _REFUSED),
    _attack("kernel:Mounter", "the kernel", _REFUSED),
    _attack("kernel:Programmer", "the kernel", _REFUSED),
    _attack("kernel:Filterer", "the kernel", _REFUSED),
    _attack("kernel:Comparer", "the kernel", _REFUSED, argument="$pids"),
    _attack("protocol:Unserializable", "the host's decoder", _MISFIT),
    _attack("protocol:Forger", "the verdict", "died:exit 0"),
    _attack("protocol:SpinningForger", "the verdict", _CPU),
    _attack("protocol:IdlingForger", "whoever waits", _WALL, policy=BRIEF),
    _attack("protocol:DoubleForger", "the verdict", _PROTOCOL),
    _attack("protocol:SettlingForger", "the verdict", _PROTOCOL),
    _attack("protocol:Oracle", "the verdict", _PROTOCOL, calls=800),
    _attack("protocol:Announcer", "the host's memory", _PROTOCOL),
    _attack("protocol:Dripper", "the host's loop", _PROTOCOL),
    _attack("protocol:Babbler", "the host's decoder", _PROTOCOL),
    _attack("protocol:Interjector", "the verdict", _DONE, "broken:protocol"),
    _attack("protocol:Hanger", "whoever waits", _PROTOCOL),
    _attack("protocol:GarbageForger", "the host's decoder", _PROTOCOL),
    _attack("protocol:LyingArray", "the host's decoder", _PROTOCOL, policy=WORKING),
    _attack("protocol:GiantReply", "the host's memory", _REPLY),
    _attack("replies:JustUnder", "the host's memory", _DONE, argument=4 << 20),
    _attack("replies:JustOver", "the host's memory", _REPLY, argument=4 << 20),
    _attack("replies:Structuralist", "the host's memory", _REPLY, _MISFIT, _CPU, _WALL, policy=WORKING),
    _attack("replies:DeepReply", "the host's decoder", _MISFIT),
    _attack("replies:CyclicReply", "the host's decoder", _MISFIT),
    _attack("replies:CollidingReply", "the host's loop", _MISFIT),
    _attack("replies:SurrogateReply", "whoever looks", _DONE),
    _attack("display:Impostor", "whoever looks", _DONE),
    _attack("display:Mirror", "whoever looks", _DONE),
    _attack("display:Masquerader", "whoever looks", r"failed:\x1b[2Jcompleted\n<b>"),
    _attack("display:GiantError", "the host's memory", "failed:ValueError"),
    _attack("display:EndlessError", "whoever asks", _CPU),
    _attack("display:SilentError", "whoever asks", "failed:_SilentTextError"),
    _attack("display:DeadlyError", "whoever asks", "failed:_DeadlyTextError"),
    _attack("display:LyingError", "the verdict", "failed:LimitExceeded"),
    _attack("display:ChainedError", "whoever asks", "failed:KeyError"),
    _attack("display:Flooder", "the host's memory", _DONE),
    _attack("display:Grumbler", "the host's memory", _DONE),
    _attack("showing:Slideshow", "whoever looks", _DONE, _CPU, policy=WORKING),
    _attack("showing:Billboard", "whoever looks", _DONE, policy=WORKING.replace(memory="256M")),
    _attack("showing:Counterfeiter", "whoever looks", _DONE),
    _attack("showing:PictureBomb", "the host's memory", _DONE),
    _attack("showing:Scripter", "whoever looks", _DONE),
    _attack("showing:Coverer", "whoever looks", _DONE),
    _attack("showing:LateDisplayer", "whoever looks", _DONE),
    _attack("showing:DisplayForger", "whoever looks", _PROTOCOL),
    _attack("showing:DisplayFlooder", "the host's memory", _PROTOCOL),
    _attack("runtime:EncoderSwapper", "the host's decoder", _PROTOCOL),
    _attack("runtime:WorkerSwapper", "the host's decoder", _PROTOCOL),
    _attack("runtime:ModulePoisoner", "the worker", _DONE),
    _attack("runtime:BuiltinsWrecker", "the worker", *_FALLEN),
    _attack("runtime:BasePatcher", "the worker", *reversed(_FALLEN)),
    _attack("runtime:ExitBomb", "whoever waits", _DONE),
    _attack("runtime:FinalizerBomb", "whoever waits", _CPU),
    _attack("runtime:ImportHooker", "the worker", _DONE),
    _attack("runtime:AuditRefuser", "the worker", "failed:SystemExit", *_FALLEN),
    _attack("runtime:LoopStopper", "the worker", *reversed(_FALLEN)),
    _attack("runtime:TaskCanceller", "the worker", "failed:CancelledError"),
    _attack("runtime:CancellationForger", "the host's loop", "failed:CancelledError"),
    _attack("runtime:Exiter", "the host", "failed:SystemExit"),
    _attack("runtime:Recurser", "the host", "died:SIGSEGV", "failed:RecursionError"),
    _attack("runtime:HandlerThief", "the processor", _CPU),
    _attack("runtime:FaceChanger", "whoever looks", _DONE),
)
