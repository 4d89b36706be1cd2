"""Plugins that installed packages announce under `agentplug.plugins` (host): read as text, never loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from agentplug.core.sources.names import quoted
from agentplug.errors import PluginNotFound, SpecError

GROUP = "agentplug.plugins"

_VALUE = re.compile(r"\s*([^\s:\[]+)\s*(?::\s*([^\s:\[]+)\s*)?(?:\[.*\])?\s*")


def _announced() -> Iterator[tuple[metadata.Distribution, metadata.EntryPoint]]:
    for distribution in metadata.distributions():
        if not _may_announce(distribution):
            continue
        try:
            points = list(distribution.entry_points.select(group=GROUP))
        except Exception:  # metadata that can't be read: one broken package must not hide the others
            continue
        for point in points:
            yield distribution, point


def _may_announce(distribution: metadata.Distribution) -> bool:
    """Whether its entry points name the group: a look at the bytes spares parsing those of every other package."""
    path = getattr(distribution, "_path", None)
    if not isinstance(path, Path) or path.suffix != ".dist-info":
        return True
    try:
        with open(f"{path}/entry_points.txt", "rb") as file:
            return GROUP.encode() in file.read()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _package(distribution: metadata.Distribution) -> str:
    try:
        return str(distribution.name)
    except Exception:  # no METADATA beside its entry points
        return "a package without a name"


def announced() -> list[tuple[str, str, str]]:
    """Name, value and package (with its version) of each entry point in the group, by name. Nothing is imported."""
    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    for distribution, point in _announced():
        package = _package(distribution)
        # A copy further down sys.path is shadowed by the first one, as in an import.
        found.setdefault((point.name, package), (point.name, point.value, f"{package} {_version(distribution)}"))
    return sorted(found.values())


def _version(distribution: metadata.Distribution) -> str:
    try:
        return str(distribution.version)
    except Exception:  # no METADATA beside its entry points
        return "of an unknown version"


def entry_point_names() -> set[str]:
    """The names of all entry points in the group `agentplug.plugins`."""
    return {point.name for _, point in _announced()}


def find_entry_point(name: str) -> tuple[str, str] | None:
    """Dotted module and class ('' when it names none) of the entry point `name`; None when there is no such one.

    Raises `PluginNotFound` when two packages announce different plugins by that name, and `SpecError` for a value
    that can't be a module and a class.
    """
    found: dict[str, tuple[str, str]] = {}
    for distribution, point in _announced():
        if point.name == name:
            # A copy further down sys.path is shadowed by the first one, as in an import.
            package = _package(distribution)
            found.setdefault(package, (point.value, package))
    if len({value for value, _ in found.values()}) > 1:
        listed = ", ".join(f"{quoted(value)} of {quoted(package)}" for value, package in sorted(found.values()))
        raise PluginNotFound(
            f"the entry point {quoted(name)} is announced more than once: {listed}; write one of them"
        )
    for value, package in found.values():
        match = _VALUE.fullmatch(value)
        if match is None or not all(part.isidentifier() for part in [*match[1].split("."), match[2] or "_"]):
            raise SpecError(
                f"the entry point {quoted(name)} of {quoted(package)} has the value {quoted(value)}, which is no "
                "MODULE:Class; write the spec of the plugin's module instead"
            )
        return match[1], match[2] or ""
    return None
