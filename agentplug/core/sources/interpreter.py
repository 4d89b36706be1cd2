"""The folders of this interpreter's library and its installed packages (host).

A worker imports from there by itself. Everything else on `sys.path`, such as a project's directory, is out of its
reach and must be sent. The folders are read once, as a zygote's path is.
"""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig

_PACKAGE = os.path.abspath(__file__).rpartition("/core/")[0]
_PACKAGES = ("site-packages", "dist-packages")


@functools.cache
def installed_folders() -> tuple[str, ...]:
    """Return the folders of the standard library, installed packages and agentplug itself, links unresolved."""
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    # An environment may extend others, which its .pth file puts on the path, as `uv run --with` does.
    folders += [os.path.abspath(path) for path in sys.path if os.path.basename(path.rstrip("/")) in _PACKAGES]
    folders.append(_PACKAGE)  # also when it runs from a checkout
    return tuple(dict.fromkeys(folders))


@functools.cache
def installed_roots() -> tuple[str, ...]:
    """Return the installed folders with links resolved."""
    return tuple(dict.fromkeys(os.path.realpath(folder) for folder in installed_folders()))


def is_under(path: str, roots: tuple[str, ...]) -> bool:
    """True if `path`, with links resolved, is one of `roots` or lies below one."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)
