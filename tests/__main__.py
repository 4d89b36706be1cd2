"""`python -m tests`: every check of the project, and a table of how they went. `--fast`: those that take seconds.

The linters and the unit tests, which is all for `--fast`; a million fuzzed frames, the notebooks by nbval, the Binder
layout; the unit tests on other versions of Python; all other tests as the current user; then, started as root, those
that depend on it again as uid 1000 and as uid 1000 in a container-like environment (`tests/container.py`), where the
notebooks run too. One failure doesn't stop the rest; the status is 1 if anything failed. What can't be run here is
named with its reason.

uid 1000 needs an interpreter and a copy of the project that it can read. Where it can't use those of this run (they
may lie in root's home), both are made under /tmp: the tree is copied and installed, editable, in a new environment,
so that the copy which the tests import is also the one that isolated worker processes find.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUITES = ("workers", "escapes", "faults", "fuzz", "integrations", "notebooks", "longruns", "peers")
ALONE = ("longruns", "browser")  # they count what is on the machine, or share one page
# What depends on who runs it: permissions of files, others' processes and locks, and what each attack then comes to.
CONFINED_SUITES = (
    "unit/test_audit.py",
    "unit/test_sources_files.py",
    "unit/test_granted_paths.py",
    "workers/test_sandboxed.py",
    "workers/test_usage.py",
    "escapes/test_figures.py",
    "escapes/test_files.py",
    "escapes/test_grants.py",
    "escapes/test_host.py",
    "escapes/test_locks.py",
    "escapes/test_phases.py",
    "escapes/test_zoo_attacks.py",
)
# And where: a container lacks namespaces, cgroups and system calls.
CONTAINED_SUITES = (*CONFINED_SUITES[:5], "workers/test_chapter.py", "workers/test_manager.py", "escapes", "faults")
# Proved once: simulated machines are the same for everybody, and so is an attack that nothing stops.
PROVED = (
    "--ignore=tests/escapes/test_restricted.py",
    "--ignore=tests/escapes/test_own_process.py",
    "--deselect=tests/escapes/test_zoo_attacks.py::test_an_attack_works_where_nothing_stops_it",
    "--deselect=tests/escapes/test_published_faults.py::test_the_fault_does_its_damage_where_nothing_stops_it",
)
FRAMES = 1_000_000
MYPY = (sys.executable, "-m", "mypy")
NO_TESTS = 5  # pytest's exit status where it found none
TIMEOUT_S = 1800  # of a check; each test has a shorter one of its own (pyproject.toml)
WIDTH = 118

# Exits with 1 where uid 1000 can't import what the tests need, or can't read a file of the tree it was started in.
USABLE = """
import os, sys
import agentplug.errors, pytest, seccompy
here = os.getcwd()
files = [os.path.join(folder, name) for top in ("agentplug", "tests", "notebooks")
         for folder, _, names in os.walk(os.path.join(here, top)) for name in names if not name.endswith(".pyc")]
files.append(os.path.join(here, "pyproject.toml"))
sys.exit(not agentplug.__file__.startswith(here) or not all(os.access(path, os.R_OK) for path in files))
"""


@dataclass(frozen=True)
class Place:
    """A user and an environment that tests run in, and what a machine can't offer there."""

    name: str
    python: str = sys.executable
    tree: Path = ROOT
    prefix: tuple[str, ...] = ()
    lacks: frozenset[str] = frozenset()

    def environment(self) -> dict[str, str]:
        expected = [name.strip() for name in os.environ.get("AGENTPLUG_EXPECT", "").split(",")]
        kept = [name for name in expected if name and name not in self.lacks]
        # The path is for notebook kernels, which don't start in the tree but must import the one under test.
        return os.environ | {
            "AGENTPLUG_EXPECT": ",".join(kept),
            "AGENTPLUG_FUZZ_FRAMES": "15000",  # the million are played beside the linters
            "PYTHONHASHSEED": "0",  # processes that share tests must name them alike, sets in names too
            "PYTHONPATH": str(self.tree),
            "PYTHONDONTWRITEBYTECODE": "",  # compiling half of pandas for each process would take a third of the time
        }


