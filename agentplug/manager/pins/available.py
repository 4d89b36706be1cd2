"""List and inspect the plugins that installed packages announce (host), without importing or running any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentplug.contract.plugin import AGENT_POINTS
from agentplug.contract.text import printable
from agentplug.core.sources.entrypoints import announced
from agentplug.errors import AgentplugError, PinMismatch
from agentplug.manager.pins.lockfile import Lock
from agentplug.manager.pins.verify import Proposal, propose
from agentplug.report.consent import Consent, asked_rows


@dataclass(frozen=True, slots=True)
class Available:
    """One announced plugin: its entry point, its package, and a proposal to pin it, or the problem with that."""

    entry_point: str
    value: str
    package: str
    proposal: Proposal | None
    problem: str = ""
    edited: bool = False  # the package's files differ from its RECORD

    @property
    def pinned(self) -> str:
        """`yes`, `no`, `changed`, or `unknown` if the plugin can't be read."""
        if self.proposal is None:
            return "changed" if self.edited else "unknown"
        if self.proposal.before is None:
            return "no"
        return "changed" if self.proposal.changes else "yes"

    def row(self) -> dict[str, str]:
        """Return this plugin's row in a list of plugins, as texts."""
        proposal = self.proposal
        asks = consent_of(proposal).asks if proposal is not None else {}
        rights = "; ".join(_list_asked(asks)) or "nothing"
        return {
            "name": printable(self.entry_point, 100),
            "version": printable(proposal.pin.version, 60) if proposal is not None else "",
            "from": printable(self.package, 100),
            "entry": printable(self.value, 200),
            "asks for": rights if proposal is not None else printable(self.problem, 300),
            "pinned": self.pinned,
        }


def _list_asked(asks: Mapping[str, Any]) -> list[str]:
    """List the rights that a plugin asks for, and each kind of hook with its points."""
    hooks = asks.get("hooks", {})
    words = [what for what, _, _ in asked_rows({right: asks[right] for right in asks if right != "hooks"}, {}, {})]
    for kind in dict.fromkeys(hooks.values()):
        points = [point for point, asked in hooks.items() if asked == kind]
        where = "all agent points" if set(points) >= set(AGENT_POINTS) else ", ".join(points)
        words.append(printable(f"{kind} at {where}", 200))
    return words


async def available(lock: Lock) -> list[Available]:
    """List all plugins announced under `agentplug.plugins`, by name, and compare them with `lock`."""
    plugins = []
    for name, value, package in announced():
        try:
            plugins.append(Available(name, value, package, await propose(name, lock, None)))
        except AgentplugError as error:
            edited = isinstance(error, PinMismatch)
            plugins.append(Available(name, value, package, None, str(error), edited))
    return plugins


def consent_of(proposal: Proposal) -> Consent:
    """Return a proposal's consent card."""
    pin, manifest, pinned = proposal.pin, proposal.manifest, proposal.before is not None
    asks = {**manifest.asks, "hooks": manifest.hooks} if manifest.hooks else manifest.asks
    origin = f"{pin.spec} ({pin.distribution or pin.kind}, {pin.digest[:19]}…)"
    return Consent(pin.name, pin.version, origin, asks, manifest.why, pin.rights, proposal.changes, pinned)
