"""What libraries try while they are imported: refused or used, no proposal of `learn` grants it.

`PROBES` was recorded under `Policy(observe="files")` (Linux, Python 3.11), or read in the library's source.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentplug import Policy, learn
from agentplug.contract.events import Event
from agentplug.contract.record import ErrorText, RunRecord, SourceInfo, Usage
from agentplug.core.run import Run
from agentplug.report.learning.probes import Places

SITE = sysconfig.get_paths()["purelib"]
STDLIB = sysconfig.get_paths()["stdlib"]
HOME = os.path.expanduser("~")

PROBES: dict[str, list[tuple[str, ...]]] = {
    "urllib3": [("tried", "bind", "[::1]:0"), ("bound", "[::1]:0")],
    "requests": [("tried", "socket", "AF_INET6 SOCK_STREAM"), ("tried", "bind", "[::1]:0")],
    "botocore": [("tried", "connect", "169.254.169.254:80"), ("tried", "getaddrinfo", "localhost:None")],
    "google-auth": [("tried", "connect", "metadata.google.internal:80"), ("connected", "169.254.169.254:80", "")],
    "jupyter_client": [("tried", "socket", "AF_NETLINK SOCK_RAW"), ("tried", "connect", "8.8.8.8:80")],
    "distributed": [("connected", "8.8.8.8:80", "udp"), ("connected", "[2001:4860:4860::8888]:80", "udp")],
    "ray": [("tried", "connect", "8.8.8.8:80"), ("opened", "write", "/dev/shm/ray_xyz")],
    "wandb": [("tried", "connect", "10.255.255.255:1"), ("tried", "vfork", "")],
    "sentry_sdk": [("tried", "getaddrinfo", "localhost:0"), ("tried", "connect", "127.0.0.1:0")],
    "tempfile": [
        ("opened", "write", f"{folder}/gyvtz7hl") for folder in ("/tmp", "/var/tmp", "/usr/tmp", "/", "/usr")
    ],
    "joblib": [
        ("opened", "write", "/dev/shm/sem.4xqCgw"),
        ("opened", "write", "/dev/shm"),
        ("opened", "read", "/tmp"),
    ],
    "multiprocessing": [("opened", "write", "/dev/shm/sem.mxQP0s"), ("tried", "socket", "AF_UNIX SOCK_STREAM")],
    "tqdm": [("opened", "write", "/dev/shm/sem.mxQP0s"), ("opened", "write", "/dev/null")],
    "numba": [("opened", "write", f"{SITE}/numba/__pycache__/a.nbi"), ("opened", "write", f"{SITE}/numba/a.py")],
    "matplotlib": [("tried", "vfork", ""), ("tried", "clone", ""), ("opened", "write", "$HOME/.cache/matplotlib/a")],
    "pycache": [("opened", "write", f"{path}/x/__pycache__/y.cpython-311.pyc.1") for path in (SITE, STDLIB, HOME)],
    "setuptools": [("opened", "write", f"{SITE}/easy-install.pth"), ("opened", "write", SITE)],
    "pip": [("opened", "write", f"{site.getusersitepackages()}/a.py"), ("opened", "write", f"{sys.prefix}/bin/a")],
    "uuid": [("opened", "write", "/var/lib/libuuid/clock.txt"), ("tried", "connect", "unix:/run/uuidd/request")],
    "glibc": [("tried", "connect", "unix:/var/run/nscd/socket"), ("tried", "socket", "AF_NETLINK SOCK_RAW")],
    "numpy": [("opened", "read", "/sys/kernel/mm/transparent_hugepage/enabled")],
    "torch": [("tried", "vfork", ""), ("opened", "write", "/dev/shm/torch_1_2"), ("opened", "write", "/tmp/torch_x")],
    "ctypes.util": [
        ("opened", "write", "/tmp/t2l9ca2j"),
        ("tried", "clone", ""),
        ("tried", "execve", "/sbin/ldconfig"),
    ],
    "sys.path": [("opened", how, path) for path in sys.path if os.path.isdir(path) for how in ("read", "write")],
}
SECRETS = [
    *(f"{HOME}/{name}" for name in (".ssh", ".ssh/id_ed25519", ".aws/credentials", ".netrc", ".config/gcloud/x.db")),
    *(
        f"{HOME}/{name}"
        for name in (".env", "work/.env.local", "work/secrets.toml", "work/server.key", ".bash_history")
    ),
    *("/etc/shadow", "/run/secrets/db", "/home/other/.git-credentials", "/srv/app/api-token.txt", HOME),
]
TRUSTED = [f"{HOME}/{name}" for name in (".bashrc", ".ipython/profile_default/startup", ".config/x", ".cache/pip/y")]
WHAT = {"tried": ("syscall", "argument"), "opened": ("mode", "path"), "connected": ("address", "protocol")}
ENDS = [
    ErrorText("ValueError", "bad input: not a matter of rights"),
    ErrorText("PermissionError", "[Errno 13] Permission denied: '/etc/shadow'"),
    ErrorText("OSError", "[Errno 1] Operation not permitted"),
    ErrorText("KeyError", "'/tmp'"),
    None,
]


def event_of(probe: Sequence[str]) -> Event:
    kind, *words = probe
    names: Sequence[str] = WHAT.get(kind, ("address",))
    return Event(0.1, kind, {**dict(zip(names, words, strict=True)), "source": "kernel", "count": 1})


def run_with(probes: Sequence[Sequence[str]], error: ErrorText | None, policy: Policy, number: int = 0) -> RunRecord:
    end = Event(0.9, "error", {"type": error.type}) if error else Event(0.9, "reply")
    source = SourceInfo("p.py", "file", "sha256:0", "p", "1")
    usage = Usage(wall_s=0.1, cpu_s=0.05, threads=1)
    return Run(None, usage, (Event(0.0, "start"), *map(event_of, probes), end), policy, source, number, error=error)


def overgranted(policy: Policy) -> list[Any]:
    """What no proposal may hold."""
    imports = {os.path.realpath(path or ".") for path in [*sys.path, SITE, STDLIB]}
    shared = {"/", "/tmp", "/var/tmp", "/usr/tmp", "/dev/shm", "/usr", "/var", os.environ.get("TMPDIR", "/tmp")}
    paths = [str(path) for path in (*policy.read, *policy.write)]
    wrong: list[Any] = [path for path in paths if path in shared | imports or "__pycache__" in path]
    wrong += [path for path in paths if path.startswith(("/dev/shm", SITE, STDLIB))]
    wrong += [str(path) for path in policy.write if any(place.startswith(f"{path}/") for place in imports)]
    return wrong + [right for right in (policy.network, policy.processes) if right]


def test_there_are_twenty_libraries() -> None:
    assert len(PROBES) > 20


@pytest.mark.parametrize("error", ENDS, ids=lambda error: error.type if error else "completed")
@pytest.mark.parametrize("library", PROBES)
def test_no_probe_is_granted(library: str, error: ErrorText | None) -> None:
    """However its run ended, if the error doesn't name it; what was refused stands below as a comment."""
    learned = learn([run_with(PROBES[library], error, Policy(observe="files"))])
    assert overgranted(learned.policy) == []
    refused = [probe for probe in PROBES[library] if probe[0] == "tried"]
    assert learned.refused or not refused or error is None
    for line in str(learned).splitlines():
        assert "refused too" not in line or line.startswith("# ")


