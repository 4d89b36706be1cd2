"""Hooks (host): the host's callbacks, and the dispatcher that sends messages to them and to plugins.

`table` holds the callbacks; `hook` is one hook, a callback's or a plugin's; `dispatcher` calls them in order and
collects the answers in a `Dispatch`; `observers` queues messages for observers; `breaker` pauses hooks that keep
failing.
"""

from agentplug.manager.hooks.dispatcher import Dispatcher
from agentplug.manager.hooks.hook import Hook
from agentplug.manager.hooks.records import Dispatch, HookRecord
from agentplug.manager.hooks.table import HookHandle, HookTable

__all__ = ["Dispatch", "Dispatcher", "Hook", "HookHandle", "HookRecord", "HookTable"]
