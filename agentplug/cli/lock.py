"""What `agentplug lock` and `agentplug list` do (host): they show, ask, write, and answer with an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentplug.contract.text import printable
from agentplug.core.host.conversation import wait_for
from agentplug.core.sources.names import near_match, quoted
from agentplug.errors import PinMismatch, SpecError
from agentplug.manager.pins.available import available, card_values
from agentplug.manager.pins.lockfile import Lock, read_lock
from agentplug.manager.pins.pin import Pin, canonical, split_specifier, upgrade_command
from agentplug.manager.pins.remembered import remember
from agentplug.manager.pins.taking import spec_of
from agentplug.manager.pins.verify import Proposal, check, propose, shown_path
from agentplug.manager.pins.writing import update_lock
from agentplug.report.consent import consent_lines

if TYPE_CHECKING:
    from rich.console import Console


def check_lock(console: Console, path: str) -> int:
    """Compare all that is pinned with what is here. 0, or 1 with a diff."""
    lock = read_lock(path)
    changed = wait_for(check(lock))
    for key, lines in changed.items():
        _print(console, f"--- {key} as {shown_path(lock)} pins it", f"+++ {key} as it is here", *lines)
    if not changed:
        _print(console, f"{len(lock.pins)} pinned in {shown_path(lock)}, all unchanged")
    return 1 if changed else 0


def lock_plugins(
    console: Console,
    path: str,
    specs: Sequence[str],
    upgrade: Sequence[str],
    rights: dict[str, Any] | None,
    *,
    yes: bool,
    pylock: str = "",
) -> int:
    """Pin `specs`, and pin those named in `upgrade` anew. 0, or 1 where something was left as it was.

    `rights`, if given, is what each of them may be granted.
    """
    lock = read_lock(path, missing_ok=True)
    wanted = [split_specifier(text) for text in specs]
    names = [canonical(name) for name in upgrade]
    for name in names:
        if name not in lock.pins:
            hint = near_match(name, lock.pins) or f"; {shown_path(lock)} has {', '.join(lock.pins) or 'none'}"
            raise SpecError(f"--upgrade: no plugin {quoted(name)} is pinned{hint}")
    wanted += [(spec_of(lock.pins[name], lock.home), lock.pins[name].specifier) for name in names]
    status = 0
    for spec, specifier in wanted:
        proposal = wait_for(propose(spec, lock, rights, specifier, pylock))
        if not _agreed(console, lock, proposal, asked=proposal.pin.key in names, yes=yes):
            status = 1
            continue
        lock = update_lock(lock.path, _Change(proposal).apply)
        remember(lock.path, proposal.pin)
    return status


def _agreed(console: Console, lock: Lock, proposal: Proposal, *, asked: bool, yes: bool) -> bool:
    """Show what is proposed, and ask where somebody has to agree. Whether to write it."""
    pin, before, changes = proposal.pin, proposal.before, proposal.changes
    _print(console, *consent_lines(**card_values(proposal)))
    if before is not None and not changes and (pin.specifier, pin.origin) == (before.specifier, before.origin):
        return True
    if before is not None and changes and not asked:
        _print(console, f"not pinned anew; to agree to this: {upgrade_command(pin.key)}")
        return False
    if yes or (before is not None and not proposal.wants_more):
        return True
    if not sys.stdin.isatty():
        if before is None:
            return True  # the command itself says to pin it; there was nothing to compare it with
        _print(console, f"not pinned anew: its rights changed; to agree: {upgrade_command(pin.key)} --yes")
        return False
    return console.input(f"Pin this in {shown_path(lock)}? [y/N] ").strip().lower() in ("y", "yes")


class _Change:
    """Puts one pin into the lock, if what it was compared with is still there."""

    def __init__(self, proposal: Proposal) -> None:
        self._proposal = proposal

    def apply(self, pins: dict[str, Pin]) -> None:
        """Alter `pins`. Raises `PinMismatch` where somebody else pinned that plugin meanwhile."""
        pin, before = self._proposal.pin, self._proposal.before
        here = pins.get(before.key if before is not None else pin.key)
        if here not in (before, pin):
            raise PinMismatch(f"{quoted(pin.name)} was pinned by somebody else meanwhile; look at it and try again")
        if before is not None:
            pins.pop(before.key, None)
        pins[pin.key] = pin


def list_available(console: Console, path: str) -> int:
    """List the plugins that installed packages announce. 0, or 1 where one has changed since it was pinned."""
    from rich.table import Table
    from rich.text import Text

    found = wait_for(available(read_lock(path, missing_ok=True)))
    if not found:
        _print(console, "No installed package announces a plugin (entry points of the group agentplug.plugins).")
        return 0
    rows = [plugin.row() for plugin in found]
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(text) for text in row.values()))
    console.print(table)
    return 1 if any(plugin.pinned == "changed" for plugin in found) else 0


def _print(console: Console, *lines: str) -> None:
    from rich.text import Text

    for text in lines:
        style = {"-": "red", "+": "green"}.get(text.lstrip()[:1], "")
        console.print(Text(printable(text, 2_000), style=style), soft_wrap=True)
