"""`GrantedPath`: a path of a policy, with the file or folder that it names (host).

A name can be given to another file: a plugin that may write to a folder can put a link in the place of a path that
another plugin may read. So a grant means one file or folder of the kernel's, by device and inode, and an open
descriptor keeps the kernel from using that inode again. A worker gets what is granted, or isn't started.

A recorded path has no descriptor: it was pickled, or read from a file. Reading it touches no file system; `hold`
does, once it is to be enforced.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import weakref
from typing import Any

from agentplug.contract.scratch_place import Identity, identities_around, identity_of, scratch_places, ways_to
from agentplug.contract.text import is_utf8, printable
from agentplug.errors import PolicyError

_O_PATH: int = getattr(os, "O_PATH", 0)  # missing off Linux, where policies can be made and no worker started
_ZERO = "/dev/zero"
_REASONS = {
    errno.ENOENT: "isn't there; check the path, or make it first",
    errno.ENOTDIR: "can't be there: a part of it is a file; check the path",
    errno.EACCES: "can't be reached: this user may not enter a folder on the way; grant another path",
    errno.ELOOP: "can't be reached: its links lead in a circle; grant the file or folder itself",
    errno.ENAMETOOLONG: "is too long for a path",
    errno.EMFILE: "can't be held: this process has no descriptor left, and each granted path takes one; grant the "
    "folder around them, or raise the limit (ulimit -n)",
}


class GrantedPath(str):
    """The text of a path, and the device and inode of what it names.

    `descriptor` is -1 if the path isn't open here, and `inode` 0 if nobody has ever opened it: then it is a name.
    """

    __slots__ = ("__weakref__", "descriptor", "device", "inode")

    device: int
    inode: int
    descriptor: int

    def __new__(cls, text: str, device: int = 0, inode: int = 0, descriptor: int = -1) -> GrantedPath:
        path = super().__new__(cls, text)
        path.device, path.inode, path.descriptor = device, inode, descriptor
        return path

    @property
    def identity(self) -> Identity:
        """The device and inode."""
        return self.device, self.inode

    def is_open(self) -> bool:
        """Return true unless somebody closed the descriptor."""
        try:
            return self.identity == identity_of(os.fstat(self.descriptor))
        except OSError:
            return False

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def __copy__(self) -> GrantedPath:
        return self

    def __deepcopy__(self, memo: Any) -> GrantedPath:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (str(self), self.device, self.inode, _boot())


_open_paths: weakref.WeakValueDictionary[tuple[str, int, int], GrantedPath] = weakref.WeakValueDictionary()
"""The open paths, so that a thousand policies that grant the same take one descriptor."""


def _unpickle(text: str, device: int, inode: int, boot: str) -> GrantedPath:
    """Make a recorded path. Where another kernel runs, devices and inodes have other meanings: there it is a name."""
    return GrantedPath(text, device, inode) if boot == _boot() else GrantedPath(text)


@functools.cache
def _boot() -> str:
    """Return the name of this run of the kernel."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def hold(field: str, path: str) -> GrantedPath:
    """Open what `path` names now, for the policy's `field`. Links are followed, but not those of a recorded path,
    which must name what it named then.

    Raises `PolicyError` if nothing is there, if it can't be reached, or if plugins have their scratch directories
    in it or around it.
    """
    if not _O_PATH:
        return GrantedPath(os.path.realpath(path))
    descriptor = -1
    try:
        descriptor = os.open(path, _O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if isinstance(path, GrantedPath) else 0))
        granted = GrantedPath(os.readlink(f"/proc/self/fd/{descriptor}"), *identity_of(os.fstat(descriptor)))
        _refuse_impossible(field, path, granted)
        key = str(granted), *granted.identity
        other = _open_paths.get(key)
        if other is None or not other.is_open():
            granted.descriptor, descriptor = descriptor, -1
            other = _open_paths[key] = granted
        return other
    except OSError as error:
        raise PolicyError(f"{field}: {_why_not(path, error)}") from None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _refuse_impossible(field: str, path: str, granted: GrantedPath) -> None:
    """Raise `PolicyError` if `path`, which names `granted` now, can't be granted; `OSError` if that was removed."""
    text = _brief(path) if granted == path else f"{_brief(path)} ({_brief(granted)})"
    if isinstance(path, GrantedPath) and (
        granted != path or os.path.islink(path) or (path.inode and path.identity != granted.identity)
    ):
        raise PolicyError(f"{field}: {_brief(path)} {_changed(path)}")
    if not is_utf8(granted):
        raise PolicyError(f"{field}: {text} is no UTF-8, which a path has to be to be granted")
    if not granted.startswith("/") or identity_of(os.lstat(granted)) != granted.identity:
        raise PolicyError(f"{field}: {text} is no file or folder with a name, and nothing else can be granted")
    if overlap := _scratch_overlap(granted):
        raise PolicyError(f"{field}: {text} {overlap}")
    if field == "write" and granted.identity in identities_around(_ZERO):
        raise PolicyError(
            f"{field}: {text} is or holds {_ZERO}, whose writable maps are shared memory that nothing counts; grant "
            "other files or folders"
        )


