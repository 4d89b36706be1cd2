"""Probes of libraries while they are imported, and places that no policy should be proposed for (host).

A probe asks what the machine can do: whether it has IPv6, its own address, a folder for temporary files, semaphores.
Being refused one takes nothing from the library. A proposal never grants a place that the host imports from (whoever
writes there runs code in the host), nor one that all programs share.
"""

from __future__ import annotations

import os
import re
import site
import stat
import sys
import sysconfig
import tempfile

_HAS_IPV6 = frozenset(("[::1]:0", "[::]:0"))
_OWN_ADDRESS = frozenset(
    [
        "8.8.8.8:80",
        "8.8.8.8:53",
        "8.8.8.8:1",
        "1.1.1.1:80",
        "10.255.255.255:1",
        "10.254.254.254:1",
        "1.254.254.254:1",
        "192.0.2.0:80",
        "192.0.2.1:80",
        "192.168.255.255:1",
        "[2001:db8::1]:1000",
        "[2001:4860:4860::8888]:80",
    ]
)
"""Where a UDP socket is connected to, without a word sent, to learn its own address."""
_CLOUD = re.compile(
    r"(169\.254\.\d+\.\d+|\[?fd00:ec2::254\]?|100\.100\.100\.200|metadata(\.google\.internal)?):(\d+|None)"
)
"""The metadata services of clouds, which give keys of the machine's account to any program on it."""
_LOCAL = re.compile(r"(localhost|ip6-localhost|127\.\d+\.\d+\.\d+|\[?::1\]?|0\.0\.0\.0|\[?::\]?):(0|None)?")
_SHARED = ("/tmp", "/var/tmp", "/usr/tmp", "/dev/shm", "/run/shm", "/run/lock", "/var/lock", "/run", "/dev", "/proc")
_SYSTEM = frozenset(f"/{name}" for name in "bin boot etc home lib lib32 lib64 opt root sbin srv sys usr var".split())
_SHARED_MEMORY = ("/dev/shm/", "/run/shm/")
_SECRETS = re.compile(
    r"\.ssh|\.gnupg|\.aws|\.azure|\.kube|\.docker|gcloud|[._]netrc|\.pgpass|\.my\.cnf|\.git-credentials|\.pypirc|\.npmrc"
    r"|\.vault-token|\.password-store|keyrings|g?shadow|\.env(\..*)?|id_(rsa|dsa|ecdsa|ed25519)(_sk)?"
    r"|(.*[._-])?(credentials?|secrets?|token|passwords?)(\.\w+)?|.*\.(pem|key|p12|pfx|kdbx|keytab)|\.\w*_history"
    r"|history\.sqlite|\.mozilla|google-chrome|chromium",
    re.IGNORECASE | re.ASCII,
)
"""Names of files and folders that hold keys, passwords, or what somebody typed."""
_CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".pth", ".egg-link", ".zip", ".egg", ".whl")


def is_probe(call: str, argument: str) -> bool:
    """True for a network call that libraries make to learn about the machine, and not to talk to anybody."""
    if call == "bind":
        return argument in _HAS_IPV6
    if call == "socket":
        return not argument.startswith("AF_INET ")  # other families are asked for to see if they exist
    return argument in _OWN_ADDRESS or gives_keys(argument) or bool(_LOCAL.fullmatch(argument))


def gives_keys(address: str) -> bool:
    """True for the metadata service of a cloud."""
    return bool(_CLOUD.fullmatch(address))


class Places:
    """The folders of this host that a proposal leaves out, as they are now."""

    def __init__(self) -> None:
        paths = sysconfig.get_paths()
        installed = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")]
        installed += [*site.getsitepackages(), site.getusersitepackages(), sys.prefix, sys.exec_prefix]
        self._installed = {_real(path) for path in installed}
        self._imports = {_real(path or os.curdir) for path in sys.path} | self._installed
        self._around = {folder for place in self._imports for folder in _upwards(place)}
        temporary = [tempfile.gettempdir(), *filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP")))]
        self._home = _real(os.path.expanduser("~"))
        self._shared = {*_SHARED, "/", *map(_real, temporary), *map(_real, _SHARED)}

    def reason_against(self, field: str, path: str) -> str:
        """Return why a right to this path is never proposed, or nothing."""
        if "__pycache__" in path.split("/"):
            return "Python's bytecode, which the host may run"
        if (
            path in self._shared
            or any(path.startswith(f"{place}/") for place in _SHARED_MEMORY)
            or _open_to_all(path)
        ):
            return "shared by all programs of this machine"
        if path in self._imports:
            return "the host imports from it"
        if any(_SECRETS.fullmatch(name) for name in path.split("/")):
            return "keys and passwords are kept there"
        if path == self._home or path in _upwards(self._home):
            return "your keys, passwords and settings are in it"
        if field == "write":
            if path.startswith(f"{self._home}/."):
                return "settings and caches that your other programs trust"
            if path in _SYSTEM:
                return "a folder of the system"
            installed = any(folder in self._installed for folder in _upwards(path))
            if installed or path in self._around or self._holds_code(path):
                return "the host imports from it"
        return ""

    def _holds_code(self, path: str) -> bool:
        """True for a module, or a folder of modules, in a folder that the host imports from."""
        if not any(folder in self._imports for folder in _upwards(path)):
            return False
        if path.endswith(_CODE):
            return True
        try:
            return any(name.endswith(_CODE) for name in os.listdir(path))
        except OSError:
            return False


def _real(path: str) -> str:
    return os.path.realpath(path)


def _upwards(path: str) -> list[str]:
    folders = []
    while (folder := os.path.dirname(path)) != path:
        folders.append(folder)
        path = folder
    return folders


def _open_to_all(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and bool(mode & stat.S_IWOTH)
