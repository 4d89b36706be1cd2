"""The environment that `tests/container.py` gives is a default container's: proved by trying what it should stop."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "container.py"
Container = Callable[..., subprocess.Popen]

pytestmark = pytest.mark.need("root", "seccomp")

# Runs in the environment; standard library alone. Each attempt is reported as its errno's name, or "ok".
PROBE = r"""
import ctypes, errno, json, os, sys

numbers = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

def attempt(function, *args):
    ctypes.set_errno(0)
    failed = function(*args) < 0
    return errno.errorcode[ctypes.get_errno()] if failed else "ok"

def call(name, *args):
    raw = (ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args)
    return attempt(libc.syscall, ctypes.c_long(numbers[name]), *raw)

def in_child(work):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, work().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return os.read(reading, 100).decode()

def clone_user_namespace():
    pid = libc.syscall(ctypes.c_long(numbers["clone"]), ctypes.c_long(0x10000000 | 17), *[ctypes.c_long(0)] * 4)
    if pid == 0:
        os._exit(0)
    return "ok" if pid > 0 else errno.errorcode[ctypes.get_errno()]

def mkdir_in_cgroups():
    outcomes = set()
    for line in open("/proc/mounts"):
        point, kind = line.split()[1:3]
        if kind in ("cgroup", "cgroup2"):
            try:
                os.mkdir(point + "/agentplug-probe")
                outcomes.add("made " + point)
            except OSError as error:
                outcomes.add(errno.errorcode[error.errno])
    return sorted(outcomes)

status = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
shm = os.statvfs("/dev/shm")
print(json.dumps({
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "capabilities": {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
    "no_new_privs": status["NoNewPrivs"],
    "seccomp": status["Seccomp"],
    "fresh": all(os.path.isdir(p) and os.stat(p).st_uid == os.getuid() and not os.listdir(p)
                 for p in (os.environ["HOME"], os.environ["TMPDIR"])),
    "clone": in_child(clone_user_namespace),
    "clone3": call("clone3", 0, 0),
    "unshare": in_child(lambda: attempt(libc.unshare, 0x10000000)),
    "io_uring_setup": call("io_uring_setup", 0, 0),
    "pidfd_getfd": call("pidfd_getfd", -1, 0, 0),
    "kcmp": call("kcmp", os.getpid(), os.getpid(), 0, -1, -1),
    "userfaultfd": in_child(lambda: call("userfaultfd", -1)),
    "keyctl": call("keyctl", 9999, 0, 0, 0, 0),
    "open_tree": call("open_tree", -1, 0, 0),
    "personality": in_child(lambda: attempt(libc.personality, ctypes.c_ulong(0x0040000))),
    "personality_query": attempt(libc.personality, ctypes.c_ulong(0xFFFFFFFF)),
    "mkdir_in_cgroups": mkdir_in_cgroups(),
    "read_only": [path for path in ("/proc/sys", "/sys", "/dev/shm", "/") if os.statvfs(path).f_flag & os.ST_RDONLY],
    "shm_bytes": shm.f_blocks * shm.f_frsize,
    "keys": os.stat("/proc/keys").st_rdev,
    "landlock_abi": libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1)),
    "user_notif": call("seccomp", 2, 0, ctypes.byref(ctypes.c_uint32(0x7FC00000))),
    "prlimit64": call("prlimit64", 0, 7, 0, ctypes.create_string_buffer(16)),
    "pidfd_open": call("pidfd_open", os.getpid(), 0),
}))
"""
NUMBERED = """
    clone clone3 io_uring_setup kcmp keyctl open_tree pidfd_getfd pidfd_open prlimit64 seccomp userfaultfd
""".split()


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that uid 1000 may execute; the one of these tests may lie in a home directory."""
    for candidate in (sys.executable, sys._base_executable, "/usr/bin/python3"):
        argv = [sys.executable, str(SCRIPT), "--no-container", "--", candidate, "-Sc", ""]
        if subprocess.run(argv, cwd="/", capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.fail("uid 1000 can execute no Python on this machine; install /usr/bin/python3")


@pytest.fixture
def container() -> Iterator[Container]:
    """Start `container.py` with arguments; what still runs at the end is killed."""
    started: list[subprocess.Popen] = []

    def start(*args: str) -> subprocess.Popen:
        argv = [sys.executable, str(SCRIPT), *args]
        process = subprocess.Popen(argv, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def probe(container: Container, python: str, *options: str) -> dict[str, Any]:
    from seccompy import syscall_nr

    numbers = json.dumps({name: syscall_nr(name) for name in NUMBERED})
    process = container(*options, "--", python, "-ISc", PROBE, numbers)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)


def test_container_takes_away_what_a_default_container_does(container: Container, python: str) -> None:
    """No capability, namespace, cgroup, key ring or io_uring is left to it, and its /proc and /dev/shm are cut."""
    seen = probe(container, python)
    assert {name: seen[name] for name in seen if name not in {"landlock_abi", "shm_bytes"}} == {
        "ids": [[1000] * 3, [1000] * 3, []],
        "capabilities": dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0),
        "no_new_privs": "1",
        "seccomp": "2",
        "fresh": True,
        "clone": "EPERM",
        "clone3": "ENOSYS",
        "unshare": "EPERM",
        "io_uring_setup": "EPERM",
        "pidfd_getfd": "EPERM",
        "kcmp": "EPERM",
        "userfaultfd": "EPERM",
        "keyctl": "EPERM",
        "open_tree": "EPERM",
        "personality": "EPERM",
        "personality_query": "ok",
        "mkdir_in_cgroups": ["EROFS"],
        "read_only": ["/proc/sys", "/sys"],
        "keys": os.stat("/dev/null").st_rdev,
        "user_notif": "ok",
        "prlimit64": "ok",
        "pidfd_open": "ok",
    }
    assert seen["shm_bytes"] == 64 << 20


