"""The newest version of each pinned plugin that was loaded here (host), so that an older lock is noticed.

An old lock beside an old plugin fits in every byte. So each lock's newest versions are remembered outside of its
folder, in `$XDG_STATE_HOME/agentplug`, one small file a lock; where that can't be written, for this process alone.
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
from agentplug.errors import PinMismatch
from agentplug.sources.names import quoted, quoted_path
from agentplug.sources.pins.pin import Pin, is_older, upgrade_command

_here: dict[str, dict[str, str]] = {}
_lock = threading.Lock()


def refuse_older(place: str, pin: Pin) -> None:
    """Raise `PinMismatch` if the lock at `place` pinned a newer version when it was last loaded here."""
    newest = _newest(place).get(pin.key, "")
    if newest and is_older(pin.release, newest):
        raise PinMismatch(
            f"{quoted_path(place)} was put back: it pins {quoted(pin.name)}, of which a newer version was loaded:\n"
            f"- version: {printable(newest, 100)}\n+ version: {printable(pin.release, 100)}\n"
            f"Remedy: restore the newer lock, or agree to the older version: {upgrade_command(pin.key)}"
        )


def remember(place: str, pin: Pin) -> None:
    """This version was loaded, or somebody agreed to it."""
    newest = _newest(place)
    if newest.get(pin.key) == pin.release or not pin.release:
        return
    with _lock:
        _here.setdefault(place, {})[pin.key] = pin.release
    with contextlib.suppress(OSError):
        folder, file = _state(place)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _forget_the_gone(folder)
        temporary = f"{file}.{os.getpid()}.{threading.get_ident()}"
        with open(temporary, "w", encoding="utf-8") as new:
            json.dump({"lock": place, "versions": {**newest, pin.key: pin.release}}, new)
        os.replace(temporary, file)


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
