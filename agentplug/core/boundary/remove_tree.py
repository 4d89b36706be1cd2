"""Remove the directories that a plugin left (zygote and host), also those made to resist it."""

from __future__ import annotations

import contextlib
import os
import stat

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(root: str) -> None:
    """Remove a directory of any depth and permissions, without following links and without recursion.

    Each inner directory is moved up beside the root's children before it is emptied, so neither the length of paths
    nor the depth matters.
    """
    with contextlib.suppress(OSError):
        top = os.open(root, _FOLDER)
        try:
            _empty_tree(top)
        finally:
            os.close(top)
    with contextlib.suppress(OSError):
        os.rmdir(root)


def remove_root(root: int) -> None:
    """Remove an open folder with all that is in it; then the folder around it, unless that has others in it.

    They are removed under the names that they have now, from the folders in which they are. That takes no descriptor
    as long as the folder is empty.
    """
    here = f"/proc/self/fd/{root}"
    with contextlib.suppress(OSError):
        around, name = os.path.split(os.readlink(here))
        try:
            os.rmdir(f"{here}/../{name}")
        except FileNotFoundError:
            pass  # another process was faster
        except OSError:
            _empty_tree(root)
            os.rmdir(f"{here}/../{name}")
        os.rmdir(f"{here}/../../{os.path.basename(around)}")


def _empty_tree(top: int) -> None:
    serial = 0
    moved = True
    while moved:
        moved = False
        for name in _empty(top):
            with contextlib.suppress(OSError):
                os.chmod(name, 0o700, dir_fd=top)
                inner = os.open(name, _FOLDER, dir_fd=top)
                try:
                    for child in _empty(inner):
                        serial += 1
                        os.chmod(child, 0o700, dir_fd=inner)  # else rename(2) fails: it changes `..`
                        os.rename(child, f".wipe-{os.getpid()}-{serial}", src_dir_fd=inner, dst_dir_fd=top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
                moved = True


def _empty(folder: int) -> list[str]:
    """Unlink every file in an open directory; return the names of its directories."""
    folders = []
    for name in os.listdir(folder):
        try:
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                folders.append(name)
            else:
                os.unlink(name, dir_fd=folder)
        except OSError:
            continue
    return folders
