"""Attacks on files: secrets in the home and the environment, writes outside, descriptors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

READ = """
def attack(given):
    with open(given) as file:
        return file.read()
"""

LIST = """
import os

def attack(given):
    return os.listdir(given)
"""

SYMLINK = """
import os

def attack(given):
    os.chdir(os.environ.get("HOME", "/tmp"))
    os.symlink(given, "innocent")
    try:
        with open("innocent") as file:
            return file.read()
    finally:
        os.unlink("innocent")
"""

DOTS = """
def attack(given):
    with open("/usr/lib/../../" + given.lstrip("/")) as file:
        return file.read()
"""

THROUGH_PROC = """
import os

def attack(given):
    with open(f"/proc/self/root{given}") as file:
        return file.read()
"""

HOME = """
import os

def attack(given):
    return os.path.expanduser("~"), sorted(os.environ), os.getcwd()
"""

WRITES = {
    "create": "open(given + '.new', 'w').close()",
    "overwrite": "open(given, 'w').write('gone')",
    "append": "open(given, 'a').write('more')",
    "truncate": "os.truncate(given, 0)",
    "unlink": "os.unlink(given)",
    "rename": "os.rename(given, given + '.moved')",
    "chmod": "os.chmod(given, 0o777)",
    "chown": "os.chown(given, os.geteuid(), os.getegid())",
    "times": "os.utime(given, (0, 0))",
    "xattr": "os.setxattr(given, 'user.agentplug', b'x')",
    "hardlink": "os.link(given, given + '.link')",
    "symlink": "os.symlink('/etc/passwd', given + '.link')",
    "mkdir": "os.mkdir(given + '.d')",
    "mkfifo": "os.mkfifo(given + '.fifo')",
}

DESCRIPTORS = """
import os

def attack(given):
    found = {}
    for fd in range(3, 256):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass
    return [fd for fd, target in found.items() if target == given]
"""

ALL_DESCRIPTORS = """
import os

def attack(given):
    kinds = {}
    for fd in range(0, 256):
        try:
            kinds[fd] = os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
        except OSError:
            pass
    return kinds
"""

EXHAUST = """
import os

def attack(most):
    held = []
    for _ in range(most):
        held.append(os.open("/dev/null", os.O_RDONLY))
    return len(held)
"""

IN_FLIGHT = """
import array, os, socket

def attack(most):
    # Descriptors under way in a socket are in no table of the process's.
    ours, theirs = socket.socketpair()
    for count in range(most):
        fd = os.open("/dev/null", os.O_RDONLY)
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        os.close(fd)
    return most
"""

LEASE = """
import fcntl, os

