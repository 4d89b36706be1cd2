"""Propose pins, and verify plugins against their pins (host).

A confined worker reads the manifest (name, version, hooks, asked rights) from the plugin's code without running it.
Once the plugin runs, the claims of its own worker are compared with the manifest.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentplug.contract.plugin import HOOK_POINTS
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.boundary.frames import MAX_ASKED, MAX_NAME, MAX_RIGHT, MAX_VERSION
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.sources.names import near_match, quoted, quoted_path, shell_word
from agentplug.core.sources.source import Source
from agentplug.errors import AgentplugError, PinMismatch, PolicyError, SpecError
from agentplug.manager.pins.diff import PinnedClaims, differences, table_lines
from agentplug.manager.pins.lockfile import Lock, read_lock
from agentplug.manager.pins.pin import (
    RIGHTS,
    Manifest,
    Pin,
    allows,
    canonical,
    checked_right,
    checked_specifier,
    exceeding,
    rights_of,
    upgrade_command,
)
from agentplug.manager.pins.pylock import origins
from agentplug.manager.pins.remembered import refuse_older, remember
from agentplug.manager.pins.taking import Candidate, UnpinnableSource, refers_to, spec_of, take

_READER = "agentplug.plugins.manifest_reader"
_READER_POLICY = Policy(memory="256M", cpu_s=5, wall_s=20)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plugin that may be pinned: its new pin, its manifest, and its present pin, if it has one."""

    pin: Pin
    manifest: Manifest
    before: Pin | None = None

    @property
    def changes(self) -> list[str]:
        """The differences from the present pin, as lines of a diff."""
        if self.before is None:
            return []
        lines = differences(self.before, self.pin)
        return lines + table_lines("may be granted", self.before.rights, self.pin.rights)

    @property
    def wants_more(self) -> bool:
        """True if the asked or granted rights aren't those of the present pin, so that somebody has to agree."""
        old, new = self.before, self.pin
        return old is not None and (old.hooks, old.asks, old.rights) != (new.hooks, new.asks, new.rights)


async def read_manifest(candidate: Candidate) -> Manifest:
    """Read the manifest in the plugin's code, in a confined worker. Raises `SpecError` if there is none."""
    source = candidate.source
    code = next(module.code for module in source.modules if module.name == source.entry)
    asked = {"code": code, "attribute": source.attribute, "toml": candidate.metadata, "plugin": candidate.announced}
    async with SandboxedPlugin(_READER, _READER_POLICY) as reader:
        run = await reader.run(asked)
    try:
        reply = run.check()
    except AgentplugError as error:
        raise SpecError(f"the manifest of {quoted(source.spec)} can't be read: {error}") from None
    return _checked(reply, source)


def _checked(reply: Any, source: Source) -> Manifest:
    """Check the reader's reply, which is as untrusted as any, and make a manifest of it."""
    what = f"the manifest of {quoted(source.spec)}"
    if not isinstance(reply, dict) or "problem" in reply:
        problem = reply.get("problem") if isinstance(reply, dict) else "it is no table"
        raise SpecError(f"{what} can't be read without running it: {printable(str(problem), 500)}")
    for name, most in (("name", MAX_NAME), ("version", MAX_VERSION)):
        value = reply.get(name)
        if not isinstance(value, str) or not value or len(value) > most:
            raise SpecError(
                f'{what} has no {name}; write it in the class as a literal, like {name} = "…", '
                "or in a table [tool.agentplug]"
            )
    for name in ("hooks", "why"):
        if not _is_texts(reply.get(name, {})):
            raise SpecError(f"{what}: {name} is no dict of texts; write one as a literal")
    hooks, asks = reply.get("hooks", {}), reply.get("asks", {})
    if unknown := sorted(set(hooks) - set(HOOK_POINTS)):
        raise SpecError(f"{what} asks for the hook {quoted(unknown[0])}{near_match(unknown[0], HOOK_POINTS)}")
    return Manifest(reply["name"], reply["version"], hooks, _asked(asks, what), reply.get("why", {}))


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _asked(asks: object, what: str) -> dict[str, Any]:
    """Check the asked rights, and return them as a lock has them."""
    if not isinstance(asks, dict):
        raise SpecError(f"{what}: asks is no dict; write one like {{'network': [443]}}")
    rights: dict[str, Any] = {}
    for name, value in asks.items():
        if name not in RIGHTS or name == "hooks":
            raise SpecError(f"{what} asks for {quoted(str(name))}, which is no right{near_match(str(name), RIGHTS)}")
        try:
            rights[name] = checked_right(name, value)
        except PolicyError as error:
            raise SpecError(f"{what} asks for {name}: {error}") from None
        items = rights[name] if isinstance(rights[name], list) else []
        if len(items) > MAX_ASKED or any(len(str(item)) > MAX_RIGHT for item in items):
            raise SpecError(
                f"{what} asks for {name}: more than {MAX_ASKED} of them, or one of over {MAX_RIGHT:,} characters, "
                "which no worker reports; ask for the folder around them"
            )
    return rights


