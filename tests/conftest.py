"""What all tests share: which features this machine has, each proved by trying it, and what a skip for one says.

A test names its features with `@pytest.mark.need("landlock", "userns")`, or asks halfway with the fixture `need`.
Without one of them it is skipped with the reason, or failed where the environment's `AGENTPLUG_EXPECT`
(`landlock,seccomp,userns,chromium,root,index`, and frameworks as `langchain`) says that this machine must have it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")

LANDLOCK_CREATE_RULESET = 444  # on every architecture
LANDLOCK_CREATE_RULESET_VERSION = 1
SECCOMP = {"x86_64": 317, "aarch64": 277}
SECCOMP_GET_ACTION_AVAIL = 2
SECCOMP_RET_ERRNO = 0x00050000

# In a process of its own: a namespace is for life, and this one may have threads already, which forbids the call.
UNSHARE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x00020000):  # CLONE_NEWUSER | CLONE_NEWNS
    print(os.strerror(ctypes.get_errno()))
"""


def _syscall(number: int, *args: object) -> str:
    """Why a system call failed, or nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(ctypes.c_long(number), *args) < 0
    return os.strerror(ctypes.get_errno()) if failed else ""


def _landlock() -> str:
    version = ctypes.c_uint(LANDLOCK_CREATE_RULESET_VERSION)
    return _syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), version)


def _seccomp() -> str:
    action = ctypes.c_uint32(SECCOMP_RET_ERRNO)
    number = SECCOMP.get(os.uname().machine)
    if number is None:
        return f"no system call number known for {os.uname().machine}"
    return _syscall(number, ctypes.c_uint(SECCOMP_GET_ACTION_AVAIL), ctypes.c_uint(0), ctypes.byref(action))


def _userns() -> str:
    done = subprocess.run([sys.executable, "-ISc", UNSHARE], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def _chromium() -> str:
    return "" if shutil.which("chromium") else "no program chromium on the PATH"


def _root() -> str:
    return "" if os.geteuid() == 0 else f"started as uid {os.geteuid()}"


def _cgroup() -> str:
    """A child of this process's own cgroup can be made: version 2, or version 1's memory controller."""
    homes = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        homes[controllers or "cgroup2"] = path
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, options = line.split()[:4]
        name = "memory" if kind == "cgroup" and "memory" in options.split(",") else kind
        if name in homes:
            child = Path(point + homes[name], f"agentplug-probe-{uuid.uuid4().hex}")
            with contextlib.suppress(OSError):
                child.mkdir()
                child.rmdir()
                return ""
    return "no cgroup that this process may make a child of"


def _index() -> str:
    """pip gets a small distribution from the index that it is set up for."""
    options = "-q --disable-pip-version-check --no-cache-dir --no-deps".split()
    with tempfile.TemporaryDirectory() as folder:
        try:
            argv = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, "idna"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
        except subprocess.TimeoutExpired:
            return "pip found no package index within four minutes"
    return f"pip's status is {done.returncode}: {done.stderr.strip()[-300:]}" if done.returncode else ""


def _framework(module: str) -> str:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    return "" if found is not None else f"no module {module}; the extra of that name installs it"


PROBES: dict[str, Callable[[], str]] = {
    "landlock": _landlock,
    "seccomp": _seccomp,
    "userns": _userns,
    "chromium": _chromium,
    "root": _root,
    "cgroup": _cgroup,
    "index": _index,
    "pydantic-ai": partial(_framework, "pydantic_ai"),
    "langchain": partial(_framework, "langchain"),
    "openai-agents": partial(_framework, "agents"),
    "google-adk": partial(_framework, "google.adk"),
}


@cache
def missing(feature: str) -> str:
    """Why this machine lacks `feature`, or nothing where it has it."""
    return PROBES[feature]()


def demand(*features: str) -> None:
    """Skip the running test where one of `features` is missing; fail it where that one was expected."""
    expected = {name.strip() for name in os.environ.get("AGENTPLUG_EXPECT", "").split(",")} - {""}
    if unknown := (expected | set(features)) - PROBES.keys():
        raise ValueError(f"unknown features {', '.join(sorted(unknown))}; known are {', '.join(PROBES)}")
    for feature in features:
        if reason := missing(feature):
            told = f"needs {feature}: {reason}"
            if feature in expected:
                pytest.fail(f"{told} (AGENTPLUG_EXPECT says that this machine has it)", pytrace=False)
            raise pytest.skip.Exception(told, _use_item_location=True)  # else -ra names this file


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"need(*features): skip unless the machine has these of {', '.join(PROBES)}")


def pytest_collection_finish() -> None:
    """Leave what was imported out of every garbage collection: tests and IPython's shells ask for hundreds."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    demand(*(feature for mark in item.iter_markers("need") for feature in mark.args))


@pytest.fixture
def need() -> Callable[..., None]:
    """`need("userns")` halfway through a test, as the marker does for a whole one."""
    return demand
