"""Pinning plugins and holding them to their pins (host): on top of `sources.pins`, and a worker to read manifests.

The manifest comes first: name, version, hooks and asked rights are read from the code by a confined worker and never
by running it; and once the plugin runs, what its own worker reports is compared with that.
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
from agentplug.manager.pins.taking import Taken, UnpinnableSource, refers_to, spec_of, take

_READER = "agentplug.plugins.manifest_reader"
_READER_POLICY = Policy(memory="256M", cpu_s=5, wall_s=20)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plugin that is about to be pinned: what it says and asks, what it is pinned as so far, what changed."""

    pin: Pin
    manifest: Manifest
    before: Pin | None = None

    @property
    def changes(self) -> list[str]:
        """What differs from the pin there is, as lines of a diff."""
        if self.before is None:
            return []
        lines = differences(self.before, self.pin)
        return lines + table_lines("may be granted", self.before.rights, self.pin.rights)

    @property
    def wants_more(self) -> bool:
        """It asks for, or is granted, other rights than those in its pin: somebody has to agree."""
        old = self.before
        return old is not None and (old.hooks, old.asks, old.rights) != (
            self.pin.hooks,
            self.pin.asks,
            self.pin.rights,
        )


async def read_manifest(taken: Taken) -> Manifest:
    """What the plugin's code says of it, read in a confined worker. Raises `SpecError` where that can't be read."""
    source = taken.source
    code = next(module.code for module in source.modules if module.name == source.entry)
    asked = {"code": code, "attribute": source.attribute, "toml": taken.metadata, "plugin": taken.announced}
    async with SandboxedPlugin(_READER, _READER_POLICY) as reader:
        run = await reader.run(asked)
    try:
        found = run.check()
    except AgentplugError as error:
        raise SpecError(f"the manifest of {quoted(source.spec)} can't be read: {error}") from None
    return _checked(found, source)


def _checked(found: Any, source: Source) -> Manifest:
    """A manifest of what the reader returned, which is a claim like any reply."""
    what = f"the manifest of {quoted(source.spec)}"
    if not isinstance(found, dict) or "problem" in found:
        told = found.get("problem") if isinstance(found, dict) else "it is no table"
        raise SpecError(f"{what} can't be read without running it: {printable(str(told), 500)}")
    for name, most in (("name", MAX_NAME), ("version", MAX_VERSION)):
        value = found.get(name)
        if not isinstance(value, str) or not value or len(value) > most:
            raise SpecError(
                f'{what} has no {name}; write it in the class as a literal, like {name} = "…", '
                "or in a table [tool.agentplug]"
            )
    for name in ("hooks", "why"):
        if not _is_texts(found.get(name, {})):
            raise SpecError(f"{what}: {name} is no dict of texts; write one as a literal")
    hooks, asks = found.get("hooks", {}), found.get("asks", {})
    if unknown := sorted(set(hooks) - set(HOOK_POINTS)):
        raise SpecError(f"{what} asks for the hook {quoted(unknown[0])}{near_match(unknown[0], HOOK_POINTS)}")
    return Manifest(found["name"], found["version"], hooks, _asked(asks, what), found.get("why", {}))


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _asked(asks: object, what: str) -> dict[str, Any]:
    """The rights asked for, each with a value that a policy takes."""
    if not isinstance(asks, dict):
        raise SpecError(f"{what}: asks is no dict; write one like {{'network': [443]}}")
    found: dict[str, Any] = {}
    for name, value in asks.items():
        if name not in RIGHTS or name == "hooks":
            raise SpecError(f"{what} asks for {quoted(str(name))}, which is no right{near_match(str(name), RIGHTS)}")
        try:
            found[name] = checked_right(name, value)
        except PolicyError as error:
            raise SpecError(f"{what} asks for {name}: {error}") from None
        items = found[name] if isinstance(found[name], list) else []
        if len(items) > MAX_ASKED or any(len(str(item)) > MAX_RIGHT for item in items):
            raise SpecError(
                f"{what} asks for {name}: more than {MAX_ASKED} of them, or one of over {MAX_RIGHT:,} characters, "
                "which no worker reports; ask for the folder around them"
            )
    return found


async def propose(
    spec: object, lock: Lock, rights: Mapping[str, Any] | None, specifier: str = "", pylock: str = ""
) -> Proposal:
    """Read the plugin that `spec` names, its manifest too, for a pin in `lock`.

    `rights` is what it may be granted; None leaves what its pin has. `pylock` is the path of a PEP 751 file. Raises
    what `take` and `read_manifest` do, and `PinMismatch` for a version that the specifier doesn't allow, for a name
    that is another plugin's, and where the PEP 751 file has other versions.
    """
    taken = take(spec, lock.home)
    manifest = await read_manifest(taken)
    before = lock.pins.get(canonical(manifest.name))
    same = next((pin for pin in lock.pins.values() if refers_to(pin, taken)), None)
    if before is not None and not refers_to(before, taken):
        raise PinMismatch(
            f"{quoted(manifest.name)} is pinned already, from {quoted(before.spec)}, and {quoted(taken.pin.spec)} "
            "calls itself the same; rename one"
        )
    before = before or same
    specifier = checked_specifier(specifier) or (before.specifier if before is not None else "")
    version = replace(taken.pin, version=manifest.version).release
    if not allows(specifier, version):
        raise PinMismatch(f"{quoted(manifest.name)} is version {printable(version, 100)}, which isn't {specifier}")
    granted = rights if rights is not None else before.rights if before is not None else {}
    spec_kept = before.spec if before is not None and before.kind == "cell" else taken.pin.spec
    origin = _origin(taken.pin, before, pylock)
    pin = replace(taken.pin, specifier=specifier, spec=spec_kept, rights=dict(granted), origin=origin)
    return Proposal(_saying(pin, manifest), manifest, before)


