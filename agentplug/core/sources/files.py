"""Read a plugin's file, once (host).

The host reads bytes and doesn't parse them: a few megabytes of replacement fields in one f-string keep CPython's
parser busy for minutes, without interrupts or other threads, and can take hundreds of MiB. A worker has limits, so
the worker reports a syntax error, or a wrong encoding.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from agentplug.contract.policy import format_size
from agentplug.contract.text import printable
from agentplug.core.sources.digest import text_digest
from agentplug.core.sources.interpreter import is_under
from agentplug.core.sources.names import identifier_of, near_match, python_files, quoted, quoted_path
from agentplug.core.sources.source import Module, Source
from agentplug.errors import PluginNotFound, SpecError

MAX_FILE_BYTES = 8 << 20

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class OutsideTree(SpecError):
    """A file outside of the directory that it must lie in: a link led there."""


def read_once(path: str, *, within: str = "") -> bytes:
    """Return the bytes of the regular file `path`, at most 8 MiB; open it once and never wait for it.

    With `within`, a directory whose links are resolved, the file must lie in it. The kernel names the place of the
    opened file, so no link can be swapped in between. Raises `PluginNotFound`, `OutsideTree` or `SpecError`.
    """
    try:
        _check_regular(os.stat(path), path)  # before opening, which can start a device
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            _check_regular(os.fstat(descriptor), path)
            if within and not is_under(os.readlink(f"/proc/self/fd/{descriptor}"), (within,)):
                raise OutsideTree(f"{quoted_path(path)} is a link that leads out of {quoted_path(within)}")
            return _read_bounded(descriptor, path)
        finally:
            os.close(descriptor)
    except UnicodeEncodeError:
        raise SpecError(
            f"{quoted_path(path)} can't be a file's name here; use characters of {sys.getfilesystemencoding()}"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise PluginNotFound(_missing_message(path)) from None
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise SpecError(f"{quoted_path(path)} can't be read ({reason}); check its path and permissions") from None


def _read_bounded(descriptor: int, path: str) -> bytes:
    chunks, size_bytes = [], 0
    while chunk := os.read(descriptor, 1 << 20):
        chunks.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > MAX_FILE_BYTES:
            raise SpecError(
                f"{quoted_path(path)} is over {format_size(MAX_FILE_BYTES)}, the most a plugin's file may hold; "
                "keep data in a file of its own and grant it with Policy(read=…)"
            )
    return b"".join(chunks)


def file_source(path: str, attribute: str, spec: str) -> Source:
    """Return the source of the plugin in the file at the absolute `path`: that file alone.

    Its module is `plugin_` and the stem: `json.py` becomes `plugin_json`, so it can't replace the standard library's
    or an installed `json` in the worker, nor import itself.
    """
    if not path.endswith(".py"):
        _refuse_other_file(path)
    code = read_once(path)
    entry = f"plugin_{identifier_of(os.path.basename(path).removesuffix('.py'))}"
    module = Module(entry, printable(path, 4096), code)
    return Source(spec, "file", text_digest(code), entry, attribute, (module,))


def _refuse_other_file(path: str) -> None:
    if os.path.isfile(path):
        raise SpecError(f"{quoted_path(path)} isn't Python source; a plugin's file ends in .py")
    if os.path.isfile(f"{path}.py"):
        raise PluginNotFound(f"there is no file {quoted_path(path)}; did you mean {quoted_path(path + '.py')}?")


def _check_regular(status: os.stat_result, path: str) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        return
    message = f"{quoted_path(path)} is {_KINDS.get(kind, 'no regular file')}; a plugin is a .py file"
    if kind == stat.S_IFDIR:
        message = _directory_message(path)
    raise SpecError(message)


def _directory_message(path: str) -> str:
    parent, name = os.path.split(os.path.normpath(path))
    if os.path.isfile(os.path.join(path, "__init__.py")) and name.isidentifier():
        dotted = f"write the dotted name of its module, like {quoted(name)}, with {quoted_path(parent)} on sys.path"
        return f"{quoted_path(path)} is the directory of a package; {dotted}, or name one of its files"
    if files := python_files(path):
        return (
            f"{quoted_path(path)} is a directory; name a file in it: {', '.join(quoted(file) for file in files[:8])}"
        )
    return f"{quoted_path(path)} is a directory without .py files; a plugin is a .py file"


def _missing_message(path: str) -> str:
    directory, name = os.path.split(path)
    files = python_files(directory)
    return f"there is no file {quoted_path(path)}{near_match(name, files) or '; check the path'}"
