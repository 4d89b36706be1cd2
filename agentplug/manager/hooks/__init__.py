"""Hooks (host): the callbacks of the host's own, and the dispatcher that takes messages to them and to plugins.

`table` holds callbacks; `hook` is one hook, whoever it belongs to; `dispatcher` asks them in order and makes a
`Dispatch` of what they said; `observers` queues what nobody waits for; `breaker` spares those that keep failing.
"""

from agentplug.manager.hooks.dispatcher import Dispatcher
from agentplug.manager.hooks.hook import Hook
from agentplug.manager.hooks.records import Dispatch, HookRecord
from agentplug.manager.hooks.table import HookHandle, HookTable

__all__ = ["Dispatch", "Dispatcher", "Hook", "HookHandle", "HookRecord", "HookTable"]