@dataclass
class Outcome:
    """How one check went; a linter counts as one test."""

    name: str
    result: str
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""


@dataclass
class Checks:
    """Runs checks and keeps their outcomes."""

    scratch: Path
    outcomes: list[Outcome] = field(default_factory=list)

    def leave_out(self, name: str, why: str) -> None:
        heading(f"{name}: left out, {why}")
        self.outcomes.append(Outcome(name, "left out", note=why))

    def tool(self, name: str, *argv: str, says: Sequence[str] = ()) -> bool:
        """Run a program whose status is the answer. With `says`, its output must hold those texts and is shown only
        where it doesn't."""
        heading(name)
        started = time.monotonic()
        env = os.environ | self.caches()
        if says:
            done = subprocess.run(
                argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
            told = done.stdout + done.stderr
            missing = [text for text in says if text not in told]
            good = done.returncode == 0 and not missing
            print("As expected." if good else f"{told}\nStatus {done.returncode}; missing: {missing}")
        else:
            good = subprocess.run(argv, cwd=ROOT, env=env, timeout=TIMEOUT_S, check=False).returncode == 0
        result = "passed" if good else "FAILED"
        self.outcomes.append(
            Outcome(name, result, time.monotonic() - started, passed=int(good), failed=int(not good))
        )
        return good

    @contextlib.contextmanager
    def beside(self, name: str, *argv: str, last_in_line: bool = False) -> Iterator[None]:
        """Run a program whose status is the answer while others run, and wait for it; then show what it said.
        `last_in_line`: it takes what processor time the others leave."""
        started = time.monotonic()
        env = Place(name).environment() | self.caches()
        if last_in_line:
            argv = ("nice", "-n", "19", *argv)
        with tempfile.TemporaryFile(dir=self.scratch) as said:
            process = subprocess.Popen(
                argv, cwd=ROOT, env=env, stdout=said, stderr=subprocess.STDOUT, start_new_session=last_in_line
            )
            if last_in_line:  # a session has a share of its own, which nice doesn't lower: sched(7)
                with contextlib.suppress(OSError):
                    Path(f"/proc/{process.pid}/autogroup").write_text("19")
            try:
                yield
                status: int | None = process.wait(max(1.0, started + TIMEOUT_S - time.monotonic()))
            except subprocess.TimeoutExpired:
                status = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL) if last_in_line else process.kill()
                process.wait()
            heading(name)
            said.seek(0)
            print(said.read().decode(errors="replace"), flush=True)
        note = f"no end within {TIMEOUT_S} s" if status is None else ""
        result = "FAILED" if status != 0 else "passed"
        seconds = time.monotonic() - started
        self.outcomes.append(
            Outcome(name, result, seconds, passed=int(status == 0), failed=int(status != 0), note=note)
        )

    def caches(self) -> dict[str, str]:
        """Where the linters may keep what they learnt, for a tree that this user can't write."""
        if os.access(ROOT, os.W_OK):
            return {}
        return {f"{tool}_CACHE_DIR": str(self.scratch / tool.lower()) for tool in ("RUFF", "MYPY")}

    def pytest(self, name: str, place: Place, *args: str) -> None:
        """Run pytest in `place` and count its tests."""
        heading(name)
        started = time.monotonic()
        report = self.scratch / f"results-{len(self.outcomes)}.xml"
        argv = [
            *place.prefix,
            place.python,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
            *args,
        ]
        try:
            done = subprocess.run(argv, cwd=place.tree, env=place.environment(), timeout=TIMEOUT_S, check=False)
            status, note = done.returncode, ""
        except subprocess.TimeoutExpired:
            status, note = 1, f"no end within {TIMEOUT_S} s"
        outcome = Outcome(name, "passed", time.monotonic() - started, note=note)
        if report.exists():
            for suite in ET.parse(report).iter("testsuite"):
                counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
                outcome.failed += counts["failures"] + counts["errors"]
                outcome.skipped += counts["skipped"]
                outcome.passed += counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
        if status == NO_TESTS:
            outcome.result, outcome.note = "left out", "no tests there yet"
        elif status != 0:
            outcome.result = "FAILED"
            outcome.failed = max(1, outcome.failed)
            outcome.note = note or f"status {status}"
        self.outcomes.append(outcome)

    def summarize(self) -> int:
        """Print the table and the sum, and return the exit status."""
        heading("Summary")
        for outcome in self.outcomes:
            counts = f"{outcome.passed} passed, {outcome.failed} failed, {outcome.skipped} skipped"
            told = (
                outcome.note
                if outcome.result == "left out"
                else f"{counts}{'; ' if outcome.note else ''}{outcome.note}"
            )
            print(f"{outcome.name:<44} {outcome.result:<9} {outcome.seconds:>6.1f} s  {told}")
        passed, failed, skipped = (
            sum(getattr(outcome, key) for outcome in self.outcomes) for key in ("passed", "failed", "skipped")
        )
        print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
        return 1 if failed else 0


