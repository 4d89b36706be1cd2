"""Read all files of a package or module that isn't installed (host).

Each directory and file is opened once, from its parent's descriptor and without following links, so that nobody can
replace it on the way. Links and special files are refused; caches are skipped. The bytes of Python files go to a
worker; all other files are only hashed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable

from agentplug.contract.policy import format_size
from agentplug.contract.text import is_utf8, printable
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
    """A tree of files: `files` maps relative paths to digests, `code` the paths of Python files to their bytes."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.code: dict[str, bytes] = {}
        self.places: dict[str, str] = {}
        self._code_bytes = 0

    @property
    def digest(self) -> str:
        """The digest over the sorted relative paths and the digests of all files."""
        return digest_of((path, self.files[path].encode()) for path in sorted(self.files))

    def add_directory(self, directory: str, prefix: str) -> None:
        """Read all files below `directory`; their relative paths begin with `prefix`. Raises `SpecError`."""
        try:
            descriptor = os.open(directory, _open_flags() | os.O_DIRECTORY)
        except OSError as error:
            raise _cannot(directory, error) from None
        self._walk(descriptor, directory, prefix)

    def add_file(self, path: str, relative: str) -> None:
        """Read the file `path`. Raises `SpecError`."""
        try:
            self._file(os.open(path, _open_flags()), path, relative)
        except OSError as error:
            raise _cannot(path, error) from None

    def _walk(self, descriptor: int, directory: str, prefix: str) -> None:
        try:
            with os.scandir(descriptor) as entries:
                names = sorted(entry.name for entry in entries if entry.name not in CACHES)
            for name in names:
                path, relative = os.path.join(directory, name), f"{prefix}/{name}"
                try:
                    inner = os.open(name, _open_flags(), dir_fd=descriptor)
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
            check_name(relative, path)
            if relative in self.files:
                raise SpecError(
                    f"{quoted_path(path)} and {quoted_path(self.places[relative])} are one module in two places; "
                    "remove one from sys.path"
                )
            self._bound(len(self.files) + 1, MAX_FILES, f"{MAX_FILES:,} files", path)
            total, chunks = hashlib.sha256(), []
            is_code = relative.endswith(".py")
            while chunk := os.read(descriptor, _CHUNK):
                total.update(chunk)
                if is_code:
                    chunks.append(chunk)
                    self._code_bytes += len(chunk)
                    self._bound(sum(map(len, chunks)), MAX_FILE_BYTES, f"{format_size(MAX_FILE_BYTES)} of code", path)
                    self._bound(self._code_bytes, MAX_CODE_BYTES, f"{format_size(MAX_CODE_BYTES)} of code", path)
        finally:
            os.close(descriptor)
        self.places[relative] = path
        self.files[relative] = f"sha256:{total.hexdigest()}"
        if is_code:
            self.code[relative] = b"".join(chunks)

    def _bound(self, measured: int, bound: int, what: str, path: str) -> None:
        if measured > bound:
            raise SpecError(
                f"with {quoted_path(path)} this is more than {what}, the most that is pinned; keep data apart"
            )

    def modules(self) -> tuple[Module, ...]:
        """List the modules that an import would find in these files, by name, with all their parents.

        As in an import, a package wins over a module of the same name, and a module over a plain directory.
        """
        modules: dict[str, Module] = {}
        for path in sorted(self.code, key=lambda path: (not path.endswith("/__init__.py"), path)):
            parts = path.removesuffix(".py").split("/")
            is_package = parts[-1] == "__init__" and len(parts) > 1
            name = ".".join(parts[:-1] if is_package else parts)
            if all(part.isidentifier() for part in parts) and name not in modules:
                modules[name] = Module(name, printable(self.places[path], 4096), self.code[path], is_package)
        for name in list(modules):
            if any(parent in modules and not modules[parent].is_package for parent in _parents(name)):
                del modules[name]
        for name in list(modules):
            for parent in _parents(name):
                modules.setdefault(parent, Module(parent, f"<namespace {parent}>", b"", is_package=True))
        return tuple(modules[name] for name in sorted(modules))


def check_name(name: str, path: str) -> None:
    """Raise `SpecError` if `name`, of the file `path`, isn't UTF-8."""
    if not is_utf8(name):
        raise SpecError(f"{quoted_path(path)} has a name that is no UTF-8, which a lock can't hold; rename it")


def _parents(name: str) -> Iterable[str]:
    """List the packages around a dotted module, outermost first."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _open_flags() -> int:
    """Return flags that follow no link and never block. A function, since other systems lack some of the flags."""
    return os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def _cannot(path: str, error: OSError) -> SpecError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR) and os.path.islink(path):
        return SpecError(
            f"{quoted_path(path)} is a link, and a pinned tree has none: where it leads could change; put what it "
            "leads to in its place"
        )
    return SpecError(f"{quoted_path(path)} can't be read ({error.strerror}); check its rights")
