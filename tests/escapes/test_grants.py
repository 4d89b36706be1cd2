"""Attacks by what a granted path names: another file put in its place, and scratch directories below a grant."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arena import Arena

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.host import plans
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.errors import PolicyError

REFUSED = Verdict("failed", "PermissionError")

READ = """
def attack(given):
    with open(given) as file:
        return file.read()
"""

SWAPS = {
    "a link": "os.rename(f'{w}/in/deep', f'{w}/in/old'); os.symlink(secret, f'{w}/in/deep')",
    "a link on the way": "os.rename(f'{w}/in', f'{w}/old'); os.symlink(f'{secret}/..', f'{w}/in')",
    "an equal folder": "os.rename(f'{w}/in', f'{w}/old'); os.makedirs(f'{w}/in/deep')",
    "removed and made again": "os.unlink(f'{w}/in/deep/key'); os.rmdir(f'{w}/in/deep'); os.mkdir(f'{w}/in/deep')",
    "moved out": "os.rename(f'{w}/in/deep', f'{w}/out')",
}
"""What a plugin that may write to `w` does to w/in/deep, which another one may read."""

SWAP = """
import os

def attack(given):
    how, w, secret = given
    exec(how)
    return "swapped"
"""


class Places:
    """A folder that is granted, one in it that is granted to others, and a secret beside."""

    def __init__(self, top: Path) -> None:
        self.written = top / "w"
        self.read = self.written / "in" / "deep"
        self.secret = top / "home" / "deep"
        for folder, text in ((self.read, "PUBLIC"), (self.secret, "SECRET")):
            folder.mkdir(parents=True)
            (folder / "key").write_text(text)

    def swap(self, arena: Arena, how: str) -> Run:
        """Have a plugin that may write there put something else in the place."""
        return arena.confined(
            SWAP, [SWAPS[how], str(self.written), str(self.secret)], policy=Policy(write=self.written)
        )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "places")


@pytest.mark.parametrize("best_effort", [False, True])
@pytest.mark.parametrize("how", SWAPS)
def test_a_grant_is_no_name(arena: Arena, places: Places, how: str, best_effort: bool) -> None:
    """A reads what B may write. Once B has put something else there, no worker of A starts."""
    policy = Policy(read=places.read, best_effort=best_effort)
    key = f"{places.read}/key"
    assert arena.confined(READ, key, policy=policy).value == "PUBLIC"

    assert places.swap(arena, how).value == "swapped"

    for later in (policy, policy.replace(memory="256M")):
        with pytest.raises(PolicyError, match=f"^read: '{places.read}' is no longer what was granted: "):
            arena.confined(READ, key, policy=later)
    assert arena.confined(READ, key).verdict.kind == "failed"


@pytest.mark.parametrize("how", SWAPS)
def test_the_worker_compares_too(arena: Arena, places: Places, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The swap may come after the host has looked: then the worker refuses, and the host says so."""
    policy = Policy(read=places.read, best_effort=True)
    look = plans.check

    def check(field: str, path: object) -> None:
        monkeypatch.setattr(plans, "check", look)
        exec(SWAPS[how], {"os": os, "w": str(places.written), "secret": str(places.secret)})

    monkeypatch.setattr(plans, "check", check)

    with pytest.raises(PolicyError, match=f"^read: '{places.read}' is no longer what was granted: "):
        arena.confined(READ, f"{places.read}/key", policy=policy)


