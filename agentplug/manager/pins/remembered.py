"""The newest version of each pinned plugin that was loaded here (host), to refuse a lock that was put back.

An old lock with an old plugin or dependency matches in every byte. So each lock's newest versions are stored outside
of its folder, in a small file in `$XDG_STATE_HOME/agentplug`, or in this process alone if that can't be written.
`agentplug lock` agrees to an older version.
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

_in_this_process: dict[str, dict[str, str]] = {}
_lock = threading.Lock()


def refuse_older(place: str, pin: Pin) -> None:
    """Raise `PinMismatch` if a newer version of the plugin or of a dependency was loaded with the lock at `place`."""
    newest = _newest(place)
    lines = []
    for name, version in _releases(pin).items():
        if name in newest and is_older(version, newest[name]):
            what = f"dependency {name.partition(' ')[2]}" if " " in name else "version"
            lines += [f"- {what}: {printable(newest[name], 100)}", f"+ {what}: {printable(version, 100)}"]
    if lines:
        diff = "\n".join(lines)
        raise PinMismatch(
            f"{quoted_path(place)} was put back: it pins {quoted(pin.name)}, of which a newer version was loaded:\n"
            f"{diff}\nRemedy: restore the newer lock, or agree to the older version: {upgrade_command(pin.key)}"
        )


def remember(place: str, pin: Pin) -> None:
    """Store the pin's versions, which were loaded or agreed to."""
    newest, releases = _newest(place), _releases(pin)
    if releases.items() <= newest.items():
        return
    with _lock:
        _in_this_process.setdefault(place, {}).update(releases)
    with contextlib.suppress(OSError):
        folder, file = _state(place)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _remove_orphans(folder)
        temporary = f"{file}.{os.getpid()}.{threading.get_ident()}"
        with open(temporary, "w", encoding="utf-8") as new:
            json.dump({"lock": place, "versions": {**newest, **releases}}, new)
        os.replace(temporary, file)


def _releases(pin: Pin) -> dict[str, str]:
    """Return the pinned version of the plugin, by its key, and of each dependency, by `KEY NAME`."""
    needed = {f"{pin.key} {name}": text.partition(" ")[0] for name, text in pin.closure.items()}
    return {pin.key: pin.release, **needed} if pin.release else needed


def _newest(place: str) -> dict[str, str]:
    versions = _read(_state(place)[1]).get("versions")
    stored = versions.items() if isinstance(versions, dict) else ()
    return {**{key: text for key, text in stored if isinstance(text, str)}, **_in_this_process.get(place, {})}


def _state(place: str) -> tuple[str, str]:
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = os.path.join(home, "agentplug")
    return folder, os.path.join(folder, hashlib.sha256(os.fsencode(place)).hexdigest()[:32] + ".json")


def _read(file: str) -> dict[str, Any]:
    try:
        with open(file, encoding="utf-8") as stored:
            state = json.load(stored)
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _remove_orphans(folder: str) -> None:
    """Remove the files of locks that no longer exist."""
    for name in os.listdir(folder):
        place = _read(os.path.join(folder, name)).get("lock")
        if isinstance(place, str) and not os.path.exists(place):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