def check(field: str, path: GrantedPath) -> None:
    """Raise `PolicyError` unless `path` still names what was granted. It may name another file a moment later: the
    worker compares again."""
    with contextlib.suppress(OSError):
        if path.is_open() and path.identity == identity_of(os.lstat(path)):
            return
    raise PolicyError(f"{field}: {_brief(path)} {_changed(path)}")


def _changed(path: GrantedPath) -> str:
    """Return the end of the message for a path that no longer names what was granted."""
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            fact = f"a link to {_brief(os.readlink(path))} is in its place"
        elif path.inode and path.identity != identity_of(status):
            fact = f"another {'folder' if stat.S_ISDIR(status.st_mode) else 'file'} is in its place"
        else:
            fact = "a folder on the way is a link now" if path.descriptor < 0 else "its descriptor was closed"
    except OSError as error:
        fact = "it was removed or renamed" if error.errno in (errno.ENOENT, errno.ENOTDIR) else f"{error.strerror}"
    return f"is no longer what was granted: {fact}. If that is to be granted, make the policy again"


def _why_not(path: str, error: OSError) -> str:
    """Return the path and the reason why it can't be opened, with the remedy."""
    text = _brief(path)
    if error.errno == errno.ENOENT and os.path.islink(path):
        return f"{text} is a link to {_brief(os.readlink(path))}, which isn't there; grant a path that is there"
    if not os.path.isabs(path):
        text += f" (in {_brief(os.getcwd())})" if os.path.isdir(".") else ""
    return f"{text} {_REASONS.get(error.errno or 0, f'cannot be opened ({error.strerror}); check the path')}"


def _brief(path: str) -> str:
    return printable(repr(str(path)), 300)


def _scratch_overlap(granted: GrantedPath) -> str:
    """Return the relation of `granted` to the scratch directories, with the remedy; nothing if there is none."""
    with contextlib.suppress(OSError):  # there is no temporary directory
        for scratch in scratch_places():
            if relation := _relation(granted, scratch):
                return relation
    return ""


def _relation(granted: GrantedPath, scratch: str) -> str:
    """Return the relation of `granted` to this place of scratch directories, with the remedy."""
    if any(granted.identity in identities_around(way) for way in ways_to(scratch)):
        return (
            f"holds {_brief(scratch)}, where all plugins have their scratch directories; grant the folders in it "
            "that are needed, or set TMPDIR to a folder outside of it before this process starts"
        )
    with contextlib.suppress(OSError):  # no plugin has been started there yet
        if identity_of(os.lstat(scratch)) in identities_around(granted):
            return f"lies in {_brief(scratch)}, where plugins have their scratch directories; grant another place"
    return ""