def heading(text: str) -> None:
    print(f"\n{f' {text} ':=^{WIDTH}}", flush=True)


def lint(checks: Checks) -> None:
    scripts = Path(sys.executable).parent
    checks.tool("ruff check", sys.executable, "-m", "ruff", "check", ".")
    checks.tool("ruff format", sys.executable, "-m", "ruff", "format", "--check", ".")
    checks.tool("import layers", str(scripts / "lint-imports"), "--no-cache")


def binder(checks: Checks) -> None:
    """The layout is one that repo2docker builds with conda from the linked file, our Python and our postBuild."""
    checks.tool(
        "Binder layout",
        *(sys.executable, "-m", "repo2docker", "--no-build", "--debug"),
        *("--user-id", "1000", "--user-name", "jovyan", "."),
        says=(
            "Building conda environment for python=3.12",
            'env update -p ${NB_PYTHON_PREFIX} --file "binder/environment.yml"',
            "RUN ./binder/postBuild",
        ),
    )


def suites(checks: Checks, place: Place, names: Sequence[str], *more: str) -> None:
    """Run the tests of these folders and files in `place`; `more` are options of pytest's."""
    home = place.tree / "tests"
    folders = [f"tests/{name}" for name in names if (home / name).is_file() or any((home / name).rglob("test_*.py"))]
    if folders:
        alone = [folder for folder in folders if folder.split("/")[1] in ALONE]
        together = [folder for folder in folders if folder not in alone]
        # Tests wait for processes now and then: three at a time keep two processors busy.
        for some, options in ((together, ("-n", "3", "--dist", "loadfile")), (alone, ())):
            if some:
                told = ", ".join(dict.fromkeys(folder.split("/")[1] for folder in some))
                checks.pytest(f"{place.name}: {told}", place, "--hypothesis-profile=ci", *options, *more, *some)
    else:
        checks.leave_out(f"{place.name}: tests", "no tests there yet")


def notebooks(checks: Checks, place: Place) -> None:
    name = f"{place.name}: notebooks by nbval"
    if not any((place.tree / "notebooks").glob("*.ipynb")):
        checks.leave_out(name, "no notebooks there yet")
        return
    sanitize = place.tree / "notebooks" / "sanitize.cfg"
    cleaned = ["--nbval-sanitize-with", str(sanitize)] if sanitize.exists() else []
    # The project's own options keep nbval out, and its warnings as errors are meant for our code, not for Jupyter's.
    options = ["-o", "addopts=-ra", "-o", "filterwarnings=default"]
    checks.pytest(
        name, place, *options, "--nbval", "--nbval-current-env", "--nbval-cell-timeout=120", *cleaned, "notebooks"
    )


def as_user(*argv: str, tree: Path = ROOT, contained: bool = False) -> list[str]:
    """A command line that runs `argv` as uid 1000."""
    options = [] if contained else ["--no-container"]
    return [sys.executable, str(tree / "tests" / "container.py"), *options, "--", *argv]


