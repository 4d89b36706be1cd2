"""Import modules from sealed memory that the host verified (worker side).

The modules of a pinned closure come only from here, whatever is on the disk. Besides them, only the standard library,
in its own place, and the worker's own modules can be imported, no other installed package. Source is compiled from
the verified bytes, bytecode is never read, and shared objects are loaded from sealed memory of their own.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import io
import linecache
import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable, TraversableResources
from types import ModuleType
from typing import Any

from agentplug.core.boundary.frames import PinnedFiles

_HOME = os.path.dirname(os.__file__)
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_STANDARD = (_HOME, f"{_HOME}/lib-dynload", f"{sys.base_exec_prefix}/{sys.platlibdir}/{_PYTHON}/lib-dynload")
_MISSING = re.compile(r"(\S+): cannot open shared object file")


class PinnedFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of a closure in `files`; `descriptors` came with it."""

    def __init__(self, files: PinnedFiles, descriptors: Sequence[int]) -> None:
        self._archive = descriptors[0]
        self._files = {path: (offset, size) for path, offset, size in files.files}
        self._objects = {path: descriptors[index] for path, index in files.objects}
        self._sites = files.sites
        self._tops = frozenset(files.tops)
        self._beside = frozenset(files.beside)
        self.folders = {folder for path in (*self._files, *self._objects) for folder in _folders(path, files.sites)}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> Any:
        """Return the spec of a pinned module; None leaves it to other finders. Raises `ModuleNotFoundError`."""
        top = name.partition(".")[0]
        if top not in self._tops:
            if top in self._beside:
                return None
            if top in sys.stdlib_module_names and (spec := _standard(name, path)) is not None:
                return spec
            raise ModuleNotFoundError(
                f"No module named {name!r} in what is pinned: {top!r} is neither in the standard library nor in the "
                "pinned closure; declare it as a dependency and pin the plugin anew",
                name=name,
            )
        last = name.rpartition(".")[2]
        places = [f"{folder}/{last}" for folder in (self._sites if path is None else path)]
        for place in places:
            if (spec := self._in(place, name)) is not None:
                return spec
        if portions := [place for place in places if place in self.folders]:
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = portions
            return spec
        raise ModuleNotFoundError(f"No module named {name!r} in what is pinned", name=name)

    def _in(self, place: str, name: str) -> Any:
        """Find a module in the order of importlib: a package, then a shared object, then a source file."""
        for stem, is_package in ((f"{place}/__init__", True), (place, False)):
            for suffix in importlib.machinery.EXTENSION_SUFFIXES:
                if (path := f"{stem}{suffix}") in self._objects:
                    return self._spec(name, path, _ObjectLoader(self, name, path), is_package)
            if (path := f"{stem}.py") in self._files:
                return self._spec(name, path, _SourceLoader(self, path), is_package)
        return None

    def _spec(self, name: str, path: str, loader: Any, is_package: bool) -> Any:
        spec = importlib.machinery.ModuleSpec(name, loader, origin=path, is_package=is_package)
        if is_package:
            spec.submodule_search_locations = [os.path.dirname(path)]
        spec.has_location = True
        return spec

    def read(self, path: str) -> bytes:
        """Return the bytes of a pinned file. Raises `FileNotFoundError`."""
        if path not in self._files:
            raise FileNotFoundError(2, "No such file in what is pinned", path)
        offset, size = self._files[path]
        parts = []
        while size:
            part = os.pread(self._archive, size, offset)
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def names_in(self, folder: str) -> list[str]:
        """Return the names in a pinned directory."""
        whole = f"{folder}/"
        below = [path[len(whole) :] for path in (*self._files, *self._objects) if path.startswith(whole)]
        return sorted({path.partition("/")[0] for path in below})

    def is_file(self, path: str) -> bool:
        """Return true if `path` is a pinned file."""
        return path in self._files

    def place_of(self, path: str) -> str:
        """Return the path for dlopen(3) of a shared object's sealed memory. The loader identifies it by this path, so
        the descriptor stays open."""
        return f"/proc/self/fd/{self._objects[path]}"

    def library(self, name: str) -> str | None:
        """Return the path of the pinned shared object `name`, which another one needs."""
        return next((path for path in self._objects if path.endswith(f"/{name}")), None)


