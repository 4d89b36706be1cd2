"""Entry points of installed packages in the group `agentplug.plugins` (host): read as text, never loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from agentplug.core.sources.names import quoted
from agentplug.errors import PluginNotFound, SpecError

GROUP = "agentplug.plugins"

_VALUE = re.compile(r"\s*([^\s:\[]+)\s*(?::\s*([^\s:\[]+)\s*)?(?:\[.*\])?\s*")


def _announced() -> Iterator[tuple[metadata.EntryPoint, str, str]]:
    """Yield each entry point in the group once, with its package and that one's version.

    A copy further down sys.path is shadowed by the first one, as in an import.
    """
    seen = set()
    for distribution in metadata.distributions():
        if not _may_announce(distribution):
            continue
        try:
            points = list(distribution.entry_points.select(group=GROUP))
        except Exception:  # metadata that can't be read: one broken package must not hide the others
            continue
        package = _text_of(distribution, "name", "a package without a name")
        for point in points:
            if (point.name, package) not in seen:
                seen.add((point.name, package))
                yield point, package, _text_of(distribution, "version", "of an unknown version")


def _may_announce(distribution: metadata.Distribution) -> bool:
    """True if the entry points may name the group: a search in the bytes saves parsing those of other packages."""
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


def _text_of(distribution: metadata.Distribution, member: str, otherwise: str) -> str:
    try:
        return str(getattr(distribution, member))
    except Exception:  # no METADATA beside its entry points
        return otherwise


def announced() -> list[tuple[str, str, str]]:
    """Return name, value and package (with its version) of each entry point in the group, sorted by name."""
    return sorted((point.name, point.value, f"{package} {version}") for point, package, version in _announced())


def find_entry_point(name: str) -> tuple[str, str] | None:
    """Return dotted module and class ('' for none) of the entry point `name`; None if there is no such entry point.

    Raises `PluginNotFound` if two packages announce different plugins by that name, and `SpecError` for a value that
    can't be a module and a class.
    """
    points = [(point.value, package) for point, package, _ in _announced() if point.name == name]
    if len({value for value, _ in points}) > 1:
        listed = ", ".join(f"{quoted(value)} of {quoted(package)}" for value, package in sorted(points))
        raise PluginNotFound(
            f"the entry point {quoted(name)} is announced more than once: {listed}; write one of them"
        )
    for value, package in points:
        match = _VALUE.fullmatch(value)
        if match is None or not all(part.isidentifier() for part in [*match[1].split("."), match[2] or "_"]):
            raise SpecError(
                f"the entry point {quoted(name)} of {quoted(package)} has the value {quoted(value)}, which is no "
                "MODULE:Class; write the spec of the plugin's module instead"
            )
        return match[1], match[2] or ""
    return None