async def propose(
    spec: object, lock: Lock, rights: Mapping[str, Any] | None, specifier: str = "", pylock: str = ""
) -> Proposal:
    """Read the plugin that `spec` names and its manifest, for a pin in `lock`.

    `rights` are the rights that it may be granted; None leaves those of its present pin. `pylock` is the path of a
    PEP 751 file. Raises the errors of `take` and `read_manifest`, and `PinMismatch` for a version that the specifier
    doesn't allow, for the name of another plugin, and if the PEP 751 file has other versions.
    """
    candidate = take(spec, lock.home)
    manifest = await read_manifest(candidate)
    before = lock.pins.get(canonical(manifest.name))
    same = next((pin for pin in lock.pins.values() if refers_to(pin, candidate)), None)
    if before is not None and not refers_to(before, candidate):
        raise PinMismatch(
            f"{quoted(manifest.name)} is pinned already, from {quoted(before.spec)}, and "
            f"{quoted(candidate.pin.spec)} calls itself the same; rename one"
        )
    before = before or same
    specifier = checked_specifier(specifier) or (before.specifier if before is not None else "")
    version = replace(candidate.pin, version=manifest.version).release
    if not allows(specifier, version):
        raise PinMismatch(f"{quoted(manifest.name)} is version {printable(version, 100)}, which isn't {specifier}")
    granted = rights if rights is not None else before.rights if before is not None else {}
    new_spec = before.spec if before is not None and before.kind == "cell" else candidate.pin.spec
    origin = _origin(candidate.pin, before, pylock)
    pin = replace(candidate.pin, specifier=specifier, spec=new_spec, rights=dict(granted), origin=origin)
    return Proposal(_with_manifest(pin, manifest), manifest, before)


def _origin(pin: Pin, before: Pin | None, pylock: str) -> dict[str, str]:
    """Read the closure's origin from a PEP 751 file, or keep the present pin's for unchanged dependencies."""
    if pylock and not pin.distribution:
        raise SpecError(f"--pylock goes with plugins of installed distributions, and this is a {pin.kind}")
    if pylock:
        name, _, version = pin.distribution.rpartition(" ")
        needed = {key: text.partition(" ")[0] for key, text in pin.closure.items()}
        return origins(pylock, needed, {canonical(name): version})
    if before is None:
        return {}
    unchanged = {key for key, text in pin.closure.items() if before.closure.get(key) == text}
    return {entry: text for entry, text in before.origin.items() if entry.partition(" ")[0] in unchanged}


