"""The scratch root of a zygote: a folder in which its workers have their scratch directories (host).

All roots of a user lie in one private folder in the temporary directory. Policies refuse to grant it, or a folder
around it. A plugin that another host lets read the temporary directory can't reach them either: this folder can't be
listed, the names in it can't be guessed, and workers can't change modes. Roots are held by descriptor from mkdir to
rmdir, wherever their paths come to lead. The last root takes the folder around it along.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat

from agentplug.contract.scratch_place import Identity, identities_around, remember_place, scratch_place, ways_to
from agentplug.contract.text import printable
from agentplug.core.boundary.remove_tree import remove_root
from agentplug.core.host.own_limits import low_limits
from agentplug.errors import BarrierUnavailable

_HIDDEN, _PRIVATE = 0o300, 0o700
_MOST_PATH_BYTES = 3_000  # of PATH_MAX, so that plugins can make folders in it
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ScratchRoot:
    """An open scratch root. `around` identifies the folders whose grant would grant this one too."""

    def __init__(self) -> None:
        """Make the folder. Raises `BarrierUnavailable`, or `OSError` if no descriptor is left."""
        folder = ""
        try:
            place = scratch_place()
            folder = f" in {printable(os.path.dirname(place), 300)}"
            self.path, self.descriptor = _make(place)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            raise BarrierUnavailable(
                f"No worker can be started: its scratch directory can't be made{folder}: {error.strerror or error}. "
                f"Set TMPDIR to a folder that this user may write to, before this process starts{low_limits()}"
            ) from None
        place = os.path.dirname(self.path)
        remember_place(place)
        self.around: set[Identity] = set().union(*map(identities_around, ways_to(place)))

    def scratch_of(self, name: str) -> str:
        """Return a path to the scratch directory `name` that leads through the descriptor."""
        return f"/proc/self/fd/{self.descriptor}/{name}"

    def remove(self) -> None:
        """Remove the folder and all that is in it, and close it."""
        if self.descriptor >= 0:
            remove_root(self.descriptor)
        self.abandon()

    def abandon(self) -> None:
        """Close the folder and leave it to another process."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _make(place: str) -> tuple[str, int]:
    """Make a root in the folder `place`, which is made if it isn't there. Return its path and descriptor."""
    if len(os.fsencode(place)) > _MOST_PATH_BYTES:
        raise OSError(f"the path is longer than {_MOST_PATH_BYTES} bytes")
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, _HIDDEN)
        try:
            return _make_in(place)
        except FileNotFoundError:
            continue  # another host has just removed its last root, and the folder with it
        except NotADirectoryError:  # somebody else has taken the name
            place = f"{scratch_place()}-{secrets.token_hex(16)}"
        except OSError:
            with contextlib.suppress(OSError):
                os.rmdir(place)
            raise


def _make_in(place: str) -> tuple[str, int]:
    name = secrets.token_hex(16)
    folder = os.open(place, os.O_PATH | _FOLDER)
    try:
        if not _is_private(os.fstat(folder)):
            raise NotADirectoryError
        os.mkdir(name, _PRIVATE, dir_fd=folder)
        try:
            return f"{place}/{name}", os.open(name, os.O_RDONLY | _FOLDER, dir_fd=folder)
        except OSError:
            os.rmdir(name, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def _is_private(status: os.stat_result) -> bool:
    """Return true for a folder of this user that nobody can have open to list it: its mode was never another."""
    return status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == _HIDDEN