@pytest.mark.parametrize("library", PROBES)
def test_a_place_that_is_shared_or_imported_from_is_proposed_to_nobody(library: str) -> None:
    """Neither if the error names it, nor if it was granted and used, nor if nobody observed its use."""
    places = [probe for probe in PROBES[library] if probe[0] == "opened"]
    everywhere = ["/", "/tmp", SITE, os.getcwd()]  # as older records may have it: nobody can grant the first two now
    granted = {"read": everywhere, "write": everywhere}
    wide, seen = (Policy.from_dict(granted | more, is_record=True) for more in ({}, {"observe": "files"}))
    for probe in places:
        named = ErrorText("PermissionError", f"[Errno 13] Permission denied: '{probe[2]}'")
        for run in (
            run_with([probe], named, Policy(observe="files")),
            run_with([probe], None, seen),
            run_with([probe], None, wide),
        ):
            learned = learn(run)
            assert overgranted(learned.policy) == []


@settings(deadline=None, database=None)
@given(
    st.lists(st.sampled_from([probe for of in PROBES.values() for probe in of]), max_size=12),
    st.sampled_from(ENDS),
    st.sampled_from(ENDS),
)
def test_no_mix_of_probes_is_granted(probes: list[Any], first: ErrorText | None, second: ErrorText | None) -> None:
    """In several runs that ended differently."""
    policy = Policy(observe="files")
    assert (
        overgranted(learn([run_with(probes, first, policy), run_with(probes[::-1], second, policy, 1)]).policy) == []
    )


