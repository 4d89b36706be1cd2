"""The newest version of each pinned plugin that was loaded here (host), so that an older lock is noticed.

An old lock beside an old plugin, or beside an old dependency of it, fits in every byte. So each lock's newest
versions are remembered outside of its folder, in `$XDG_STATE_HOME/agentplug`, one small file a lock; where that can't
be written, for this process alone.
`agentplug lock` is how somebody agrees to go back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from typing import Any

from agentplug.contract.text import printable
from agentplug.core.sources.names import quoted, quoted_path
from agentplug.errors import PinMismatch
from agentplug.manager.pins.pin import Pin, is_older, upgrade_command

_here: dict[str, dict[str, str]] = {}
_lock = threading.Lock()


def refuse_older(place: str, pin: Pin) -> None:
    """Raise `PinMismatch` if the lock at `place` pinned a newer version when it was last loaded here.

    A newer version of the plugin, or of what it depends on.
    """
    newest = _newest(place)
    lines = []
    for name, version in _releases(pin).items():
        if name in newest and is_older(version, newest[name]):
            what = f"dependency {name.partition(' ')[2]}" if " " in name else "version"
            lines += [f"- {what}: {printable(newest[name], 100)}", f"+ {what}: {printable(version, 100)}"]
    if lines:
        told = "\n".join(lines)
        raise PinMismatch(
            f"{quoted_path(place)} was put back: it pins {quoted(pin.name)}, of which a newer version was loaded:\n"
            f"{told}\nRemedy: restore the newer lock, or agree to the older version: {upgrade_command(pin.key)}"
        )


def remember(place: str, pin: Pin) -> None:
    """These versions were loaded, or somebody agreed to them."""
    newest, releases = _newest(place), _releases(pin)
    if releases.items() <= newest.items():
        return
    with _lock:
        _here.setdefault(place, {}).update(releases)
    with contextlib.suppress(OSError):
        folder, file = _state(place)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _forget_the_gone(folder)
        temporary = f"{file}.{os.getpid()}.{threading.get_ident()}"
        with open(temporary, "w", encoding="utf-8") as new:
            json.dump({"lock": place, "versions": {**newest, **releases}}, new)
        os.replace(temporary, file)


def _releases(pin: Pin) -> dict[str, str]:
    """The version that is pinned of the plugin, by its key, and of each dependency, by `KEY NAME`."""
    needed = {f"{pin.key} {name}": text.partition(" ")[0] for name, text in pin.closure.items()}
    return {pin.key: pin.release, **needed} if pin.release else needed


def _newest(place: str) -> dict[str, str]:
    return {**_versions(_read(_state(place)[1])), **_here.get(place, {})}


def _state(place: str) -> tuple[str, str]:
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = os.path.join(home, "agentplug")
    return folder, os.path.join(folder, hashlib.sha256(os.fsencode(place)).hexdigest()[:32] + ".json")


def _read(file: str) -> dict[str, Any]:
    try:
        with open(file, encoding="utf-8") as held:
            found = json.load(held)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _versions(state: dict[str, Any]) -> dict[str, str]:
    versions = state.get("versions")
    if not isinstance(versions, dict):
        return {}
    return {key: text for key, text in versions.items() if isinstance(text, str)}


def _forget_the_gone(folder: str) -> None:
    """Remove what is remembered of locks that aren't there any more."""
    for name in os.listdir(folder):
        place = _read(os.path.join(folder, name)).get("lock")
        if isinstance(place, str) and not os.path.exists(place):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
