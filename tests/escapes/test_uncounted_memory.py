"""Attacks that would put the kernel's memory where nobody can count it: the call is refused."""

from __future__ import annotations

import pytest
from arena import MIB

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

pytestmark = pytest.mark.need("landlock", "seccomp")

PIN = """
import os, tempfile

def attack(way):
    held = 0
    reader, writer = os.pipe()
    second, copy = os.pipe()
    with tempfile.TemporaryFile() as file:
        for _ in range(4):
            os.pwrite(file.fileno(), b"x" * (1 << 20), 0)
            if way == "sendfile":
                held += os.sendfile(writer, file.fileno(), 0, 1)
            elif way == "splice":
                held += os.splice(file.fileno(), writer, 1, offset_src=0)
            else:
                import ctypes
                os.write(writer, b"x")
                number = {"x86_64": 276}.get(os.uname().machine, 77)
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.syscall(number, reader, copy, 1, 0) < 0:
                    raise OSError(ctypes.get_errno(), "tee")
                held += 1
            os.ftruncate(file.fileno(), 0)
    return held
"""

COPY = """
import shutil, socket, threading

def attack(size):
    with open("source", "wb") as file:
        file.write(b"x" * size)
    shutil.copyfile("source", "copy")
    ours, theirs = socket.socketpair()
    with ours, theirs, open("copy", "rb") as file:
        thread = threading.Thread(target=lambda: (ours.sendfile(file), ours.shutdown(socket.SHUT_WR)))
        thread.start()
        with theirs.makefile("rb") as stream:
            came = len(stream.read())
        thread.join()
    return came
"""

SIBLING = """
import ctypes, os, signal, time

CLONE_PARENT = 0x8000

def attack(given):
    clone = {"x86_64": 56}.get(os.uname().machine, 220)
    pid = ctypes.CDLL(None).syscall(clone, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        time.sleep(1)
        os._exit(0)
    if pid < 0:
        raise PermissionError
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return "somebody else's child"
"""


@pytest.mark.parametrize("way", ["splice", "tee", "sendfile"])
def test_no_page_of_a_file_is_kept_in_a_pipe(unconfined, confined, way):
    """One byte of it keeps all that the kernel read at once, and nothing shows how much that is."""
    assert unconfined(PIN, way).value == 4

    assert confined(PIN, way, policy=Policy(disk="2M")).verdict == Verdict("failed", "OSError")


def test_files_are_copied_and_sent_all_the_same(confined):
    """Libraries fall back on reading and writing."""
    run = confined(COPY, 3 * MIB, policy=Policy(disk="8M"))

    assert (run.verdict, run.value) == (Verdict("completed"), 3 * MIB)


@pytest.mark.parametrize("observe", ["", "files"])
def test_no_child_is_born_as_somebody_elses(unconfined, confined, observe):
    """It would count as the zygote's, which looks for such now and then."""
    assert unconfined(SIBLING).value == "somebody else's child"

    run = confined(SIBLING, policy=Policy(processes=2, observe=observe))

    assert run.verdict == Verdict("failed", "PermissionError")
