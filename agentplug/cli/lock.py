"""`agentplug lock` and `agentplug list` (host): show, ask, write, and return an exit status."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentplug.contract.text import printable
from agentplug.core.host.conversation import wait_for
from agentplug.core.sources.names import near_match, quoted
from agentplug.errors import PinMismatch, SpecError
from agentplug.manager.pins.available import available, consent_of
from agentplug.manager.pins.lockfile import Lock, read_lock
from agentplug.manager.pins.pin import Pin, canonical, split_specifier, upgrade_command
from agentplug.manager.pins.remembered import remember
from agentplug.manager.pins.taking import spec_of
from agentplug.manager.pins.verify import Proposal, check, propose, short_path
from agentplug.manager.pins.writing import update_lock

if TYPE_CHECKING:
    from rich.console import Console


def check_lock(console: Console, path: str) -> int:
    """Compare all pins with the installed plugins. 0, or 1 with a diff."""
    lock = read_lock(path)
    changed = wait_for(check(lock))
    for key, lines in changed.items():
        _print(console, f"--- {key} as {short_path(lock)} pins it", f"+++ {key} as it is here", *lines)
    if not changed:
        _print(console, f"{len(lock.pins)} pinned in {short_path(lock)}, all unchanged")
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
    """Pin `specs`, and pin the plugins named in `upgrade` anew. 0, or 1 if some plugin wasn't pinned.

    `rights` are the most that a policy may grant each of them; None: as before.
    """
    lock = read_lock(path, missing_ok=True)
    wanted = [split_specifier(text) for text in specs]
    names = [canonical(name) for name in upgrade]
    for name in names:
        if name not in lock.pins:
            hint = near_match(name, lock.pins) or f"; {short_path(lock)} has {', '.join(lock.pins) or 'none'}"
            raise SpecError(f"--upgrade: no plugin {quoted(name)} is pinned{hint}")
    wanted += [(spec_of(lock.pins[name], lock.home), lock.pins[name].specifier) for name in names]
    status = 0
    for spec, specifier in wanted:
        proposal = wait_for(propose(spec, lock, rights, specifier, pylock))
        if not _agreed(console, lock, proposal, asked=proposal.pin.key in names, yes=yes):
            status = 1
            continue
        lock = update_lock(lock.path, functools.partial(_apply, proposal))
        remember(lock.path, proposal.pin)
    return status


def _agreed(console: Console, lock: Lock, proposal: Proposal, *, asked: bool, yes: bool) -> bool:
    """Show the proposal and ask if somebody has to agree. True if it may be written."""
    pin, before, changes = proposal.pin, proposal.before, proposal.changes
    _print(console, *consent_of(proposal).lines())
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
    return console.input(f"Pin this in {short_path(lock)}? [y/N] ").strip().lower() in ("y", "yes")


def _apply(proposal: Proposal, pins: dict[str, Pin]) -> None:
    """Put the proposed pin into `pins`. Raises `PinMismatch` if somebody else pinned the plugin meanwhile."""
    pin, before = proposal.pin, proposal.before
    here = pins.get(before.key if before is not None else pin.key)
    if here not in (before, pin):
        raise PinMismatch(f"{quoted(pin.name)} was pinned by somebody else meanwhile; look at it and try again")
    if before is not None:
        pins.pop(before.key, None)
    pins[pin.key] = pin


def list_available(console: Console, path: str) -> int:
    """List the plugins that installed packages announce. 0, or 1 if one has changed since it was pinned."""
    from rich.table import Table
    from rich.text import Text

    plugins = wait_for(available(read_lock(path, missing_ok=True)))
    if not plugins:
        _print(console, "No installed package announces a plugin (entry points of the group agentplug.plugins).")
        return 0
    rows = [plugin.row() for plugin in plugins]
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(text) for text in row.values()))
    console.print(table)
    return 1 if any(plugin.pinned == "changed" for plugin in plugins) else 0


def _print(console: Console, *lines: str) -> None:
    from rich.text import Text

    for text in lines:
        style = {"-": "red", "+": "green"}.get(text.lstrip()[:1], "")
        console.print(Text(printable(text, 2_000), style=style), soft_wrap=True)