def attack(given):
    fd = os.open(given, os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # whoever opens the file next waits for us, 45 s by default
    return "leased"
"""

TERMINAL = """
import fcntl

def attack(given):
    with open("/dev/tty", "w") as terminal:
        for character in b"echo typed":
            fcntl.ioctl(terminal, 0x5412, bytes([character]))  # TIOCSTI
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's, outside everything that is granted."""
    path = tmp_path / "home" / "id_rsa"
    path.parent.mkdir()
    path.write_text("PRIVATE KEY")
    return path


@pytest.mark.parametrize("code", [READ, SYMLINK, DOTS, THROUGH_PROC], ids=["read", "symlink", "dots", "proc"])
def test_a_secret_file_cannot_be_read(unconfined, confined, secret, code):
    """Directly, through a link of the plugin's own, or around a corner: what isn't granted isn't read."""
    assert unconfined(code, str(secret)).value == "PRIVATE KEY"

    run = confined(code, str(secret), policy=Policy(disk="1M"))

    assert run.verdict == Verdict("failed", "PermissionError")


@pytest.mark.parametrize("place", ["~", "/", "/etc", "/tmp", "/proc", "/sys", "/dev", "/run", "/var"])
def test_folders_outside_cannot_be_listed(unconfined, confined, place):
    """Not even names are told of the user's home and the system's folders."""
    place = os.path.expanduser(place)
    assert isinstance(unconfined(LIST, place).value, list)

    assert confined(LIST, place).verdict == Verdict("failed", "PermissionError")


def test_the_environment_and_the_home_are_the_workers_own(unconfined, confined, monkeypatch):
    """No variable of the host's comes through; HOME and the current directory are the scratch directory."""
    monkeypatch.setenv("API_TOKEN", "abc")
    home, names, folder = unconfined(HOME).value
    assert (home, folder) == (os.path.expanduser("~"), os.getcwd())
    assert "API_TOKEN" in names

    home, names, folder = confined(HOME).value

    assert names == ["HOME", "LANG", "PATH"]
    assert home == folder != os.getcwd()


def everything(folder: Path) -> list[tuple[object, ...]]:
    """Names, content and all that a file system notes about files, but for when they were last read."""
    found = []
    for path in sorted(folder.iterdir()):
        status = path.stat()
        facts = (
            status.st_mode,
            status.st_nlink,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
        found.append((path, path.read_text(), facts, os.listxattr(path)))
    return found


@pytest.mark.parametrize("name", WRITES)
def test_nothing_outside_can_be_changed(unconfined, confined, secret, name):
    """Content, names, modes, owners, times and attributes of the user's files stay what they are."""
    code = f"import os\n\ndef attack(given):\n    {WRITES[name]}\n    return 'done'\n"
    before = everything(secret.parent)

    run = confined(code, str(secret))

    assert run.verdict == Verdict("failed", "PermissionError")
    assert everything(secret.parent) == before

    free = unconfined(code, str(secret))
    if "Operation not supported" in free.stderr:
        pytest.skip("this file system has no user attributes")
    assert free.value == "done"


def test_granted_paths_are_granted_as_asked(confined, secret):
    """Not an attack: `read` reads and can't write, `write` does both, and only below what it names."""
    folder = str(secret.parent)
    write = "def attack(given):\n    open(given, 'a').write('!')\n    return open(given).read()\n"

    assert confined(READ, str(secret), policy=Policy(read=folder)).value == "PRIVATE KEY"
    assert confined(write, str(secret), policy=Policy(read=folder)).verdict == Verdict("failed", "PermissionError")
    assert confined(write, str(secret), policy=Policy(write=folder)).value == "PRIVATE KEY!"
    assert confined(LIST, str(secret.parent.parent), policy=Policy(write=folder)).verdict == Verdict(
        "failed", "PermissionError"
    )


def test_descriptors_of_the_host_do_not_come_along(unconfined, confined, secret):
    """A descriptor that any other child of the host would inherit isn't there."""
    fd = os.open(secret, os.O_RDONLY)
    try:
        assert unconfined(DESCRIPTORS, str(secret), pass_fds=[fd]).value == [fd]

        os.set_inheritable(fd, True)
        assert confined(DESCRIPTORS, str(secret)).value == []
    finally:
        os.close(fd)


def test_only_the_channel_and_two_pipes_are_open(confined):
    """Standard input is empty, the outputs are capped pipes, the channel is a socket; and there is what the event
    loop needs in which `initialize` ran."""
    kinds = confined(ALL_DESCRIPTORS).value

    assert kinds == {0: "/dev/null", 1: "pipe", 2: "pipe", 3: "socket", 4: "anon_inode", 5: "socket", 6: "socket"}


def test_descriptors_run_out_for_the_plugin_alone(unconfined, confined):
    """`open_files` bounds them, and the refusal is told as that limit."""
    assert unconfined(EXHAUST, 200).value == 200

    assert confined(EXHAUST, 200).verdict == Verdict("limited", "files")


def test_descriptors_cannot_be_hidden_in_a_socket(unconfined, confined):
    """Passing descriptors around would keep files open that nobody counts."""
    assert unconfined(IN_FLIGHT, 100).value == 100

    assert confined(IN_FLIGHT, 100).verdict == Verdict("failed", "PermissionError")


def test_a_file_that_may_be_read_cannot_be_leased(unconfined, confined, secret):
    """A lease would make the host wait in its next `open` of that file, of an installed module for example."""
    assert unconfined(LEASE, str(secret)).value == "leased"

    run = confined(LEASE, str(secret), policy=Policy(read=str(secret.parent)))

    assert run.verdict == Verdict("failed", "PermissionError")


def test_the_hosts_terminal_cannot_be_typed_into(confined):
    """A session of its own, no device, and no such request: keystrokes can't be forged."""
    assert confined(TERMINAL).verdict == Verdict("failed", "PermissionError")
