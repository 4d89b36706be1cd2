"""A package or module that isn't installed, with all its files (host).

Each directory and each file is opened once, from its parent's descriptor and without following links, so that nothing
can be put in their place on the way. Links and other things that are no files are refused; caches are no part of a
tree. Python files are kept as they were read, all others are only digested: a worker isn't sent them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator

from agentplug.contract.policy import format_size
from agentplug.contract.text import printable
from agentplug.core.sources.digest import digest_of
from agentplug.core.sources.files import MAX_FILE_BYTES
from agentplug.core.sources.names import quoted_path
from agentplug.core.sources.source import Module
from agentplug.errors import SpecError

CACHES = frozenset(("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints"))
MAX_FILES = 20_000
MAX_CODE_BYTES = 32 << 20
_CHUNK = 1 << 20


class ReadTree:
    """What was read: `files` maps relative paths to digests, `code` those of Python files to their bytes."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.code: dict[str, bytes] = {}
        self.places: dict[str, str] = {}
        self._code_bytes = 0

    @property
    def digest(self) -> str:
        """Over the sorted relative paths and the bytes of all files, by way of each file's own digest."""
        return digest_of((path, self.files[path].encode()) for path in sorted(self.files))

    def add_directory(self, directory: str, prefix: str) -> None:
        """Read all below `directory`; relative paths begin with `prefix`. Raises `SpecError`."""
        try:
            descriptor = os.open(directory, _unfollowed() | os.O_DIRECTORY)
        except OSError as error:
            raise _cannot(directory, error) from None
        self._walk(descriptor, directory, prefix)

    def add_file(self, path: str, relative: str) -> None:
        """Read the file `path`. Raises `SpecError`."""
        try:
            self._file(os.open(path, _unfollowed()), path, relative)
        except OSError as error:
            raise _cannot(path, error) from None

    def _walk(self, descriptor: int, directory: str, prefix: str) -> None:
        try:
            with os.scandir(descriptor) as entries:
                names = sorted(entry.name for entry in entries if entry.name not in CACHES)
            for name in names:
                path, relative = os.path.join(directory, name), f"{prefix}/{name}"
                try:
                    inner = os.open(name, _unfollowed(), dir_fd=descriptor)
                except OSError as error:
                    raise _cannot(path, error) from None
                if stat.S_ISDIR(os.fstat(inner).st_mode):
                    self._walk(inner, path, relative)
                else:
                    self._file(inner, path, relative)
        finally:
            os.close(descriptor)

    def _file(self, descriptor: int, path: str, relative: str) -> None:
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SpecError(f"{quoted_path(path)} is no file; a pinned tree holds files and directories alone")
            try:
                relative.encode()
            except UnicodeEncodeError:
                raise SpecError(
                    f"{quoted_path(path)} has a name that is no UTF-8, which a lock can't hold; rename it"
                ) from None
            if relative in self.files:
                raise SpecError(
                    f"{quoted_path(path)} and {quoted_path(self.places[relative])} are one module in two places; "
                    "remove one from sys.path"
                )
            self._bound(len(self.files) + 1, MAX_FILES, f"{MAX_FILES:,} files", path)
            total, kept = hashlib.sha256(), []
            is_code = relative.endswith(".py")
            for chunk in _chunks(descriptor):
                total.update(chunk)
                if is_code:
                    kept.append(chunk)
                    self._code_bytes += len(chunk)
                    self._bound(sum(map(len, kept)), MAX_FILE_BYTES, f"{format_size(MAX_FILE_BYTES)} of code", path)
                    self._bound(self._code_bytes, MAX_CODE_BYTES, f"{format_size(MAX_CODE_BYTES)} of code", path)
        finally:
            os.close(descriptor)
        self.places[relative] = path
        self.files[relative] = f"sha256:{total.hexdigest()}"
        if is_code:
            self.code[relative] = b"".join(kept)

    def _bound(self, measured: int, bound: int, what: str, path: str) -> None:
        if measured > bound:
            raise SpecError(
                f"with {quoted_path(path)} this is more than {what}, the most that is pinned; keep data apart"
            )

    def modules(self) -> tuple[Module, ...]:
        """The modules that an import would find in these files, by name; every parent of one is there."""
        return modules_of(self.code, self.places)


def modules_of(code: dict[str, bytes], places: dict[str, str]) -> tuple[Module, ...]:
    """The modules in Python files by relative path. As in an import, a package goes before a module of its name,
    and that before a plain directory."""
    found: dict[str, Module] = {}
    for relative in sorted(code, key=lambda path: (not path.endswith("/__init__.py"), path)):
        parts = relative.removesuffix(".py").split("/")
        is_package = parts[-1] == "__init__" and len(parts) > 1
        name = ".".join(parts[:-1] if is_package else parts)
        if all(part.isidentifier() for part in parts) and name not in found:
            found[name] = Module(name, printable(places[relative], 4096), code[relative], is_package)
    for name in list(found):
        for parent in parents(name):
            if parent in found and not found[parent].is_package:
                del found[name]
                break
    for name in list(found):
        for parent in parents(name):
            found.setdefault(parent, Module(parent, f"<namespace {parent}>", b"", is_package=True))
    return tuple(found[name] for name in sorted(found))


def parents(name: str) -> Iterable[str]:
    """The packages around a dotted module, outermost first."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _unfollowed() -> int:
    """Flags that open no link and wait for nobody. Other systems lack some, and only import this."""
    return os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def _chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, _CHUNK):
        yield chunk


def _cannot(path: str, error: OSError) -> SpecError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR) and os.path.islink(path):
        return SpecError(
            f"{quoted_path(path)} is a link, and a pinned tree has none: where it leads could change; put what it "
            "leads to in its place"
        )
    return SpecError(f"{quoted_path(path)} can't be read ({error.strerror}); check its rights")