def _origin(pin: Pin, before: Pin | None, pylock: str) -> dict[str, str]:
    """What a PEP 751 file says of the closure; without one, what was taken over before, as far as it is unchanged."""
    if pylock and not pin.distribution:
        raise SpecError(f"--pylock goes with plugins of installed distributions, and this is a {pin.kind}")
    if pylock:
        name, _, version = pin.distribution.rpartition(" ")
        needed = {key: text.partition(" ")[0] for key, text in pin.closure.items()}
        return origins(pylock, needed, {canonical(name): version})
    if before is None:
        return {}
    kept = {key for key, text in pin.closure.items() if before.closure.get(key) == text}
    return {entry: text for entry, text in before.origin.items() if entry.partition(" ")[0] in kept}


async def verified(path: object, spec: object, policy: Policy, *, required: bool = True) -> Source | None:
    """The source that `spec` names, if it is what the lock pins and `policy` grants no more than that.

    What was compared is what is returned, and no path is read twice. None for what isn't pinned and isn't `required`
    to be. Raises `PinMismatch` with a diff, `LockError` (one too) for a lock that can't be read, and what `take`
    raises.
    """
    lock = read_lock(path)
    try:
        taken = await asyncio.to_thread(take, spec, lock.home)
    except UnpinnableSource:
        if required or any(pin.spec == spec for pin in lock.pins.values()):
            raise
        return None
    pin = next((pin for pin in lock.pins.values() if refers_to(pin, taken)), None)
    if pin is None and not required:
        return None
    if pin is None:
        known = ", ".join(quoted(pin.spec) for pin in list(lock.pins.values())[:8]) or "nothing"
        raise PinMismatch(
            f"{quoted(taken.pin.spec)} isn't pinned in {quoted_path(lock.path)}, which pins {known}. "
            f"Look at it, then: agentplug lock {shell_word(taken.pin.spec)}"
        )
    found = _as_pinned(taken.pin, pin)
    if differences(pin, found):
        lines = await _whole_difference(pin, taken)
        if found.kind != pin.kind:  # another one of that name, or it is looked for in other places
            place = next(module.path for module in taken.source.modules if module.name == taken.source.entry)
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
    tops = set(taken.source.closure.files.tops) if taken.source.closure is not None else set()
    if unpinned := sorted(name for name in policy.preload if name.partition(".")[0] in tops):
        raise PinMismatch(
            f"Plugin {quoted(pin.name)} needs {quoted(unpinned[0])} as it was pinned, and preload would have "
            "imported it from the disk before; leave it out of preload"
        )
    remember(lock.path, pin)
    return replace(taken.source, pinned=PinnedClaims(pin.name, pin.version, pin.hooks, pin.asks))


def _as_pinned(found: Pin, pin: Pin) -> Pin:
    """What was found, with the manifest of the pin: the same bytes say the same. Cells don't know their notebook."""
    spec = pin.spec if pin.kind == "cell" else found.spec
    return replace(
        found,
        name=pin.name,
        version=pin.version,
        specifier=pin.specifier,
        spec=spec,
        hooks=pin.hooks,
        asks=pin.asks,
        rights=pin.rights,
        origin=pin.origin,
    )


async def _whole_difference(pin: Pin, taken: Taken) -> list[str]:
    """Also in what the plugin says and asks, as far as that can be read; none where nothing differs."""
    found = _as_pinned(taken.pin, pin)
    lines = differences(pin, found)
    for name, digest in taken.other_ends.items():
        if pin.files.get(name) == digest:
            return [
                *lines,
                f"  only its line ends differ: {printable(name, 300)} has \\r\\n here, and \\n in the lock",
            ]
    try:
        manifest = await read_manifest(taken)
    except AgentplugError as error:
        return lines or [f"+ {error}"]
    return differences(pin, _saying(found, manifest)) or lines


def _saying(pin: Pin, manifest: Manifest) -> Pin:
    """`pin` with what the plugin says of itself."""
    name, version, hooks, asks = manifest.name, manifest.version, dict(manifest.hooks), dict(manifest.asks)
    return replace(pin, name=name, version=version, hooks=hooks, asks=asks)


async def check(lock: Lock) -> dict[str, list[str]]:
    """By plugin, in which way what is here differs from its pin; only of those that do."""
    found: dict[str, list[str]] = {}
    for key, pin in lock.pins.items():
        try:
            lines = await _whole_difference(pin, take(spec_of(pin, lock.home), lock.home))
        except AgentplugError as error:
            lines = [f"- {pin.spec}", f"+ {error}"]
        if lines:
            found[key] = lines
    return found


def shown_path(lock: Lock) -> str:
    """The lock's path as seen from the current directory, if it lies below that."""
    try:
        near = os.path.relpath(lock.path)
    except (OSError, ValueError):
        return lock.path
    return lock.path if near.startswith("..") else near