def test_a_swap_for_a_moment_is_refused_too(arena: Arena, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all is as it was once the host looks again, it can only say that it wasn't."""
    policy = Policy(read=places.read)
    real = plans.grants_of
    others = plans.grants_of(Policy(read=places.secret), "read")
    wrong = [granted.__class__(str(places.read), granted.device, granted.inode) for granted in others]
    monkeypatch.setattr(plans, "grants_of", lambda policy, field: wrong if field == "read" else real(policy, field))

    with pytest.raises(
        PolicyError, match=f"^{places.read} was something else than what was granted, while the worker"
    ):
        arena.confined(READ, f"{places.read}/key", policy=policy)


def test_one_plugin_with_both_rights_gets_no_third(arena: Arena, places: Places) -> None:
    """A worker may swap what it may write itself: the running one wins nothing, and the next one isn't started."""
    policy = Policy(write=places.written, read=places.read)
    code = SWAP.replace('return "swapped"', "return open(f'{w}/in/deep/key').read()")

    run = arena.confined(code, [SWAPS["a link"], str(places.written), str(places.secret)], policy=policy)
    assert run.verdict == REFUSED
    with pytest.raises(PolicyError, match="is no longer what was granted"):
        arena.confined(READ, f"{places.read}/key", policy=policy)


def test_nested_grants_are_each_what_they_say(arena: Arena, places: Places) -> None:
    """Not an attack: who may read the inner folder can't write it, who may write the outer one can do both."""
    inner, outer = Policy(read=places.read), Policy(write=places.written)
    write = "def attack(given):\n    open(given, 'a').write('!')\n    return open(given).read()\n"
    key = f"{places.read}/key"

    assert arena.confined(write, key, policy=inner).verdict == REFUSED
    assert arena.confined(write, key, policy=outer).value == "PUBLIC!"
    assert arena.confined(write, key, policy=Policy(read=places.written, write=places.read)).value == "PUBLIC!!"
    assert arena.confined(write, f"{places.written}/new", policy=Policy(write=places.read)).verdict == REFUSED
    assert arena.confined(READ, key, policy=inner).value == "PUBLIC!!"


def test_a_replaced_file_is_another_one(arena: Arena, places: Places) -> None:
    """As an editor saves it: written beside, and renamed. The policy is made again for that."""
    file = places.read / "key"
    policy = Policy(read=file)
    assert arena.confined(READ, str(file), policy=policy).value == "PUBLIC"
    file.with_name("new").write_text("NEWER")
    file.with_name("new").rename(file)

    with pytest.raises(PolicyError, match="another file is in its place"):
        arena.confined(READ, str(file), policy=policy)
    assert arena.confined(READ, str(file), policy=Policy(read=file)).value == "NEWER"
    (file.with_name("hard")).hardlink_to(file)
    file.unlink()
    with pytest.raises(PolicyError, match="it was removed or renamed"):
        arena.confined(READ, str(file), policy=Policy(read=places.read).replace(read=policy.read))


def test_a_plugin_whose_start_was_refused_can_be_started_once_all_is_as_it_was(arena: Arena, places: Places) -> None:
    """Nothing of the refused start is left, in the plugin either."""
    key = f"{places.read}/key"

    async def main() -> list[object]:
        plugin = arena.plugin(READ, Policy(read=places.read))
        moved = places.read.rename(places.written / "moved")
        with pytest.raises(PolicyError, match="it was removed or renamed"):
            await plugin.run(key)
        moved.rename(places.read)
        async with plugin:
            return [(await plugin.run(key)).value]

    assert arena.watched(main) == ["PUBLIC"]


def test_a_recorded_policy_is_looked_up_when_it_is_used(arena: Arena, places: Places) -> None:
    """As one that comes back from an audit log: then it grants what it names, but through no link."""
    policy = Policy.from_dict(Policy(read=places.read).to_dict(), is_record=True)
    key = f"{places.read}/key"
    assert arena.confined(READ, key, policy=policy).value == "PUBLIC"

    places.swap(arena, "a link")
    with pytest.raises(
        PolicyError, match=rf"^read: .* no longer what was granted: a link to '{places.secret}' is in"
    ):
        arena.plugin(READ, policy)

    places.swap(arena, "a link on the way")
    with pytest.raises(PolicyError, match=r"^read: .* no longer what was granted: a folder on the way is a link now"):
        arena.plugin(READ, policy)


def test_a_swap_at_any_moment_wins_nothing(arena: Arena, places: Places) -> None:
    """While a link and the folder stand in the place in turns, a start is refused, or grants the folder alone."""
    policy = Policy(read=places.read)
    link, aside = places.written / "link", places.written / "aside"
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            link.symlink_to(places.secret)
            places.read.rename(aside)
            link.rename(places.read)
            over.wait(0.002)  # each stands there for as long as the other
            places.read.unlink()
            aside.rename(places.read)
            over.wait(0.002)

    swapper = threading.Thread(target=swap)
    swapper.start()
    outcomes = []
    try:
        for _ in range(40):
            try:
                run = arena.confined(READ, f"{places.secret}/key", policy=policy)
                outcomes.append(run.value or run.verdict.by)
            except PolicyError as error:
                outcomes.append(type(error).__name__)
    finally:
        over.set()
        swapper.join()
    assert set(outcomes) <= {"PermissionError", "PolicyError"}


MOUNTING = """
import ctypes, os, sys, tempfile
from agentplug import Policy, PolicyError, SandboxedPlugin
libc = ctypes.CDLL(None, use_errno=True)
user, group = os.geteuid(), os.getegid()
CLONE_NEWNS, CLONE_NEWUSER, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 1 << 12, 1 << 14, 1 << 18
if libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)):
    sys.exit("no mount namespace")
if user:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        open(f"/proc/self/{name}", "w").write(text)
def mount(source, target, flags):
    assert not libc.mount(os.fsencode(source), os.fsencode(target), b"none", ctypes.c_ulong(flags), b"")
mount("none", "/", MS_REC | MS_PRIVATE)
class Reader:
    name, version = "reader", "1"
    def initialize(self, config): pass
    def process(self, path): return open(path).read()
one, other = sys.argv[1:]
"""


def mounting(script: str, *folders: Path) -> list[str]:
    """The lines that a script writes, in a mount namespace of its own."""
    command = [sys.executable, "-c", MOUNTING + script, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "no mount namespace" in done.stderr:
        pytest.skip("this user can make no mount namespace here")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_mount_over_a_granted_folder_is_another_folder(places: Places) -> None:
    """Whoever can mount puts another folder in the place, and no worker is granted that one."""
    script = """
policy = Policy(read=one)
before = SandboxedPlugin(Reader, policy)
print(before.run_sync(f"{one}/key").value)
before.close_sync()
mount(other, one, MS_BIND)
print(open(f"{one}/key").read())
try:
    SandboxedPlugin(Reader, policy).run_sync(f"{one}/key")
except PolicyError as error:
    print(error)
"""
    lines = mounting(script, places.read, places.secret)

    fact = "is no longer what was granted: another folder is in its place"
    assert lines[:2] == ["PUBLIC", "SECRET"]
    assert lines[2].startswith(f"read: '{places.read}' {fact}")


def test_scratch_directories_that_are_mounted_twice_can_t_be_granted(places: Places) -> None:
    """The temporary directory is a part of another folder, mounted elsewhere: that folder holds them as well."""
    script = """
mount(f"{other}/deep", one, MS_BIND)
tempfile.tempdir = one
plugin = SandboxedPlugin(Reader, Policy(disk="1M"))
plugin.run_sync("/etc/hostname")
for folder in (one, f"{other}/deep", other):
    try:
        Policy(read=folder)
    except PolicyError as error:
        print(error)
plugin.close_sync()
"""
    lines = mounting(script, places.read, places.secret.parent)

    assert [line.partition(" holds ")[0] for line in lines] == [
        f"read: '{folder}'" for folder in (places.read, places.secret, places.secret.parent)
    ]


# ---------------------------------------------------------------------- scratch directories

SPY = """
import os

def attack(given):
    place, known = given
    seen = []
    for act in (lambda: os.listdir(place), lambda: os.chmod(place, 0o700), lambda: os.listdir(place),
                lambda: os.rename(place, place + "-moved")):
        try:
            seen.append(act())
        except OSError as error:
            seen.append(type(error).__name__)
    return seen
"""
HOST = """
import sys, tempfile
from agentplug import Policy, SandboxedPlugin
tempfile.tempdir = sys.argv[1]
class Keeper:
    name, version = "keeper", "1"
    def initialize(self, config): pass
    def process(self, text):
        open("note", "w").write(text)
        import os
        return os.getcwd()
plugin = SandboxedPlugin(Keeper, Policy(disk="1M", best_effort=True))
print(plugin.run_sync("SECRET").value, flush=True)
sys.stdin.read()
plugin.close_sync()
"""


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Start a host of this user whose temporary directory is the one given; its first line is a scratch path."""
    hosts = []

    def start(temporary: Path) -> subprocess.Popen[str]:
        host = subprocess.Popen(
            [sys.executable, "-c", HOST, str(temporary)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        hosts.append(host)
        return host

    yield start
    for host in hosts:
        host.communicate(timeout=30)
        assert host.returncode == 0


def test_scratch_directories_are_out_of_reach_of_a_granted_temporary_directory(arena: Arena) -> None:
    """Of 40 starts under `read="/tmp"`, 4 read another plugin's scratch. Now no such policy can be made."""

    async def main() -> None:
        class KeeperPlugin:
            name, version = "keeper", "1"

            def initialize(self, config: object) -> None: ...

            def process(self, text: str) -> str:
                Path("note").write_text(text)
                return os.getcwd()

        async with SandboxedPlugin(KeeperPlugin, Policy(disk="1M")) as keeper:
            scratch = Path(await keeper.process("SECRET"))
            for place in (*scratch.parents, scratch):
                for field in ("read", "write"):
                    with pytest.raises(PolicyError, match=f"^{field}: .* (holds|lies in) '.*scratch directories"):
                        Policy(**{field: place})

    arena.watched(main)


def test_nor_can_they_be_named_from_another_host(arena: Arena, tmp_path: Path, neighbour) -> None:
    """A host with a temporary directory of its own may grant the one in which this user's other hosts work. Its
    plugin can't list the folder there, and the names in it can't be guessed."""
    shared = tmp_path / "shared"
    shared.mkdir()
    scratch = Path(neighbour(shared).stdout.readline().strip())
    place, root = scratch.parents[1], scratch.parent
    assert place == shared / f"agentplug-{os.geteuid()}"
    assert len(root.name) == 32

    run = arena.confined(SPY, [str(place), ""], policy=Policy(read=shared))
    assert run.value == ["PermissionError"] * 4
    run = arena.confined(SPY, [str(place), ""], policy=Policy(write=shared))
    assert run.value == [*["PermissionError"] * 3, None]  # it may rename what lies in a folder that it may write
    place.with_name(f"{place.name}-moved").rename(place)


def test_scratch_directories_are_made_and_wiped_wherever_their_path_leads(
    arena: Arena, tmp_path: Path, neighbour
) -> None:
    """The folder was moved, and a link to a secret has taken its name: nothing there is granted, nor wiped."""
    shared, trap = tmp_path / "shared", tmp_path / "trap"
    shared.mkdir()
    host = neighbour(shared)
    scratch = Path(host.stdout.readline().strip())
    place = scratch.parents[1]
    decoy = trap / scratch.relative_to(place)
    decoy.mkdir(parents=True)
    (decoy / "precious").write_text("x")
    place.rename(shared / "moved")
    place.symlink_to(trap)

    host.communicate(timeout=30)

    assert (decoy / "precious").read_text() == "x"
    assert list(shared.iterdir()) == [place]
