"""Loading and unloading (host): everything that the extension adds to a shell, and removes again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentplug.core.host.launcher import close_unused, zygote_for
from agentplug.core.host.output import stream_to
from agentplug.jupyter import leftovers
from agentplug.jupyter.completion import matcher
from agentplug.jupyter.magics import NAMES, AgentplugMagics
from agentplug.jupyter.session import close_session, open_session
from agentplug.jupyter.streaming import sink_maker

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class _Extension:
    """The parts of the extension in one shell: session, magics, completion, the sink of output."""

    def __init__(self, ip: InteractiveShell) -> None:
        self.ip = ip
        self._warm_up = threading.Thread(target=_warm_up, name="agentplug-warm-up", daemon=True)
        self._warm_up.start()
        self.session = open_session(ip)
        self.magics = AgentplugMagics(ip, self.session)
        self.matcher: Callable[[Any], Any] = matcher(self.session, self.magics)
        ip.register_magics(self.magics)
        ip.Completer.custom_matchers.append(self.matcher)
        ip.input_transformers_cleanup.append(_with_body)
        stream_to(sink_maker())

    def remove(self) -> None:
        stream_to(None)
        with contextlib.suppress(ValueError):
            self.ip.Completer.custom_matchers.remove(self.matcher)
        with contextlib.suppress(ValueError):
            self.ip.input_transformers_cleanup.remove(_with_body)
        manager = self.ip.magics_manager
        for kind, names in NAMES.items():
            for name in names:
                function = manager.magics[kind].get(name)
                if getattr(function, "__self__", None) is self.magics:  # else it is the user's
                    del manager.magics[kind][name]
        manager.registry.pop(type(self.magics).__name__, None)
        leftovers.remove_all()
        close_session(self.ip)
        self._warm_up.join()
        close_unused()


_extensions: dict[int, _Extension] = {}


def load_ipython_extension(ip: InteractiveShell) -> None:
    """Add the extension to `ip`, for `%load_ext agentplug`. A second call changes nothing."""
    if id(ip) not in _extensions:
        _extensions[id(ip)] = _Extension(ip)


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """Remove the extension from `ip`, for `%unload_ext agentplug`: its plugins, live views and processes too.

    A zygote that still has workers, of plugins made without the extension, ends with the last of them.
    """
    if id(ip) in _extensions:
        _extensions.pop(id(ip)).remove()


def _with_body(lines: list[str]) -> list[str]:
    """Give a cell that is nothing but a line of ours an empty body: IPython calls no cell magic without one."""
    if len(lines) == 1 and lines[0].startswith(tuple(f"%%{name}" for name in NAMES["cell"])):
        return [f"{lines[0].rstrip()}\n", "\n"]
    return lines


def _warm_up() -> None:
    """Start a zygote ahead of the first plugin. An error is raised later, when a plugin is started."""
    with contextlib.suppress(Exception):
        zygote_for()
