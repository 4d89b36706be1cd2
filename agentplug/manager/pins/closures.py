"""A distribution and its dependencies (host): read, compared with RECORD, and cached in sealed memory.

A closure is read again once a file of it has another inode or time of change (which nobody can set, unlike other
times). Even if that check is deceived, only the cached bytes run; they were compared with the pin, and nobody can
write to them.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement

from agentplug.core.sources.interpreter import installed_roots, is_under
from agentplug.core.sources.names import quoted, shell_word
from agentplug.core.sources.source import Closure
from agentplug.errors import SpecError
from agentplug.manager.pins.pin import canonical
from agentplug.manager.pins.records import Distribution, Stamp, read_distribution
from agentplug.manager.pins.sealed import sealed_closure

HOST = "agentplug"
MAX_DISTRIBUTIONS = 500
_WORKERS = ("cloudpickle", "landlockpy", "memray", "msgspec", "numpy", "pandas", "seccompy")
"""Distributions that workers import for themselves, even if agentplug runs from a checkout without metadata."""
MAX_CACHED = 4


@dataclass(frozen=True, slots=True)
class Verified:
    """A closure: its root, the other distributions by canonical name, the sealed memory, the state of all files read,
    and the times of the directories listed.
    """

    root: Distribution
    others: dict[str, Distribution]
    closure: Closure
    stamps: dict[str, Stamp]
    listings: dict[str, int]


_cache: OrderedDict[str, Verified] = OrderedDict()
_owners: dict[str, str] = {}  # the last result of `owner_of`, to look there first
_lock = threading.Lock()


def verified_closure(info: str) -> Verified:
    """Return the distribution with the `.dist-info` directory `info` and its closure, as they are now.

    Raises `PinMismatch` for a file that differs from its RECORD, `SpecError` if the closure can't be pinned.
    """
    with _lock:
        cached = _cache.get(info)
        if cached is not None and _is_unchanged(cached):
            _cache.move_to_end(info)
            return cached
        _cache.pop(info, None)
        _cache[info] = closure = _read(info)
        while len(_cache) > MAX_CACHED:
            _cache.popitem(last=False)
        return closure


def forget() -> None:
    """Empty the cache, so that the next load reads everything again."""
    with _lock:
        _cache.clear()


def _is_unchanged(cached: Verified) -> bool:
    look = os.stat
    try:
        for path, time_ns in cached.listings.items():
            if look(path).st_mtime_ns != time_ns:
                return False
        for path, (inode, change_ns) in cached.stamps.items():
            now = look(path)
            if now.st_ctime_ns != change_ns or now.st_ino != inode:
                return False
    except OSError:
        return False
    return True


def _read(info: str) -> Verified:
    # First of all: what is installed during the reading changes these times, so the next check notices it.
    listings = {path: os.stat(path).st_mtime_ns for path in _sites() if os.path.isdir(path)}
    root = read_distribution(info)
    others: dict[str, Distribution] = {}
    waiting = [(root, requirement) for requirement in _required(root, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        asker, requirement = waiting.pop()
        key, extras = canonical(requirement.name), frozenset(requirement.extras)
        if key == HOST or (key, extras) in seen:
            continue  # agentplug itself: trusted, and in every worker already
        seen.add((key, extras))
        distribution = root if key == root.key else others.get(key)
        if distribution is None:
            if (place := _infos().get(key)) is None:
                raise SpecError(
                    f"{quoted(asker.name)} depends on {quoted(requirement.name)}, which isn't installed here (or not "
                    f"with a RECORD); install it: pip install {shell_word(str(requirement))}"
                )
            distribution = others[key] = read_distribution(place)
            if len(others) > MAX_DISTRIBUTIONS:
                raise SpecError(f"{quoted(root.name)} depends on more than {MAX_DISTRIBUTIONS} distributions")
        waiting += [(distribution, needed) for needed in _required(distribution, extras)]
    everything = [root, *others.values()]
    tops = {top for distribution in everything for top in _tops(distribution.files)}
    if shadowing := sorted(tops & sys.stdlib_module_names):
        raise SpecError(
            f"the closure of {quoted(root.name)} holds {quoted(shadowing[0])}, which would take the place of the "
            "standard library's in the worker"
        )
    closure = sealed_closure([(d.site, d.content) for d in everything], tops, _beside())
    stamps = {path: was for distribution in everything for path, was in distribution.stamps.items()}
    for distribution in everything:
        metadata = {p: c for p, c in distribution.content.items() if p.endswith("agentplug.toml")}
        code = {p: c for p, c in distribution.content.items() if distribution is root and p.endswith(".py")}
        distribution.content = metadata | code
    return Verified(root, dict(sorted(others.items())), closure, stamps, listings)


def _required(distribution: Distribution, extras: frozenset[str]) -> list[Requirement]:
    """List what a distribution requires on this machine, with these extras. Raises `SpecError`."""
    environment: dict[str, str] = dict(default_environment())  # type: ignore[arg-type]
    requirements = []
    for text in distribution.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise SpecError(
                f"{quoted(distribution.name)} has the requirement {quoted(text)}, which is none"
            ) from None
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": e}) for e in ("", *sorted(extras))):
            requirements.append(requirement)
    return requirements


def _tops(paths: Iterable[str]) -> set[str]:
    """Return the names of the top-level modules in these files."""
    tops = set()
    for path in paths:
        first, slash, _ = path.partition("/")
        name = first if slash else first.partition(".")[0] if first.endswith((".py", ".so")) else ""
        if name.isidentifier():
            tops.add(name)
    return tops


def _sites() -> list[str]:
    """List the directories with installed distributions, in the order of `sys.path`."""
    roots = installed_roots()
    return [path for path in dict.fromkeys(map(os.path.realpath, sys.path)) if is_under(path, roots)]


def _infos() -> dict[str, str]:
    """Map the canonical name of each installed distribution to its `.dist-info` directory, the first on the path."""
    infos: dict[str, str] = {}
    for site in _sites():
        try:
            names = sorted(os.listdir(site))
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info") and os.path.isfile(os.path.join(site, name, "RECORD")):
                infos.setdefault(
                    canonical(name.removesuffix(".dist-info").rpartition("-")[0]), os.path.join(site, name)
                )
    return infos


def owner_of(path: str) -> str | None:
    """Return the `.dist-info` directory of the distribution whose RECORD lists the file `path`, or None."""
    for site in _sites():
        if is_under(path, (site,)):
            listed = f"\n{os.path.relpath(path, site)},".encode()
            last = _owners.get(path, "")
            if os.path.dirname(last) == site and _lists(last, listed):
                return last
            for info in _infos().values():
                if os.path.dirname(info) == site and _lists(info, listed):
                    _owners[path] = info
                    return info
    return None


def _lists(info: str, listed: bytes) -> bool:
    try:
        with open(os.path.join(info, "RECORD"), "rb") as file:
            return listed in b"\n" + file.read()
    except OSError:
        return False


@functools.cache
def _beside() -> tuple[str, ...]:
    """List the top-level modules that workers themselves need: agentplug's and its dependencies'."""
    names: set[str] = {HOST}
    waiting, seen, infos = [HOST, *_WORKERS], set[str](), _infos()
    while waiting:
        key = waiting.pop()
        if key in seen or (info := infos.get(key)) is None:
            continue
        seen.add(key)
        with open(os.path.join(info, "RECORD"), encoding="utf-8", errors="replace") as file:
            names |= _tops(line.partition(",")[0] for line in file)
        waiting += _listed_needs(info)
    return tuple(sorted(names))


def _listed_needs(info: str) -> Iterable[str]:
    from email.parser import HeaderParser

    with open(os.path.join(info, "METADATA"), encoding="utf-8", errors="replace") as file:
        requires = HeaderParser().parse(file, headersonly=True).get_all("Requires-Dist", [])
    return [canonical(needed.name) for needed in _required(Distribution("", "", "", "", "", requires), frozenset())]
