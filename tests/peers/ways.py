"""Each peer's way to run an attack, as strict as its documentation allows (in a throwaway host process)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.peers.inside import attack

ROOT = Path(__file__).resolve().parents[2]
WALL_S = 2.0
MEMORY = 128 << 20  # for an interpreter too
DISK = 8 << 20
OPEN_FILES = 64
SITE = sys.prefix  # its packages may be read


@dataclass(frozen=True)
class Job:
    """One attack: its spec and input, a folder to be in, paths that it may read, how many children, which ports."""

    spec: str
    given: Any
    folder: str
    read: list[str]
    processes: int
    ports: list[int]


Outcome = tuple[str, str]
"""A verdict (`completed`, `failed:Type`, `died`, `timeout`, `endless`), and all text that came back."""


@dataclass(frozen=True)
class Way:
    """A peer. `missing` says why it can't run here, if so; `memory` whether it holds a limit of memory."""

    name: str
    version: Callable[[], str]
    missing: Callable[[], str]
    run: Callable[[Job], Outcome]
    memory: bool


def _pool(job: Job) -> Outcome:
    """`ProcessPoolExecutor(1)`, a result awaited for so long, then shut down. It has nothing more to set."""
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(1)
    try:
        value = pool.submit(attack, job.spec, job.given, job.folder).result(WALL_S)
    except TimeoutError:
        pool.shutdown(wait=False, cancel_futures=True)
        return "endless", ""
    except BrokenProcessPool as error:
        return "died", str(error)
    except BaseException as error:
        return f"failed:{type(error).__name__}", _words(error)
    pool.shutdown()
    return "completed", repr(value)


def _pebble(job: Job) -> Outcome:
    """`ProcessPool(max_workers=1, max_tasks=1)` with a timeout, after which it kills the worker."""
    from pebble import ProcessExpired, ProcessPool

    with ProcessPool(max_workers=1, max_tasks=1) as pool:
        try:
            value = pool.schedule(attack, args=[job.spec, job.given, job.folder], timeout=WALL_S).result()
        except TimeoutError:
            return "timeout", ""
        except ProcessExpired as error:
            return "died", str(error)
        except BaseException as error:
            return f"failed:{type(error).__name__}", _words(error)
        return "completed", repr(value)


def _bubblewrap(job: Job) -> Outcome:
    """All namespaces and no more of them, no capabilities, no environment, a sized tmpfs; rlimits by prlimit(1)."""
    rights = "--unshare-all --unshare-user --disable-userns --die-with-parent --new-session --clearenv".split()
    for path in ("/usr", "/lib", "/lib64", "/bin", SITE):
        link = os.path.islink(path)
        rights += ["--symlink", os.readlink(path), path] if link else ["--ro-bind-try", path, path]
    rights += f"--proc /proc --dev /dev --size {DISK} --tmpfs /tmp --chdir /tmp".split()
    for path in (f"{ROOT}/agentplug", f"{ROOT}/tests/peers", *job.read):
        rights += ["--ro-bind", path, path]
    limits = {"as": 2 * MEMORY, "memlock": 0, "nofile": OPEN_FILES, "cpu": 2, "fsize": DISK, "core": 0}
    command = ["bwrap", *rights, "--cap-drop", "ALL", "--", "/usr/bin/prlimit"]
    command += [f"--{name}={value}" for name, value in limits.items()]
    command += [f"--nproc={job.processes + 8}"]
    try:
        done = subprocess.run(
            [*command, *_program(job)], capture_output=True, timeout=WALL_S, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return "timeout", ""
    return _told(done.returncode, done.stdout, done.stderr)


def _sandlock(job: Job) -> Outcome:
    """Its default blocklist, paths by name, no network, limits of memory, processes, files and disk."""
    from sandlock import BranchAction, ExitReason, Sandbox

    box = Sandbox(
        fs_readable=[
            *("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/proc/self", "/dev/null", "/dev/urandom"),
            *(SITE, str(ROOT), *job.read),
        ],
        fs_writable=[job.folder],
        workdir=job.folder,
        cwd=job.folder,
        max_disk=DISK,
        on_exit=BranchAction.ABORT,
        net_allow=[f"127.0.0.1:{port}" for port in job.ports],
        max_memory=MEMORY,
        max_processes=1 + job.processes,
        max_open_files=OPEN_FILES,
        clean_env=True,
        no_coredump=True,
    )
    done = box.run(_program(job), timeout=WALL_S)
    if done.error:
        return "failed:SandlockError", done.error
    if done.reason == ExitReason.TIMEOUT:
        return "timeout", ""
    return _told(done.exit_code if done.reason == ExitReason.EXITED else -9, done.stdout, done.stderr)


def _restricted(job: Job) -> Outcome:
    """Its whole set of guards, no import; in a thread, so that the host's loop could go on."""
    from tests.peers.translated import run_restricted

    try:
        return "completed", repr(run_restricted(job.spec, job.given))
    except BaseException as error:
        return f"failed:{type(error).__name__}", _words(error)


def _program(job: Job) -> list[str]:
    """A command that runs the attack; the package is found by its path, and nothing else of it is needed."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.peers import inside; inside.main()"
    return [sys.executable, "-Ic", start, json.dumps([job.spec, job.given])]


def _told(status: int, stdout: bytes, stderr: bytes) -> Outcome:
    """The outcome on the last line, with all that was printed before."""
    text = stdout.decode(errors="replace") + stderr.decode(errors="replace")
    lines = [line for line in stdout.decode(errors="replace").splitlines() if line.startswith('["')]
    try:
        outcome, _ = json.loads(lines[-1])
    except (IndexError, ValueError):
        return f"died:{status}", text
    return str(outcome), text


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "an error that has no words"


def _packaged(name: str) -> tuple[Callable[[], str], Callable[[], str]]:
    """How to ask for a package's version, and for whether it is missing."""

    def missing() -> str:
        try:
            version(name)
        except PackageNotFoundError:
            return f"{name} isn't installed: pip install 'agentplug[peers]'"
        return ""

    return lambda: "–" if missing() else version(name), missing


def _bubblewrap_version() -> str:
    return subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


def _no_bubblewrap() -> str:
    if shutil.which("bwrap") is None:
        return "bwrap isn't installed: apt-get install bubblewrap"
    done = subprocess.run(
        ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, text=True, check=False
    )
    return done.stderr.strip().partition(". ")[0]


def _no_sandlock() -> str:
    missing = _packaged("sandlock")[1]()
    if missing:
        return missing
    from sandlock import Sandbox

    done = Sandbox(fs_readable=["/usr", "/lib", "/lib64", "/bin"]).run(["/bin/true"], timeout=5)
    return "" if done.success else f"sandlock can't start a program here: {done.error or done.exit_code}"


WAYS = {
    way.name: way
    for way in (
        Way("ProcessPoolExecutor", lambda: sys.version.split()[0], lambda: "", _pool, False),
        Way("pebble", *_packaged("pebble"), _pebble, False),
        Way("RestrictedPython", *_packaged("RestrictedPython"), _restricted, False),
        Way("bubblewrap", _bubblewrap_version, _no_bubblewrap, _bubblewrap, True),
        Way("sandlock", _packaged("sandlock")[0], _no_sandlock, _sandlock, True),
    )
}
