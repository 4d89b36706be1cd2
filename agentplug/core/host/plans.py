"""What a worker may be and see, from its policy (host): a plan, preloads, the places that every worker may read."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys

from agentplug.contract.policy import Policy
from agentplug.core.boundary.bounds import MAX_MESSAGE_BYTES, PROFILER_THREADS, scratch_bytes
from agentplug.core.boundary.frames import Plan
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
    """What the zygote of a worker under `policy` imports. Raises `PolicyError` for a profiler that isn't installed.

    A profiler goes with the zygote, since its import takes longer than many a call may, and counts against no limit
    there. It isn't imported here, only looked for.
    """
    if policy.profile != "memory":
        return policy.preload
    if importlib.util.find_spec("memray") is None:
        raise PolicyError(
            "profile='memory' needs memray, which isn't installed here: pip install 'agentplug[profile]', or ask for "
            "profile='cpu', which needs nothing"
        )
    return tuple(sorted({*policy.preload, "memray"}))


def plan_for(policy: Policy, given_files: int = 0) -> Plan:
    """What a worker under `policy` needs to know to confine itself. Raises `PolicyError` for too large an `env`.

    `given_files` descriptors that it will be sent don't count as files that the plugin opened.
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
        open_files=policy.open_files + given_files,
        disk_bytes=scratch_bytes(int(policy.disk), policy.profile),
        reply_bytes=int(policy.reply),
        network=network,
        read=[*_read_by_all(policy.network is not False), *policy.read],
        write=list(policy.write),
        variables=len(policy.env),
        observe=policy.observe,
        profile=policy.profile,
    )


def places_readable_by_all() -> tuple[str, ...]:
    """What `readable_by_all` goes by."""
    return (*_read_by_all(True), *_ALWAYS_THERE)


def readable_by_all(path: str) -> bool:
    """Every plugin may read this, or it isn't there."""
    real = os.path.realpath(path)
    if real.startswith(_ALWAYS_THERE) or not os.path.lexists(real):
        return True
    return any(real == place or real.startswith(f"{place}/") for place in _read_by_all(True))


@functools.cache
def _read_by_all(network: bool) -> tuple[str, ...]:
    """What every worker may read: each place once, and none that lies below another."""
    places = [*interpreter_paths(), *_SYSTEM_FILES, *(_NETWORK_FILES if network else ())]
    real = {os.path.realpath(place) for place in places if os.path.exists(place)}
    kept: list[str] = []
    for path in sorted(real, key=lambda path: path.split("/")):
        if not (kept and path.startswith(f"{kept[-1].rstrip('/')}/")):
            kept.append(path)
    return tuple(kept)


@functools.cache
def interpreter_paths() -> tuple[str, ...]:
    """The folders of this interpreter's library and installed packages, and those of its shared libraries."""
    libraries = [f"{prefix}/{lib}" for prefix in (sys.prefix, sys.base_prefix) for lib in ("lib", "lib64")]
    return tuple(folder for folder in dict.fromkeys((*installed_folders(), *libraries)) if os.path.isdir(folder))


def worker_path() -> list[str]:
    """`sys.path` of workers: the host's, as far as it is the interpreter's; agentplug last if it isn't installed."""
    allowed = tuple(f"{folder}/" for folder in interpreter_paths())
    base = [path for path in sys.path if f"{os.path.abspath(path)}/".startswith(allowed) or path.endswith(".zip")]
    spec = importlib.util.find_spec("agentplug")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    home = os.path.dirname(os.path.abspath(next(iter(spec.submodule_search_locations))))
    return base if home in base else [*base, home]
