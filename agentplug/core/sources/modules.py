"""Find a dotted module without importing anything (host).

`importlib.util.find_spec("pkg.mod")` imports `pkg`, which would run the plugin's code in the host. So each component
is looked up alone, in the directories of the one before it. The search covers `sys.path` only: finders on
`sys.meta_path`, as of some editable installs, would be code to run.
"""

from __future__ import annotations

import glob
import os
import sys
from dataclasses import dataclass
from importlib.machinery import (
    ExtensionFileLoader,
    FrozenImporter,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from zipimport import zipimporter

from agentplug.contract.text import printable
from agentplug.core.sources.digest import tree_digest
from agentplug.core.sources.interpreter import installed_roots, is_under
from agentplug.core.sources.names import modules_in, near_match, quoted, quoted_path
from agentplug.core.sources.source import Module, Source
from agentplug.core.sources.tree import Place, package_modules, read_module
from agentplug.errors import PluginNotFound, SpecError

_LOADERS: dict[type, str] = {
    ExtensionFileLoader: "a compiled extension",
    SourcelessFileLoader: "compiled bytecode without its source",
    zipimporter: "in a zip archive",
}


@dataclass(frozen=True, slots=True)
class Location:
    """The files of a module and its ancestors, outermost first, and the directories of its top-level package."""

    chain: list[Place]
    top_directories: list[str]


def module_source(dotted: str, attribute: str, spec: str) -> Source:
    """Return the source of the module `dotted` on `sys.path`.

    An installed module comes alone: a worker can import its ancestors and siblings by itself. Any other comes with
    its whole top-level package. Raises `PluginNotFound` or `SpecError`.
    """
    modules = _modules(find_module(dotted), dotted.partition(".")[0])
    return Source(spec, "module", tree_digest(modules), dotted, attribute, tuple(modules))


def _modules(location: Location, top: str) -> list[Module]:
    roots = installed_roots()
    wanted = location.chain[-1]
    portions = [path for path in location.top_directories if not is_under(os.path.realpath(path), roots)]
    if is_under(os.path.realpath(wanted.path), roots):
        return [read_module(wanted)]
    if top in sys.stdlib_module_names:
        raise SpecError(
            f"{quoted_path(wanted.path)} would take the place of the standard library's {quoted(top)} in the worker; "
            "rename it, or name the file by its path"
        )
    if not portions:  # a plain top-level module, or a link from an installed package to elsewhere
        return [read_module(wanted)]
    return package_modules(top, portions, location.chain, elsewhere=len(portions) < len(location.top_directories))


def find_module(dotted: str) -> Location:
    """Find the module `dotted` on `sys.path`. Raises `PluginNotFound` or `SpecError`."""
    PathFinder.invalidate_caches()  # a file written a moment ago is in no cache of its directory
    directories = _search_path()
    chain: list[Place] = []
    top_directories: list[str] = []
    parts = dotted.split(".")
    for depth, part in enumerate(parts, 1):
        name = ".".join(parts[:depth])
        _refuse_interpreter_part(name)
        # By its last component alone: with the full name, PathFinder looks for a namespace's parent in sys.modules.
        place = PathFinder.find_spec(part, directories)
        if place is None:
            raise PluginNotFound(_missing_message(parts, depth, directories))
        inside = _directories_of(place, part, directories)
        if place.loader is not None:
            path = os.path.abspath(_source_path(place, name))
            chain.append(Place(name, path, place.submodule_search_locations is not None))
        if depth == 1:
            top_directories = inside
        if depth < len(parts) and not inside:
            raise PluginNotFound(_no_package_message(parts, depth))
        directories = inside
    if not chain or chain[-1].name != dotted:
        raise PluginNotFound(_no_code_message(dotted, directories))
    return Location(chain, top_directories)


def _search_path() -> list[str]:
    """Return `sys.path` with the current directory by name, or without it if it no longer exists."""
    try:
        here = os.getcwd()
    except OSError:
        here = ""
    return [path or here for path in sys.path if isinstance(path, str) and (path or here)]


def _directories_of(place: ModuleSpec, part: str, directories: list[str]) -> list[str]:
    """Return the directories of a package's modules; none for a plain module."""
    if place.loader is None:  # a namespace package, whose own list of portions may use sys.modules
        portions = [os.path.join(directory, part) for directory in directories]
        return [os.path.abspath(portion) for portion in portions if os.path.isdir(portion)]
    return [os.path.abspath(path) for path in place.submodule_search_locations or ()]


def _refuse_interpreter_part(name: str) -> None:
    if name == "__main__":
        raise SpecError("'__main__' is this notebook or script itself; pass the class or the instance, not its name")
    if name in sys.builtin_module_names:
        what = "built into"
    elif FrozenImporter.find_spec(name) is not None:
        what = "frozen into"
    else:
        return
    raise SpecError(f"{quoted(name)} is {what} the interpreter, so there is no source to verify; name a .py module")


def _source_path(place: ModuleSpec, name: str) -> str:
    if isinstance(place.loader, SourceFileLoader) and place.origin is not None:
        return place.origin
    kinds = (text for kind, text in _LOADERS.items() if isinstance(place.loader, kind))
    what = next(kinds, f"loaded by {printable(type(place.loader).__name__, 60)}")
    raise SpecError(
        f"{quoted(name)} is {what} ({quoted_path(str(place.origin))}); what gets verified is source, so a plugin "
        "and the packages around it have to be plain .py files"
    )


def _no_package_message(parts: list[str], depth: int) -> str:
    name, rest = ".".join(parts[:depth]), ".".join(parts[depth:])
    hint = f"; did you mean {quoted(f'{name}:{rest}')}?" if depth == len(parts) - 1 else ""
    return f"{quoted(name)} is a module and no package, so there is no {quoted(rest)} in it{hint}"


def _no_code_message(dotted: str, directories: list[str]) -> str:
    names = ", ".join(quoted(f"{dotted}.{name}") for name in sorted(modules_in(directories))[:8])
    remedy = f"name a module in it: {names}" if names else "name a module instead"
    return f"{quoted(dotted)} is a namespace package, a directory without an __init__.py, and has no code; {remedy}"


def _missing_message(parts: list[str], depth: int, directories: list[str]) -> str:
    part, name = parts[depth - 1], ".".join(parts[:depth])
    where = f"in the package {quoted('.'.join(parts[: depth - 1]))}" if depth > 1 else "on sys.path"
    hint = near_match(part, modules_in(directories), "".join(f"{parent}." for parent in parts[: depth - 1]))
    file = os.path.join(".", *parts) + ".py"
    if not hint and os.path.isfile(file):
        hint = f"; to load that file, write {quoted_path(file)}"
    if depth == 1 and _is_hooked(part, directories):
        hint = (
            "; it is an editable install that works by an import hook, which would be code to run; install it with "
            "--config-settings editable_mode=compat, or name its file"
        )
    return f"there is no module {quoted(name)} {where}{hint or '; check its spelling, or name its file by path'}"


def _is_hooked(part: str, directories: list[str]) -> bool:
    """True if the finder of an editable install, as setuptools makes them, knows the module `part`."""
    for directory in directories:
        for finder in glob.glob(os.path.join(glob.escape(directory), "__editable___*_finder.py")):
            try:
                with open(finder, encoding="utf-8", errors="replace") as file:
                    if f"'{part}': " in file.read(1 << 16):
                        return True
            except OSError:
                continue
    return False
