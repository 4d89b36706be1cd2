"""Where installed code lives, which a worker can import by itself (host).

Everything else, such as a project directory on `sys.path`, is out of a worker's reach and has to be sent to it.
"""

from __future__ import annotations

import os
import site
import sysconfig


def installed_roots() -> tuple[str, ...]:
    """The directories of the standard library, of site-packages and of agentplug itself, links resolved."""
    paths = sysconfig.get_paths()
    roots = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    roots += site.getsitepackages()
    if site.ENABLE_USER_SITE:
        roots.append(site.getusersitepackages())
    roots.append(os.path.dirname(os.path.dirname(__file__)))  # also when it runs from a checkout
    return tuple(dict.fromkeys(os.path.realpath(root) for root in roots))


def is_under(path: str, roots: tuple[str, ...]) -> bool:
    """Whether `path`, links resolved already, is one of `roots` or lies below one."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)
