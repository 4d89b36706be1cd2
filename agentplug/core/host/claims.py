"""Decode a worker's own reports: refused calls and profiles (host).

Refused calls come from the worker only where the kernel doesn't report them. A plugin can forge both reports, so no
limit is enforced by them; at most one bounded frame of each precedes a reply.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentplug.contract.profile import Place, Stack
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import Violation
from agentplug.core.boundary.frames import Claim, Frame
from agentplug.core.profile import Profile


def claimed_events(frame: Frame) -> list[tuple[str, dict[str, Any]]]:
    """Return kind and detail of each event that a frame reports. Raises `Violation`."""
    if len(frame.structure) > wire.MAX_CLAIMS_BYTES or len(frame.blobs):
        raise Violation("a report of what was tried that is too large")
    try:
        claims = wire.decode_claims(frame.structure)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Violation("a report of what was tried that can't be decoded") from None
    events = [(claim.kind, {**_detail(claim), "source": "worker", "count": claim.count}) for claim in claims.calls]
    if claims.dropped:
        events.append(("dropped", {"what": "attempts", "source": "worker", "count": claims.dropped}))
    return events


def _detail(claim: Claim) -> dict[str, str]:
    match claim.kind:
        case "tried":
            return {"syscall": claim.how, "argument": claim.what}
        case "opened":
            return {"path": claim.what, "mode": "write" if claim.how == "write" else "read"}
        case "connected" | "bound":
            return {"address": claim.what, "protocol": claim.how}
        case "ran":
            return {"program": claim.what}
    return {}


def claimed_profile(frame: Frame, kind: str) -> Profile:
    """Return the profile that a frame reports; it must be of this `kind`. Raises `Violation`."""
    if len(frame.structure) > wire.MAX_PROFILE_BYTES or len(frame.blobs):
        raise Violation("a profile that is too large")
    try:
        profile = wire.decode_profile(frame.structure)
        places = [Place(site.function, site.file, site.line) for site in profile.sites]
        stacks = [Stack(s.weight, s.count, tuple(places[site] for site in s.sites)) for s in profile.stacks]
    except (msgspec.MsgspecError, UnicodeDecodeError, IndexError):
        raise Violation("a profile that can't be decoded") from None
    if profile.kind != kind:
        raise Violation("a profile of another kind than was asked for")
    stacks.sort(key=lambda stack: -stack.weight)
    return Profile(kind, tuple(stacks), profile.dropped, profile.missing)
