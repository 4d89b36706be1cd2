"""What could be loaded, and what would be agreed to (host): lists and cards in a notebook; nothing is imported."""

from __future__ import annotations

from dataclasses import replace

from agentplug.contract.policy import Policy
from agentplug.core.host.conversation import wait_for
from agentplug.errors import AgentplugError
from agentplug.manager.pins.available import ConsentCard, available
from agentplug.manager.pins.lockfile import NAME, read_lock
from agentplug.manager.pins.pin import exceeding, rights_of
from agentplug.manager.pins.verify import propose
from agentplug.report.html import esc, table

_NONE = "No installed package announces a plugin (entry points of the group agentplug.plugins)."


class AvailableList:
    """What `%plugins --available` shows: one row a plugin that an installed package announces. `found` has them."""

    def __init__(self) -> None:
        self.found = wait_for(available(read_lock(NAME, missing_ok=True)))
        self.rows = [plugin.row() for plugin in self.found]

    def __repr__(self) -> str:
        if not self.rows:
            return _NONE
        lines = [list(self.rows[0]), *(list(row.values()) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in lines)
        return "\n".join(line.rstrip() for line in shown)

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{_NONE}</p>"
        return table(list(self.rows[0]), [[esc(text, 300) for text in row.values()] for row in self.rows])


def consent(source: object, policy: Policy | None = None) -> ConsentCard | None:
    """The card of what would be agreed to by pinning `source`, with the rights of `policy` if it goes beyond its pin.

    None where that can't be read, or where there is nothing to agree to: it is as it was pinned.
    """
    try:
        lock = read_lock(NAME, missing_ok=True)
        proposal = wait_for(propose(source, lock, None))
        granted = rights_of(policy or Policy(), lock.home)
        if exceeding(granted, proposal.pin.rights):
            proposal = replace(proposal, pin=replace(proposal.pin, rights=granted))
    except AgentplugError:
        return None
    return ConsentCard(proposal) if proposal.before is None or proposal.changes else None