@pytest.mark.need("landlock")
def test_container_leaves_landlock(container: Container, python: str) -> None:
    """Landlock answers with its version there, as it does in a default container."""
    assert probe(container, python)["landlock_abi"] >= 1


@pytest.mark.need("userns")
def test_plain_switch_changes_the_user_and_nothing_else(container: Container, python: str) -> None:
    """As plain uid 1000 the same calls reach the kernel, so it is the container that stopped them above."""
    seen = probe(container, python, "--no-container")
    wanted = (
        "ids",
        "no_new_privs",
        "seccomp",
        "fresh",
        "clone",
        "clone3",
        "unshare",
        "pidfd_getfd",
        "kcmp",
        "personality",
    )
    assert {name: seen[name] for name in wanted} == {
        "ids": [[1000] * 3, [1000] * 3, []],
        "no_new_privs": "0",
        "seccomp": "0",
        "fresh": True,
        "clone": "ok",
        "clone3": "EINVAL",
        "unshare": "ok",
        "pidfd_getfd": "EBADF",
        "kcmp": "EBADF",
        "personality": "ok",
    }


@pytest.mark.parametrize("options", [(), ("--no-container",)], ids=["container", "plain"])
@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -SEGV $$", 128 + signal.SIGSEGV)]
)
def test_exit_status_is_the_commands(
    container: Container, options: tuple[str, ...], script: str, status: int
) -> None:
    """A status or a fatal signal of the command is what the caller sees."""
    process = container(*options, "--", "sh", "-c", script)
    assert process.wait(60) == status


def test_unknown_command_says_so(container: Container) -> None:
    """What can't be found is 127, as in a shell, with the fact on stderr."""
    process = container("--", "no-such-command")
    assert process.communicate(timeout=60) == (
        "",
        "container.py: uid 1000 finds no program no-such-command that it may execute\n",
    )
    assert process.returncode == 127


def test_unreadable_directory_says_so(tmp_path: Path) -> None:
    """Started where uid 1000 can't read, it names the directory and runs nothing."""
    tmp_path.chmod(0o700)
    argv = [sys.executable, str(SCRIPT), "--", "true"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (
        125,
        f"container.py: uid 1000 can't read {tmp_path}: start this from a directory that it can read\n",
    )


def test_other_users_are_refused(container: Container, python: str) -> None:
    """Not root: status 2, and what to do."""
    process = container("--no-container", "--", python, "-ISc", SCRIPT.read_text(), "--", "true")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "started as uid 1000; only root can switch users and mount. Start it as root." in err


def test_home_is_wiped_at_the_end(container: Container) -> None:
    """HOME and TMPDIR are gone with the command, whatever it left in them."""
    process = container("--", "sh", "-c", 'mkdir -p "$HOME/a/b"; chmod 0 "$HOME/a"; : > "$TMPDIR/c"; dirname "$HOME"')
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert not Path(out.strip()).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_passed_on(container: Container, number: signal.Signals) -> None:
    """A signal to the script reaches the command, which decides what follows."""
    name = number.name.removeprefix("SIG")
    process = container("--", "sh", "-c", f"trap 'exit 7' {name}; echo ready; while :; do sleep 0.01; done")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(60) == 7


def test_command_dies_with_the_script(container: Container) -> None:
    """Killing the script outright kills the command: its end of a pipe closes. Only its files are left to wipe."""
    process = container("--", "sh", "-c", 'dirname "$HOME"; exec sleep 1000')
    assert process.stdout is not None
    base = process.stdout.readline().strip()
    process.kill()
    assert process.stdout.read() == ""
    shutil.rmtree(base)


def test_processes_left_behind_are_named_and_killed(container: Container) -> None:
    """A daemon of the command doesn't outlive it, and isn't passed over in silence."""
    process = container("--", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == f"container.py: the command left 1 processes behind, now killed: sleep ({out.strip()})\n"
    with pytest.raises(ProcessLookupError) as caught:
        os.kill(int(out), 0)
    assert caught.value.errno == errno.ESRCH
