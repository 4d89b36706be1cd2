"""Files of pinned packages, as importlib.resources reads them (worker side): out of sealed memory too."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from importlib.resources.abc import Traversable, TraversableResources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentplug.sandbox.pinned import PinnedFinder


class _Place(Traversable):
    """A pinned file or directory, as importlib.resources walks them."""

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


class PinnedResources(TraversableResources):
    """The resources of the package in `folder`."""

    def __init__(self, finder: PinnedFinder, folder: str) -> None:
        self._place = _Place(finder, folder)

    def files(self) -> Any:
        """The package's directory."""
        return self._place
