"""A distribution with all that it depends on (host): found by name, read, compared with RECORD, sealed, kept.

What was verified once in this process is kept as sealed memory. As long as no file that was looked at has another
inode or time of change (which can't be set, as other times can), it is used again. That is safe even where such a
look is fooled: what runs are the bytes in that memory, which were compared with the pin and can't be written to.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
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
"""What workers import for themselves, also where agentplug runs from a checkout that no metadata describes."""
KEPT_CLOSURES = 4


@dataclass(frozen=True, slots=True)
class Verified:
    """A closure: its root, the others by canonical name, sealed memory, and what was looked at for it."""

    root: Distribution
    others: dict[str, Distribution]
    closure: Closure
    stamps: dict[str, Stamp]
    listings: dict[str, int]


_kept: OrderedDict[str, Verified] = OrderedDict()
_owners: dict[str, str] = {}  # where to look first
_lock = threading.Lock()


def python_tag() -> str:
    """The interpreter that a closure was made for, as in cp311."""
    short = {"cpython": "cp", "pypy": "pp"}.get(sys.implementation.name, sys.implementation.name)
    return f"{short}{sys.version_info.major}{sys.version_info.minor}"


def platform_tag() -> str:
    """The platform that a closure was made for, as in linux_x86_64."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def verified_closure(info: str) -> Verified:
    """The distribution whose `.dist-info` directory `info` is, with its closure, as it is now.

    Raises `PinMismatch` for a file that isn't as its RECORD has it, `SpecError` for what can't be pinned.
    """
    with _lock:
        kept = _kept.get(info)
        if kept is not None and _untouched(kept):
            _kept.move_to_end(info)
            return kept
        _kept.pop(info, None)
        _kept[info] = found = _read(info)
        while len(_kept) > KEPT_CLOSURES:
            _kept.popitem(last=False)
        return found


def forget() -> None:
    """Verify everything anew at the next load."""
    with _lock:
        _kept.clear()


def _untouched(kept: Verified) -> bool:
    look = os.stat
    try:
        for path, time_ns in kept.listings.items():
            if look(path).st_mtime_ns != time_ns:
                return False
        for path, (inode, change_ns) in kept.stamps.items():
            now = look(path)
            if now.st_ctime_ns != change_ns or now.st_ino != inode:
                return False
    except OSError:
        return False
    return True


def _read(info: str) -> Verified:
    # Before anything is read: what is installed meanwhile is seen by the next look.
    listings = {path: os.stat(path).st_mtime_ns for path in _sites() if os.path.isdir(path)}
    root = read_distribution(info)
    others: dict[str, Distribution] = {}
    waiting = [(root, requirement) for requirement in _required(root, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        asker, requirement = waiting.pop()
        key, extras = canonical(requirement.name), frozenset(requirement.extras)
        if key == HOST or (key, extras) in seen:
            continue  # the host is trusted, and workers are made of it
        seen.add((key, extras))
        found = root if key == root.key else others.get(key)
        if found is None:
            if (place := _infos().get(key)) is None:
                raise SpecError(
                    f"{quoted(asker.name)} depends on {quoted(requirement.name)}, which isn't installed here (or not "
                    f"with a RECORD); install it: pip install {shell_word(str(requirement))}"
                )
            found = others[key] = read_distribution(place)
            if len(others) > MAX_DISTRIBUTIONS:
                raise SpecError(f"{quoted(root.name)} depends on more than {MAX_DISTRIBUTIONS} distributions")
        waiting += [(found, needed) for needed in _required(found, extras)]
    everything = [root, *others.values()]
    tops = {top for distribution in everything for top in _tops(distribution)}
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
    """What it depends on here, with these extras. Raises `SpecError` for metadata that makes no sense."""
    environment: dict[str, str] = dict(default_environment())  # type: ignore[arg-type]
    found = []
    for text in distribution.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise SpecError(
                f"{quoted(distribution.name)} has the requirement {quoted(text)}, which is none"
            ) from None
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": e}) for e in ("", *sorted(extras))):
            found.append(requirement)
    return found


def _tops(distribution: Distribution) -> set[str]:
    """The top-level modules that its files make up."""
    tops = set()
    for path in distribution.files:
        first, slash, _ = path.partition("/")
        name = first if slash else first.partition(".")[0] if first.endswith((".py", ".so")) else ""
        if name.isidentifier():
            tops.add(name)
    return tops


def _sites() -> list[str]:
    """The directories with installed distributions, in the order in which an import looks."""
    roots = installed_roots()
    return [path for path in dict.fromkeys(map(os.path.realpath, sys.path)) if is_under(path, roots)]


def _infos() -> dict[str, str]:
    """The `.dist-info` directory of each installed distribution, by canonical name; the first on the path counts."""
    found: dict[str, str] = {}
    for site in _sites():
        try:
            names = sorted(os.listdir(site))
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info") and os.path.isfile(os.path.join(site, name, "RECORD")):
                found.setdefault(
                    canonical(name.removesuffix(".dist-info").rpartition("-")[0]), os.path.join(site, name)
                )
    return found


def owner_of(path: str) -> str | None:
    """The `.dist-info` directory of the installed distribution whose RECORD lists the file `path`; None for none."""
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
    """The top-level modules that workers themselves are made of: agentplug's, and those of its dependencies."""
    names: set[str] = {HOST}
    waiting, seen, infos = [HOST, *_WORKERS], set[str](), _infos()
    while waiting:
        key = waiting.pop()
        if key in seen or (info := infos.get(key)) is None:
            continue
        seen.add(key)
        names |= _listed_tops(info)
        waiting += _listed_needs(info)
    return tuple(sorted(names))


def _listed_tops(info: str) -> set[str]:
    with open(os.path.join(info, "RECORD"), encoding="utf-8", errors="replace") as file:
        paths = [line.partition(",")[0] for line in file]
    return _tops(Distribution("", "", "", "", "", [], files=dict.fromkeys(paths, "")))


def _listed_needs(info: str) -> Iterable[str]:
    from email.parser import HeaderParser

    with open(os.path.join(info, "METADATA"), encoding="utf-8", errors="replace") as file:
        requires = HeaderParser().parse(file, headersonly=True).get_all("Requires-Dist", [])
    return [canonical(needed.name) for needed in _required(Distribution("", "", "", "", "", requires), frozenset())]
