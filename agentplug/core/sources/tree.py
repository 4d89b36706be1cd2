"""Read a whole package that a worker can't reach by itself (host).

A package outside of site-packages goes to the worker whole, so relative imports and imports of siblings work there
too. Only files that an import could name are read: regular `.py` files whose path consists of identifiers. A link to
a file is followed if it stays in the package, a link to a directory never.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from agentplug.contract.policy import format_size
from agentplug.contract.text import printable
from agentplug.core.sources.files import OutsideTree, read_once
from agentplug.core.sources.names import quoted, quoted_path
from agentplug.core.sources.source import Module
from agentplug.errors import PluginNotFound, SpecError

MAX_FILES = 2_000
MAX_TREE_BYTES = 32 << 20
MAX_ENTRIES = 100_000

_EXTEND = b'__path__ = __import__("pkgutil").extend_path(__path__, __name__)\n'


class Place(NamedTuple):
    """The file of a module's source."""

    name: str
    path: str
    is_package: bool


def read_module(place: Place, *, within: str = "") -> Module:
    """Read the module at `place`; `within` and errors are as in `read_once`."""
    return Module(place.name, printable(place.path, 4096), read_once(place.path, within=within), place.is_package)


class _Collected:
    """The modules read so far, within bounds."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.modules: dict[str, Module] = {}
        self.entries = 0
        self.size_bytes = 0

    def add(self, module: Module) -> None:
        self.modules[module.name] = module
        self.size_bytes += len(module.code)
        self._bound(len(self.modules), MAX_FILES, f"{MAX_FILES:,} .py files")
        self._bound(self.size_bytes, MAX_TREE_BYTES, f"{format_size(MAX_TREE_BYTES)} of .py files")

    def count_entry(self) -> None:
        self.entries += 1
        self._bound(self.entries, MAX_ENTRIES, f"{MAX_ENTRIES:,} files and directories")

    def _bound(self, measured: int, bound: int, what: str) -> None:
        if measured > bound:
            raise SpecError(
                f"the package {quoted(self.package)} holds more than {what}, the most that is sent to a worker; "
                "move the plugin into a smaller package, name its file instead, or install the package"
            )


def package_modules(package: str, portions: list[str], named: list[Place], *, elsewhere: bool) -> list[Module]:
    """Return all modules of the top-level `package` in its directories `portions`, sorted by name.

    `named` are the wanted module and its ancestors. They are read wherever a link leads, as an import would. A
    namespace package has no file and gets an empty module, so that every module has its parents. `elsewhere` is true
    if other portions are installed: the module of `package` then looks for these too.
    """
    collected = _Collected(package)
    for portion in portions:
        _walk(collected, package, portion)
    for place in named:
        if place.name not in collected.modules:
            collected.add(read_module(place))
    for name in list(collected.modules):
        parts = name.split(".")
        for parent in (".".join(parts[:depth]) for depth in range(1, len(parts))):
            if parent not in collected.modules:
                code = _EXTEND if elsewhere and parent == package else b""
                collected.modules[parent] = Module(parent, f"<namespace {parent}>", code, is_package=True)
    return [collected.modules[name] for name in sorted(collected.modules)]


def _walk(collected: _Collected, package: str, portion: str) -> None:
    root = os.path.realpath(portion)
    waiting = [(package, portion)]
    while waiting:
        name, directory = waiting.pop()
        files, directories = _listing(collected, directory)
        places = []
        if "__init__" in files:
            places.append(Place(name, os.path.join(directory, "__init__.py"), is_package=True))
        for part in sorted(directories):
            path = os.path.join(directory, part)
            # As in an import: a package goes before a module of its name, a module before a plain directory.
            if os.path.isfile(os.path.join(path, "__init__.py")):
                files.discard(part)
            elif part in files:
                continue
            waiting.append((f"{name}.{part}", path))
        for part in sorted(files - {"__init__"}):
            places.append(Place(f"{name}.{part}", os.path.join(directory, f"{part}.py"), is_package=False))
        for place in places:
            if place.name not in collected.modules:
                with contextlib.suppress(PluginNotFound, OutsideTree):  # removed meanwhile, or a link that leads out
                    collected.add(read_module(place, within=root))


def _listing(collected: _Collected, directory: str) -> tuple[set[str], set[str]]:
    """Return stems of the `.py` files and names of the directories that an import could name."""
    files, directories = set(), set()
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                collected.count_entry()
                stem = entry.name.removesuffix(".py")
                if not stem.isidentifier() or entry.name == "__pycache__":
                    continue
                if stem == entry.name:
                    if entry.is_dir(follow_symlinks=False):
                        directories.add(stem)
                elif os.path.isfile(entry.path):  # False for a FIFO, a device, and a broken link
                    files.add(stem)
    except FileNotFoundError:
        pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise SpecError(
            f"the directory {quoted_path(directory)} of {quoted(collected.package)} can't be read ({reason}); "
            "check its permissions, or name the plugin's file instead"
        ) from None
    return files, directories
