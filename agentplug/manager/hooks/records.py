"""The result of a dispatch (host): one `HookRecord` a hook, and the `Dispatch` of them all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.text import printable
from agentplug.errors import HookDenied

MAX_REASON = 500

UNCHANGED, CHANGED, ALLOWED, DENIED = "kept", "changed", "allowed", "denied"
QUEUED, DROPPED, OBSERVED = "queued", "dropped", "observed"
TIMEOUT, INVALID, SKIPPED, REFUSED = "timeout", "invalid", "skipped", "refused"
FINE = frozenset((UNCHANGED, CHANGED, ALLOWED, DENIED, QUEUED, OBSERVED))


@dataclass(frozen=True, slots=True)
class HookRecord:
    """One hook's outcome for one message. `hook` is the name of a plugin or callback; `by` is `plugin` or `host`.

    `outcome`: `kept`, `changed` (transform); `allowed`, `denied` (veto); `queued`, and later `observed` (observe).
    Without an answer: `dropped` (the queue was full), `timeout`, `invalid` (the hook returned a value that its kind
    may not), `skipped` (the breaker is open or the plugin in quarantine, so the hook wasn't called), `refused` (the
    hook dispatched a message itself), or the verdict of the call, like `failed:ValueError`, `limited:memory` or
    `died:SIGSEGV`. `changed`: the hook replaced the parts.
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
        """Return the fields, JSON-safe."""
        names = ("hook", "by", "point", "kind", "outcome", "duration_s", "changed", "reason")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The result for one message. `message` is the one to use from now on: the original, or the transforms' result.

    `allowed`: no hook denied the message, and none failed closed; otherwise `denied_by` names the first such hook in
    the order of registration, and `reason` its reason. With `evaluate_only` nothing is enforced: `message` is the
    original and `allowed` is true, `proposed` is the transforms' result, and `denied_by` and `reason` are those of
    the denial that wasn't enforced. `records` has one `HookRecord` a hook.
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
        """True if transforms replaced the message."""
        return self.message is not self.original

    def copy(self) -> Dispatch:
        """Return a copy with copies of the messages; messages that were one object remain one."""
        copies = {id(of): of.copy() for of in (self.original, self.message, self.proposed)}
        return replace(
            self,
            original=copies[id(self.original)],
            message=copies[id(self.message)],
            proposed=copies[id(self.proposed)],
        )

    def check(self) -> AgentMessage:
        """Return the message to use from now on. Raises `HookDenied`."""
        if not self.allowed:
            raise HookDenied(
                f"{printable(self.denied_by or 'a hook', 100)} denied the message at {self.original.point}: "
                f"{self.reason or 'no reason given'}"
            )
        return self.message

    def to_dict(self) -> dict[str, Any]:
        """Return the result for a log, JSON-safe, with digests of the message instead of its content."""
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
        """Return the message for an observing plugin, not copied: the final one, with the result in `dispatch`."""
        view = self.proposed.view(native=native)
        view["dispatch"] = {
            "allowed": self.allowed,
            "reason": self.reason,
            "denied_by": self.denied_by,
            "evaluate_only": self.evaluate_only,
            "original": self.original.parts if self.proposed is not self.original else None,
        }
        return view


def bounded_text(text: object) -> str:
    """Return a hook's text, harmless and bounded."""
    return printable(text[: 4 * MAX_REASON] if isinstance(text, str) else f"<{type(text).__name__}>", MAX_REASON)
