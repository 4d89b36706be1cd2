"""What hooks did to a message (host): one `HookRecord` a hook, and the `Dispatch` they make together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.text import printable
from agentplug.errors import HookDenied

MAX_REASON = 500

KEPT, CHANGED, ALLOWED, DENIED = "kept", "changed", "allowed", "denied"
QUEUED, DROPPED, OBSERVED = "queued", "dropped", "observed"
TIMEOUT, INVALID, SKIPPED, REFUSED = "timeout", "invalid", "skipped", "refused"
FINE = frozenset((KEPT, CHANGED, ALLOWED, DENIED, QUEUED, OBSERVED))


@dataclass(frozen=True, slots=True)
class HookRecord:
    """One hook and one message. `hook` is a plugin's name, or a callback's; `by` is `plugin` or `host`.

    `outcome`: `kept`, `changed` (transform); `allowed`, `denied` (veto); `queued`, and when its turn has come
    `observed` (observe); or why there was none: `dropped` (its queue was full), `timeout`, `invalid` (it returned
    what its kind may not), `skipped` (its breaker is open, or its plugin in quarantine: it wasn't called), `refused`
    (it was called from within itself), or the verdict of the call, such as `failed:ValueError`, `limited:memory`,
    `died:SIGSEGV`. `changed`: it replaced the payload.
    """

    hook: str
    point: str
    kind: str
    outcome: str
    duration_s: float = 0.0
    changed: bool = False
    reason: str = ""
    by: str = "plugin"

    def to_dict(self) -> dict[str, Any]:
        """Its fields, JSON-safe."""
        return {
            "hook": self.hook,
            "by": self.by,
            "point": self.point,
            "kind": self.kind,
            "outcome": self.outcome,
            "duration_s": self.duration_s,
            "changed": self.changed,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What became of one message. `message` is the one to go on with: the original, or what transforms made of it.

    `allowed`: no hook denied it, and none failed closed; else `reason` says why and `denied_by` which hook, the
    first in the order of registration where there are several. With `evaluate_only` nothing is enforced: `message`
    is the original and `allowed` is true, `proposed` is what transforms would have made, and `reason`, `denied_by`
    tell what would have been denied. `records` has one `HookRecord` a hook.
    """

    original: AgentMessage
    message: AgentMessage
    proposed: AgentMessage
    allowed: bool = True
    reason: str = ""
    denied_by: str | None = None
    records: tuple[HookRecord, ...] = ()
    evaluate_only: bool = False

    @property
    def changed(self) -> bool:
        """Transforms made another message of it."""
        return self.message is not self.original

    def copy(self) -> Dispatch:
        """The same, with messages of its own; which of them are one stays as it is."""
        copies = {id(of): of.copy() for of in (self.original, self.message, self.proposed)}
        return replace(
            self,
            original=copies[id(self.original)],
            message=copies[id(self.message)],
            proposed=copies[id(self.proposed)],
        )

    def check(self) -> AgentMessage:
        """The message to go on with. Raises `HookDenied`."""
        if not self.allowed:
            raise HookDenied(
                f"{printable(self.denied_by or 'a hook', 100)} denied the message at {self.original.point}: "
                f"{self.reason or 'no reason given'}"
            )
        return self.message

    def to_dict(self) -> dict[str, Any]:
        """For a log: what happened, JSON-safe, with digests of the message and not its content."""
        original, proposed = self.original, self.proposed
        digest = original.digest
        return {
            "message": original.id,
            "session_id": original.session_id,
            "seq": original.seq,
            "point": original.point,
            "digest": digest,
            "proposed_digest": digest if proposed is original else proposed.digest,
            "allowed": self.allowed,
            "reason": self.reason,
            "denied_by": self.denied_by,
            "changed": self.changed,
            "evaluate_only": self.evaluate_only,
            "hooks": [record.to_dict() for record in self.records],
        }

    def view(self, *, native: bool = False) -> dict[str, Any]:
        """The message as an observing plugin is sent it, not copied: what it has become, and under `dispatch` how."""
        shown = self.proposed.view(native=native)
        shown["dispatch"] = {
            "allowed": self.allowed,
            "reason": self.reason,
            "denied_by": self.denied_by,
            "evaluate_only": self.evaluate_only,
            "original": self.original.parts if self.proposed is not self.original else None,
        }
        return shown


def said(text: object) -> str:
    """A reason from a hook, harmless and bounded."""
    return printable(text[: 4 * MAX_REASON] if isinstance(text, str) else f"<{type(text).__name__}>", MAX_REASON)
