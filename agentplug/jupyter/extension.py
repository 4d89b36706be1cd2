"""Loading and unloading (host): everything that the extension puts into a shell, and takes out again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentplug.core.host.launcher import warm_up
from agentplug.core.host.output import stream_to
from agentplug.jupyter.completion import matcher
from agentplug.jupyter.magics import NAMES, AgentplugMagics
from agentplug.jupyter.session import close_session, open_session
from agentplug.jupyter.streaming import sink_maker

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class _Loaded:
    """What was put into one shell."""

    def __init__(self, ip: InteractiveShell) -> None:
        self.ip = ip
        self.session = open_session(ip)
        self.magics = AgentplugMagics(ip, self.session)
        self.matcher: Callable[[Any], Any] = matcher(self.session, self.magics)

    def put_in(self) -> None:
        self.ip.register_magics(self.magics)
        self.ip.Completer.custom_matchers.append(self.matcher)
        stream_to(sink_maker())

    def take_out(self) -> None:
        stream_to(None)
        with contextlib.suppress(ValueError):
            self.ip.Completer.custom_matchers.remove(self.matcher)
        manager = self.ip.magics_manager
        for kind, names in NAMES.items():
            for name in names:
                function = manager.magics[kind].get(name)
                if getattr(function, "__self__", None) is self.magics:  # the user may have put another there
                    del manager.magics[kind][name]
        manager.registry.pop(type(self.magics).__name__, None)
        close_session(self.ip)


_loaded: dict[int, _Loaded] = {}


def load(ip: InteractiveShell) -> None:
    """Put the extension into `ip`, unless it is there."""
    if id(ip) in _loaded:
        return
    threading.Thread(target=_warm_up, name="agentplug-warm-up", daemon=True).start()
    loaded = _Loaded(ip)
    loaded.put_in()
    _loaded[id(ip)] = loaded


def unload(ip: InteractiveShell) -> None:
    """Take it out of `ip`, and close the plugins of its session."""
    loaded = _loaded.pop(id(ip), None)
    if loaded is not None:
        loaded.take_out()


def _warm_up() -> None:
    """Start a zygote ahead of the first plugin. What goes wrong here is told when a plugin is started."""
    with contextlib.suppress(Exception):
        warm_up()