@pytest.mark.parametrize("path", [*SECRETS, *TRUSTED])
def test_no_secret_is_granted(path: str) -> None:
    """Neither if the error names it, nor if it was granted and used; what a program trusts isn't to be written."""
    modes = ("write",) if path in TRUSTED else ("read", "write")
    for mode in modes:
        probe = ("opened", mode, path)
        named = ErrorText("PermissionError", f"[Errno 13] Permission denied: '{path}'")
        wide = Policy.from_dict({mode: (path,), "observe": "files"}, is_record=True)
        for run in (run_with([probe], named, Policy(observe="files")), run_with([probe], None, wide)):
            learned = learn(run)
            assert (learned.policy.read, learned.policy.write) == ((), ())
            assert [right.field for right in learned.refused] == [mode]


@pytest.mark.parametrize("address", ["169.254.169.254:80", "169.254.170.2:80", "metadata.google.internal:80"])
def test_no_metadata_service_is_granted(address: str) -> None:
    """Though the error names it, or it was let pass: it would give the plugin the machine's keys."""
    named = ErrorText("PermissionError", f"[Errno 1] Operation not permitted: {address}")
    refused = run_with([("tried", "connect", address)], named, Policy(observe="files"))
    used = run_with([("connected", address, "tcp")], None, Policy(observe="files", network=True))
    for run in (refused, used):
        learned = learn(run)
        assert learned.policy.network is False
        assert "a metadata service gives keys" in str(learned)


def test_a_granted_network_isn_t_proposed_for_a_probe_that_was_let_pass() -> None:
    """Under `network=True` the probes are seen as uses."""
    policy = Policy(observe="files", network=True)
    used = [probe for of in PROBES.values() for probe in of if probe[0] in ("bound", "connected")]
    assert learn(run_with(used, None, policy)).policy.network is False
    assert learn(run_with([*used, ("connected", "10.0.0.1:443", "tcp")], None, policy)).policy.network == (443,)


def test_a_folder_beside_the_notebook_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host imports from the notebook's folder, and not from one below it that holds no module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    for name in ("out", "package"):
        (tmp_path / name).mkdir()
    (tmp_path / "package" / "a.py").touch()
    places = Places()
    assert (
        places.reason_against("write", f"{tmp_path}/out") == places.reason_against("read", f"{tmp_path}/a.csv") == ""
    )
    for path in (tmp_path, tmp_path / "package", tmp_path / "a.py", tmp_path.parent):
        assert places.reason_against("write", str(path)) == "the host imports from it"
    (open_to_all := tmp_path / "all").mkdir()
    open_to_all.chmod(0o1777)
    assert "shared" in places.reason_against("read", str(open_to_all))