def _standard(name: str, path: Sequence[str] | None) -> Any:
    """Return the spec of a standard library module, from its own place only: for one that this system lacks, such as
    `winreg`, any file on the path would be taken."""
    for finder in (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter):
        if (spec := finder.find_spec(name, path)) is not None:
            return spec
    return importlib.machinery.PathFinder.find_spec(name, _STANDARD if path is None else path)


class _SourceLoader(importlib.abc.InspectLoader):
    """Compiles one pinned file; bytecode is never read."""

    def __init__(self, finder: PinnedFinder, path: str) -> None:
        self._finder = finder
        self.path = path

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._finder.read(self.path))

    def get_code(self, fullname: str) -> Any:
        return compile(self._finder.read(self.path), self.path, "exec", dont_inherit=True)

    def get_data(self, path: str) -> bytes:
        return self._finder.read(path)

    def get_filename(self, fullname: str) -> str:
        return self.path

    def is_package(self, fullname: str) -> bool:
        return self.path.endswith("/__init__.py")

    def get_resource_reader(self, fullname: str) -> Any:
        return _Resources(self._finder, self.path)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__

        def lines() -> str:
            return self.get_source(name)

        linecache.cache[self.path] = (lines,)
        exec(self.get_code(name), module.__dict__)


class _ObjectLoader(importlib.machinery.ExtensionFileLoader):
    """Loads one pinned shared object, and first the pinned ones that it needs."""

    def __init__(self, finder: PinnedFinder, name: str, path: str) -> None:
        super().__init__(name, path)
        self._finder = finder

    def create_module(self, spec: Any) -> ModuleType:
        sealed = importlib.machinery.ModuleSpec(spec.name, self, origin=self._finder.place_of(self.path))
        made: ModuleType = _with_libraries(self._finder, lambda: super(_ObjectLoader, self).create_module(sealed))
        return made

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self.path
        super().exec_module(module)

    def get_resource_reader(self, name: str | None = None) -> Any:
        return _Resources(self._finder, self.path)


def _with_libraries(finder: PinnedFinder, load: Any) -> Any:
    """Call `load`, again after each pinned library that it lacked is loaded. Libraries are named by SONAME."""
    import ctypes

    loaded: set[str] = set()
    while True:
        try:
            return load()
        except (ImportError, OSError) as error:
            match = _MISSING.search(str(error))
            path = finder.library(match[1]) if match is not None else None
            if path is None or path in loaded:
                raise
            loaded.add(path)
            place = finder.place_of(path)
            _with_libraries(finder, lambda place=place: ctypes.CDLL(place))


class _Place(Traversable):
    """A pinned file or directory for importlib.resources."""

    def __init__(self, finder: PinnedFinder, path: str) -> None:
        self._finder = finder
        self._path = path

    @property
    def name(self) -> str:
        return os.path.basename(self._path)

    def iterdir(self) -> Iterator[_Place]:
        for name in self._finder.names_in(self._path):
            yield _Place(self._finder, f"{self._path}/{name}")

    def is_dir(self) -> bool:
        return self._path in self._finder.folders

    def is_file(self) -> bool:
        return self._finder.is_file(self._path)

    def joinpath(self, *descendants: Any) -> _Place:
        return _Place(self._finder, os.path.normpath(os.path.join(self._path, *map(str, descendants))))

    __truediv__ = joinpath

    def open(self, mode: str = "r", *args: Any, **options: Any) -> Any:
        data = io.BytesIO(self._finder.read(self._path))
        return data if "b" in mode else io.TextIOWrapper(data, *args, **options)

    def read_bytes(self) -> bytes:
        return self._finder.read(self._path)

    def read_text(self, encoding: str | None = None) -> str:
        return self._finder.read(self._path).decode(encoding or "utf-8")


class _Resources(TraversableResources):
    """The resources of the package whose file is `path`."""

    def __init__(self, finder: PinnedFinder, path: str) -> None:
        self._place = _Place(finder, os.path.dirname(path))

    def files(self) -> Any:
        return self._place


def _folders(path: str, sites: Sequence[str]) -> list[str]:
    """Return the directories around `path`, up to its site."""
    folders = []
    folder = os.path.dirname(path)
    while folder not in sites and len(folder) > 1:
        folders.append(folder)
        folder = os.path.dirname(folder)
    return folders