async def verified(path: object, spec: object, policy: Policy, *, required: bool = True) -> Source | None:
    """Return the source that `spec` names, if it matches its pin and `policy` grants no more than the pin's rights.

    The returned bytes are those that were compared: no path is read twice. Returns None for a plugin that isn't
    pinned, unless a pin is `required`. Raises `PinMismatch` with a diff, `LockError` (a `PinMismatch` too) for a lock
    that can't be read, and the errors of `take`.
    """
    lock = read_lock(path)
    try:
        candidate = await asyncio.to_thread(take, spec, lock.home)
    except UnpinnableSource:
        if required or any(pin.spec == spec for pin in lock.pins.values()):
            raise
        return None
    pin = next((pin for pin in lock.pins.values() if refers_to(pin, candidate)), None)
    if pin is None and not required:
        return None
    if pin is None:
        known = ", ".join(quoted(pin.spec) for pin in list(lock.pins.values())[:8]) or "nothing"
        raise PinMismatch(
            f"{quoted(candidate.pin.spec)} isn't pinned in {quoted_path(lock.path)}, which pins {known}. "
            f"Look at it, then: agentplug lock {shell_word(candidate.pin.spec)}"
        )
    current = _as_pinned(candidate.pin, pin)
    if differences(pin, current):
        lines = await _all_differences(pin, candidate)
        if current.kind != pin.kind:  # another module of that name, perhaps since sys.path changed
            place = next(module.path for module in candidate.source.modules if module.name == candidate.source.entry)
            lines.append(f"  what is here lies in {quoted_path(place)}")
        raise PinMismatch(
            f"Plugin {quoted(pin.name)} isn't what {quoted_path(lock.path)} pins (-) but (+), and wasn't loaded:\n"
            + "\n".join(lines)
            + f"\nRemedy: restore it, or look at the change and agree to it: {upgrade_command(pin.key)}"
        )
    refuse_older(lock.path, pin)
    granted = rights_of(policy, lock.home)
    if more := exceeding(granted, pin.rights):
        lines = table_lines(
            "may be granted", {n: pin.rights[n] for n in more if n in pin.rights}, {n: granted[n] for n in more}
        )
        raise PinMismatch(
            f"Plugin {quoted(pin.name)} would be granted more than {quoted_path(lock.path)} pins:\n"
            + "\n".join(lines)
            + f"\nRemedy: grant less, or agree to it: {upgrade_command(pin.key)}, with the rights as options"
        )
    tops = set(candidate.source.closure.files.tops) if candidate.source.closure is not None else set()
    if unpinned := sorted(name for name in policy.preload if name.partition(".")[0] in tops):
        raise PinMismatch(
            f"Plugin {quoted(pin.name)} needs {quoted(unpinned[0])} as it was pinned, and preload would have "
            "imported it from the disk before; leave it out of preload"
        )
    remember(lock.path, pin)
    return replace(candidate.source, pinned=PinnedClaims(pin.name, pin.version, pin.hooks, pin.asks))


def _as_pinned(current: Pin, pin: Pin) -> Pin:
    """Return `current` with the manifest of `pin`; a cell, which doesn't know its notebook, with its spec too."""
    same = ("name", "version", "specifier", "hooks", "asks", "rights", "origin")
    names = (*same, "spec") if pin.kind == "cell" else same
    return replace(current, **{name: getattr(pin, name) for name in names})


async def _all_differences(pin: Pin, candidate: Candidate) -> list[str]:
    """List all differences, also in the manifest if that can be read."""
    current = _as_pinned(candidate.pin, pin)
    lines = differences(pin, current)
    for name, digest in candidate.unix_digests.items():
        if pin.files.get(name) == digest:
            return [
                *lines,
                f"  only its line ends differ: {printable(name, 300)} has \\r\\n here, and \\n in the lock",
            ]
    try:
        manifest = await read_manifest(candidate)
    except AgentplugError as error:
        return lines or [f"+ {error}"]
    return differences(pin, _with_manifest(current, manifest)) or lines


def _with_manifest(pin: Pin, manifest: Manifest) -> Pin:
    hooks, asks = dict(manifest.hooks), dict(manifest.asks)
    return replace(pin, name=manifest.name, version=manifest.version, hooks=hooks, asks=asks)


async def check(lock: Lock) -> dict[str, list[str]]:
    """Compare all plugins in `lock` with their pins; return the differences by plugin, without unchanged plugins."""
    changed: dict[str, list[str]] = {}
    for key, pin in lock.pins.items():
        try:
            lines = await _all_differences(pin, take(spec_of(pin, lock.home), lock.home))
        except AgentplugError as error:
            lines = [f"- {pin.spec}", f"+ {error}"]
        if lines:
            changed[key] = lines
    return changed


def short_path(lock: Lock) -> str:
    """Return the lock's path, relative to the current directory if it lies below that."""
    try:
        near = os.path.relpath(lock.path)
    except (OSError, ValueError):
        return lock.path
    return lock.path if near.startswith("..") else near