def usable(python: str, code: str, tree: Path) -> bool:
    """Whether uid 1000, in `tree`, can run `code` with `python`."""
    argv = as_user(python, "-c", code, tree=ROOT)
    return subprocess.run(argv, cwd=tree, capture_output=True, timeout=120, check=False).returncode == 0


def provide(checks: Checks) -> tuple[str, Path] | None:
    """An interpreter and a tree for uid 1000: those of this run if it can use them, else new ones."""
    if usable(sys.executable, USABLE, ROOT):
        return sys.executable, ROOT
    fit = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    candidates = [sys._base_executable, *(f"/usr/bin/python3.{minor}" for minor in (11, 12, 13))]
    base = next((python for python in candidates if python and usable(python, fit, Path("/"))), None)
    if base is None:
        return None
    tree, venv = checks.scratch / "tree", checks.scratch / "venv"
    unwanted = shutil.ignore_patterns(
        ".git", ".venv", "venv", "__pycache__", ".*_cache", ".hypothesis", "build", "dist"
    )
    shutil.copytree(ROOT, tree, symlinks=True, ignore=unwanted)
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else path.stat().st_mode & 0o777 | 0o444)
    python = venv / "bin" / "python"
    made = checks.tool("uid 1000: environment", base, "-m", "venv", str(venv)) and checks.tool(
        "uid 1000: install", str(python), "-m", "pip", "install", "--quiet", "--editable", f"{tree}[test]"
    )
    return (str(python), tree) if made else None


def unprivileged(checks: Checks) -> Iterator[Place]:
    """uid 1000, plainly and in a container, as far as this run can give them."""
    why = ""
    found = None
    if os.geteuid() != 0:
        why = f"started as uid {os.geteuid()}, and only root can switch users"
    else:
        found = provide(checks)
        if found is None:
            why = "uid 1000 can use no Python from 3.11 on with venv; on Debian: apt-get install python3.11-venv"
    for name, contained, lacks in (
        ("uid 1000", False, {"root"}),
        ("container", True, {"root", "userns", "cgroup"}),
    ):
        if found is None:
            if contained or os.geteuid() != 1000:
                checks.leave_out(f"{name}: tests", why)
            continue
        python, tree = found
        prefix = tuple(as_user(contained=contained))
        yield Place(name, python, tree, prefix, frozenset(lacks))


def fast(checks: Checks, here: Place) -> None:
    """Linters, types, layers, unit tests."""
    lint(checks)
    with checks.beside("mypy", *MYPY):
        suites(checks, here, ("unit",), "-n", "2")


def everything(checks: Checks, here: Place) -> None:
    places = list(unprivileged(checks))
    poorest = next((place for place in places if "userns" in place.lacks), here)  # what works there works everywhere
    # One processor for it, beside what measures no time: a busy machine would spoil the tests that do.
    fuzzing = (sys.executable, "-m", "tests.fuzz", "--frames", str(FRAMES), "--jobs", "1")
    with checks.beside(f"{FRAMES:,} fuzzed frames", *fuzzing):
        lint(checks)
        with checks.beside("mypy", *MYPY):
            notebooks(checks, poorest)
        binder(checks)
        suites(checks, here, ("unit",), "-n", "2")
    suites(checks, here, SUITES)
    # A browser waits more than it works, and so do attacks: the other Pythons take what they leave.
    pythons = (sys.executable, "-m", "tests.pythons")
    with checks.beside("unit tests on other Pythons", *pythons, last_in_line=True):
        suites(checks, here, ("browser",))
        for place in places:
            suites(checks, place, CONTAINED_SUITES if place is poorest else CONFINED_SUITES, *PROVED)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests", description="Run every check of the project.")
    parser.add_argument("--fast", action="store_true", help="only the linters and tests/unit: under a minute")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="ap-tests-", dir="/tmp" if os.geteuid() == 0 else None))
    scratch.chmod(0o1777)  # uid 1000 writes its reports here
    checks = Checks(scratch)
    here = Place(f"here (uid {os.geteuid()})")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            (fast if options.fast else everything)(checks, here)
            return checks.summarize()
        checks.summarize()
        return 130
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    sys.exit(main())
