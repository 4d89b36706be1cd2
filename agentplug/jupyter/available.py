"""The list of installed plugins and the consent card (host), in a notebook. No plugin is imported."""

from __future__ import annotations

from dataclasses import replace

from agentplug.contract.policy import Policy
from agentplug.core.host.conversation import wait_for
from agentplug.errors import AgentplugError
from agentplug.manager.pins.available import available, consent_of
from agentplug.manager.pins.lockfile import NAME, read_lock
from agentplug.manager.pins.pin import exceeding, rights_of
from agentplug.manager.pins.verify import propose
from agentplug.report.aligned import aligned
from agentplug.report.consent import Consent
from agentplug.report.html import esc, table

_NONE = "No installed package announces a plugin (entry points of the group agentplug.plugins)."


class AvailableList:
    """The value of `%plugins --available`: one row for each plugin that an installed package announces."""

    def __init__(self) -> None:
        self.rows = [plugin.row() for plugin in wait_for(available(read_lock(NAME, missing_ok=True)))]

    def __repr__(self) -> str:
        return aligned(self.rows) if self.rows else _NONE

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{_NONE}</p>"
        return table(list(self.rows[0]), [[esc(text, 300) for text in row.values()] for row in self.rows])


def consent(source: object, policy: Policy | None = None) -> Consent | None:
    """Return the consent card for pinning `source`, with the rights of `policy` if they exceed those of its pin.

    None if the lock or the source can't be read, or if the plugin is as it was pinned.
    """
    try:
        lock = read_lock(NAME, missing_ok=True)
        proposal = wait_for(propose(source, lock, None))
        granted = rights_of(policy or Policy(), lock.home)
        if exceeding(granted, proposal.pin.rights):
            proposal = replace(proposal, pin=replace(proposal.pin, rights=granted))
    except AgentplugError:
        return None
    return consent_of(proposal) if proposal.before is None or proposal.changes else None
