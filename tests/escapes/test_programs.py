"""Attacks by turning into another program, or by opening a namespace to be root in."""

from __future__ import annotations

import os

import pytest

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

EXEC = """
import os

def attack(given):
    os.execv("/bin/sh", ["sh", "-c", "exit 7"])
"""

SHELL = """
import subprocess

def attack(given):
    return subprocess.run(["/bin/sh", "-c", "echo out"], capture_output=True, text=True).stdout
"""

DESCRIPTOR_EXEC = """
import os

def attack(given):
    fd = os.open("/bin/sh", os.O_RDONLY)
    os.execve(fd, ["sh", "-c", "exit 7"], {})
"""

NAMESPACES = """
import ctypes, os

def attack(flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
    return "a root of its own"
"""

CLONE_NAMESPACE = """
import ctypes, os

def attack(number):
    libc = ctypes.CDLL(None, use_errno=True)
    pid = libc.syscall(number, 0x10000000 | 17, 0, 0, 0, 0)  # clone(CLONE_NEWUSER | SIGCHLD)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "a child in a root of its own"
"""

CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
CLONE_NEWUSER = 0x10000000
FEW = Policy(processes=4)


@pytest.mark.parametrize("code", [EXEC, DESCRIPTOR_EXEC], ids=["path", "descriptor"])
def test_no_other_program_can_be_run(unconfined, confined, code):
    """Without granted processes there is no exec, be it of a path or of an open file."""
    assert unconfined(code).status == 7

    assert confined(code).verdict == Verdict("failed", "PermissionError")


def test_a_shell_needs_a_granted_process(unconfined, confined):
    """`subprocess` ends at its fork; with processes granted, system programs run, as confined as the plugin."""
    assert unconfined(SHELL).value == "out\n"

    assert confined(SHELL).verdict == Verdict("limited", "processes")
    assert confined(SHELL, policy=FEW).value == "out\n"


@pytest.mark.parametrize("policy", [Policy(), FEW], ids=["default", "processes"])
@pytest.mark.parametrize(
    ("code", "given"), [(NAMESPACES, CLONE_NEWUSER), (CLONE_NAMESPACE, CLONE)], ids=["unshare", "clone"]
)
def test_no_namespace_opens_inside(unconfined, confined, need, code, given, policy):
    """A user namespace would bring capabilities, and with them mounts and much of the kernel to attack."""
    verdict = confined(code, given, policy=policy).verdict
    assert verdict in (Verdict("failed", "PermissionError"), Verdict("limited", "processes"))

    need("userns")
    assert "root of its own" in unconfined(code, given).value
