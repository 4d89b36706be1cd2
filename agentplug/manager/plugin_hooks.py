"""The hooks that a plugin asks for and its policy grants (host).

A plugin is called at a point if it asks for a kind of hook there and its policy grants the same kind. Other hooks
aren't called, and tables say so.
"""

from __future__ import annotations

from typing import Any

from agentplug.contract.grants import HOOK_KINDS, parse_grant
from agentplug.contract.messages.plain_json import strict
from agentplug.contract.plugin import AGENT_POINTS, HOOK_POINTS
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.encode import message_request
from agentplug.core.host.conversation import our_loop
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.trusted import TrustedPlugin
from agentplug.errors import PluginQuarantined
from agentplug.manager.hooks.hook import Answer, Hook, Sent
from agentplug.manager.hooks.observers import ObserverQueue
from agentplug.manager.hooks.records import SKIPPED


class PluginHooks:
    """The hooks of one registered plugin. `order` is its number in the order of registration."""

    def __init__(self, plugin: SandboxedPlugin | TrustedPlugin, policy: Policy, order: int) -> None:
        self.order = order
        self.queue = ObserverQueue(our_loop if isinstance(plugin, SandboxedPlugin) else None)
        self._plugin = plugin
        self._policy = plugin.policy if isinstance(plugin, SandboxedPlugin) else policy
        self._asked: dict[str, str] = {}
        self._hooks: dict[str, Hook] = {}

    def at(self, point: str, name: str) -> Hook | None:
        """Return the plugin's granted hook at `point`, or None. `name` is the plugin's name in the manager."""
        asked = self._plugin.hooks
        if asked != self._asked:  # a worker has just started and reported what the plugin asks for
            self._asked = dict(asked)
            self._hooks = {
                at: self._hooks.get(at) or self._hook(at, name)
                for at in AGENT_POINTS
                if at in asked and _why_not(at, asked[at], self._policy) is None
            }
        return self._hooks.get(point)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """List a row for each hook that it asks for, granted or not: see `PluginManager.hooks_frame`."""
        rows: list[dict[str, Any]] = []
        for point, kind in self._plugin.hooks.items():
            hook = self.at(point, name)
            if hook is not None:
                rows.append({**hook.row(), "granted": True, "detail": ""})
            else:
                asked = {"hook": printable(name, 100), "point": printable(point, 40), "kind": printable(kind, 40)}
                why = _why_not(point, kind, self._policy)
                rows.append({**asked, "by": "plugin", "granted": False, "detail": why or ""})
        return rows

    def summary(self) -> str:
        """Return a line with the hooks that the plugin asks for, and which of them aren't granted."""
        hooks = []
        for point, kind in self._plugin.hooks.items():
            granted = _why_not(point, kind, self._policy) is None
            hooks.append(f"{printable(point, 40)}: {printable(kind, 40)}{'' if granted else ' (not granted)'}")
        return ", ".join(hooks)

    def _hook(self, point: str, name: str) -> Hook:
        grant = parse_grant(self._policy.hooks[point])
        plugin = self._plugin

        async def call_worker(sent: Sent) -> Answer:
            assert isinstance(plugin, SandboxedPlugin)
            try:
                run = await plugin._inside.answer(sent.encoded(grant.native, message_request))
            except PluginQuarantined as error:  # nothing was called, so nothing failed
                return Answer(None, SKIPPED, str(error))
            verdict = run.verdict
            return Answer(run.value) if verdict.kind == "completed" else Answer(None, str(verdict), run.explain())

        async def call_here(sent: Sent) -> Answer:
            assert isinstance(plugin, TrustedPlugin)
            return Answer(await plugin.on_message(point, strict(sent.view(grant.native), "message")))

        if isinstance(plugin, SandboxedPlugin):
            return Hook(name, point, grant, self.order, call_worker, self.queue, share=plugin._inside.life.share)
        return Hook(name, point, grant, self.order, call_here, self.queue)


def _why_not(point: str, kind: str, policy: Policy) -> str | None:
    """Return the reason why a plugin isn't called at this point, or None if it is."""
    if point not in HOOK_POINTS:
        return f"there is no such point; the points are {', '.join(HOOK_POINTS)}"
    if point not in AGENT_POINTS:
        return "only callbacks of the host's own are called there"
    if kind not in HOOK_KINDS:
        return f"there is no such kind; the kinds are {', '.join(HOOK_KINDS)}"
    granted = policy.hooks.get(point)
    if granted is None:
        return f"not granted; Policy(hooks={{{point!r}: {kind!r}}}) would"
    if parse_grant(granted).kind != kind:
        return f"the policy grants {parse_grant(granted).kind} there"
    return None
