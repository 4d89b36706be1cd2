"""From a policy to a worker's plan, its preloaded modules and the files that every worker may read (host)."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys

from agentplug.contract.granted_path import check
from agentplug.contract.policy import Policy
from agentplug.core.boundary.bounds import MAX_MESSAGE_BYTES, PROFILER_THREADS, scratch_bytes
from agentplug.core.boundary.frames import Granted, Plan
from agentplug.core.sources.interpreter import installed_folders
from agentplug.errors import PolicyError

_SYSTEM_FILES = (
    "/lib /lib64 /usr/lib /usr/lib64 /usr/local/lib /usr/share/zoneinfo /usr/share/fonts /usr/local/share/fonts "
    "/etc/fonts /etc/localtime /etc/ld.so.cache /etc/mime.types /etc/ssl/openssl.cnf /etc/ssl/certs "
    "/proc/cpuinfo /proc/meminfo /sys/devices/system/cpu"
).split()
_ALWAYS_THERE = ("/proc/", "/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")
_NETWORK_FILES = (
    "/etc/resolv.conf /etc/hosts /etc/nsswitch.conf /etc/host.conf /etc/gai.conf /etc/services /etc/protocols "
    "/run/systemd/resolve/stub-resolv.conf /run/systemd/resolve/resolv.conf"
).split()


def preloaded(policy: Policy) -> tuple[str, ...]:
    """Return the modules that the zygote of a worker under `policy` imports. Raises `PolicyError` for a profiler that
    isn't installed. The zygote imports the profiler because that takes longer than many calls and counts against no
    limit there.
    """
    if policy.profile != "memory":
        return policy.preload
    if importlib.util.find_spec("memray") is None:
        raise PolicyError(
            "profile='memory' needs memray, which isn't installed here: pip install 'agentplug[profile]', or ask for "
            "profile='cpu', which needs nothing"
        )
    return tuple(sorted({*policy.preload, "memray"}))


def plan_for(policy: Policy, extra_files: int = 0) -> Plan:
    """Build the plan by which a worker under `policy` confines itself. Raises `PolicyError` if `env` is too large, or
    if a granted path no longer names what was granted.

    The host will send `extra_files` descriptors, which don't count as the plugin's open files.
    """
    env_bytes = sum(len(name.encode()) + len(text.encode()) for name, text in policy.env.items())
    if env_bytes > MAX_MESSAGE_BYTES:
        raise PolicyError(f"env holds {env_bytes} bytes in all; at most {MAX_MESSAGE_BYTES}")
    network = policy.network if isinstance(policy.network, bool) else list(policy.network)
    return Plan(
        memory_bytes=int(policy.memory),
        cpu_s=policy.cpu_s,
        processes=policy.processes,
        threads=policy.threads + (PROFILER_THREADS if policy.profile else 0),
        open_files=policy.open_files + extra_files,
        disk_bytes=scratch_bytes(int(policy.disk), policy.profile),
        reply_bytes=int(policy.reply),
        network=network,
        installation=list(_read_by_all(policy.network is not False)),
        read=grants_of(policy, "read"),
        write=grants_of(policy, "write"),
        variables=len(policy.env),
        observe=policy.observe,
        profile=policy.profile,
    )


def grants_of(policy: Policy, field: str) -> list[Granted]:
    """Return the paths of one field, checked. Raises `PolicyError` if one no longer names what was granted."""
    grants = []
    for path in getattr(policy, field):
        check(field, path)
        grants.append(Granted(str(path), path.device, path.inode))
    return grants


def places_readable_by_all() -> tuple[str, ...]:
    """Return the places that `readable_by_all` allows."""
    return (*_read_by_all(True), *_ALWAYS_THERE)


def readable_by_all(path: str) -> bool:
    """Return true if every plugin may read `path`, or it doesn't exist."""
    real = os.path.realpath(path)
    if real.startswith(_ALWAYS_THERE) or not os.path.lexists(real):
        return True
    return any(real == place or real.startswith(f"{place}/") for place in _read_by_all(True))


@functools.cache
def _read_by_all(network: bool) -> tuple[str, ...]:
    """Return the places that every worker may read: each once, and none below another."""
    places = [*interpreter_paths(), *_SYSTEM_FILES, *(_NETWORK_FILES if network else ())]
    real = {os.path.realpath(place) for place in places if os.path.exists(place)}
    outermost: list[str] = []
    for path in sorted(real, key=lambda path: path.split("/")):
        if not (outermost and path.startswith(f"{outermost[-1].rstrip('/')}/")):
            outermost.append(path)
    return tuple(outermost)


@functools.cache
def interpreter_paths() -> tuple[str, ...]:
    """Return the folders of this interpreter's library, installed packages and shared libraries."""
    libraries = [f"{prefix}/{lib}" for prefix in (sys.prefix, sys.base_prefix) for lib in ("lib", "lib64")]
    return tuple(folder for folder in dict.fromkeys((*installed_folders(), *libraries)) if os.path.isdir(folder))


def worker_path() -> list[str]:
    """Return `sys.path` for workers: the interpreter's part of the host's, then agentplug if it isn't installed."""
    allowed = tuple(f"{folder}/" for folder in interpreter_paths())
    base = [path for path in sys.path if f"{os.path.abspath(path)}/".startswith(allowed) or path.endswith(".zip")]
    spec = importlib.util.find_spec("agentplug")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    home = os.path.dirname(os.path.abspath(next(iter(spec.submodule_search_locations))))
    return base if home in base else [*base, home]
