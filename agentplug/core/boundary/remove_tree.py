"""Remove the directories that a plugin left (zygote and host), also those made to resist it."""

from __future__ import annotations

import contextlib
import os
import stat


def remove_tree(root: str) -> None:
    """Remove a directory of any depth and permissions, without following links and without recursion.

    Each inner directory is moved up beside the root's children before it is emptied, so neither the length of paths
    nor the depth matters.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        top = os.open(root, flags)
    except OSError:
        return
    serial = 0
    moved = True
    try:
        while moved:
            moved = False
            for name in _empty(top):
                with contextlib.suppress(OSError):
                    os.chmod(name, 0o700, dir_fd=top)
                    inner = os.open(name, flags, dir_fd=top)
                    try:
                        for child in _empty(inner):
                            serial += 1
                            os.chmod(child, 0o700, dir_fd=inner)  # else rename(2) fails: it changes `..`
                            os.rename(child, f".wipe-{os.getpid()}-{serial}", src_dir_fd=inner, dst_dir_fd=top)
                    finally:
                        os.close(inner)
                    os.rmdir(name, dir_fd=top)
                    moved = True
    finally:
        os.close(top)
    with contextlib.suppress(OSError):
        os.rmdir(root)


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
