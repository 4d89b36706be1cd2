"""Takes a message to the hooks at its point, and makes one `Dispatch` of what they said (host).

Transforms come first, one after another, each with what those before made of it; then all vetoes at once, on the
final value; then observers, who are told what became of it, also of a message that was denied, and whom nobody waits
for. Every hook is asked whatever those before it said. In each kind the order is that of registration, which settles
ties.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Sequence
from typing import Any

from agentplug.contract.messages.message import AgentMessage
from agentplug.errors import AuditError
from agentplug.manager.hooks.hook import Answer, Hook, Sent
from agentplug.manager.hooks.records import (
    ALLOWED,
    CHANGED,
    DENIED,
    DROPPED,
    INVALID,
    KEPT,
    OBSERVED,
    QUEUED,
    REFUSED,
    SKIPPED,
    TIMEOUT,
    Dispatch,
    HookRecord,
    said,
)
from agentplug.manager.hooks.replies import BadReply, denial, transformed
from agentplug.manager.hooks.timing import within

HOOK_S = 5.0
"""What one hook may take for one message, its wait for a busy plugin included."""


class _Asked:
    """A hook that is being asked, as whatever it calls can see."""

    __slots__ = ("by", "hook", "now")

    def __init__(self, by: Dispatcher, hook: Hook) -> None:
        self.by, self.hook, self.now = by, hook, True


_asked: contextvars.ContextVar[tuple[_Asked, ...]] = contextvars.ContextVar("agentplug_asked", default=())


class Dispatcher:
    """`tell(kind, fields)` gets a line of what happened, for an audit: one a dispatch, one an observer's call."""

    def __init__(self, tell: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        self.tell = tell
        self.hook_s = HOOK_S

    async def dispatch(
        self, message: AgentMessage, hooks: Sequence[Hook], *, evaluate_only: bool = False
    ) -> Dispatch:
        """Ask `hooks`, all of them at the message's point and in order. Never raises for what a hook did."""
        if (inner := self._asked_now()) is not None:
            return self._told(self._refused(message, inner, evaluate_only))
        records: list[HookRecord] = []
        denials: list[tuple[str, str]] = []
        proposed = message
        for hook in hooks:
            if hook.kind == "transform":
                record, proposed = await self._transform(hook, proposed)
                records.append(record)
                self._note(hook, record, denials)
        vetoes = [hook for hook in hooks if hook.kind == "veto"]
        if vetoes:
            sent = Sent(proposed)
            if len(vetoes) == 1:
                answered = [await self._veto(vetoes[0], sent)]
            else:
                answered = await asyncio.gather(*(self._veto(hook, sent) for hook in vetoes))
            for hook, record in zip(vetoes, answered, strict=True):
                records.append(record)
                self._note(hook, record, denials)
        denied_by, reason = denials[0] if denials else (None, "")
        final = message if evaluate_only else proposed
        dispatch = Dispatch(
            message, final, proposed, evaluate_only or not denials, reason, denied_by, tuple(records), evaluate_only
        )
        observers = [hook for hook in hooks if hook.kind == "observe"]
        if observers:
            seen = Sent(proposed, dispatch)
            records += [self._queued(hook, seen) for hook in observers]
            dispatch = Dispatch(
                message, final, proposed, dispatch.allowed, reason, denied_by, tuple(records), evaluate_only
            )
        return self._told(dispatch)

    # ------------------------------------------------------------------ the three kinds

    async def _transform(self, hook: Hook, message: AgentMessage) -> tuple[HookRecord, AgentMessage]:
        sent = Sent(message)
        answer, duration_s = await self._ask(hook, sent)
        if not answer.failure:
            try:
                after = transformed(message, answer.value, lambda: sent.shown(hook.native), hook.name)
            except BadReply as bad:
                answer = Answer(None, INVALID, str(bad))
            else:
                hook.breaker.went(well=True)
                changed = after is not message
                return hook.record(CHANGED if changed else KEPT, duration_s, changed=changed), after
        return self._failed(hook, answer, duration_s), message

    async def _veto(self, hook: Hook, sent: Sent) -> HookRecord:
        answer, duration_s = await self._ask(hook, sent)
        if not answer.failure:
            try:
                reason = denial(answer.value)
            except BadReply as bad:
                answer = Answer(None, INVALID, str(bad))
            else:
                hook.breaker.went(well=True)
                return hook.record(ALLOWED if reason is None else DENIED, duration_s, reason or "")
        return self._failed(hook, answer, duration_s)

    def _queued(self, hook: Hook, sent: Sent) -> HookRecord:
        async def work() -> None:
            answer, duration_s = await self._ask(hook, sent)
            if answer.failure:
                record = self._failed(hook, answer, duration_s)
            else:
                hook.breaker.went(well=True)
                record = hook.record(OBSERVED, duration_s)
            if self.tell is not None:
                with contextlib.suppress(AuditError):  # the next dispatch meets it too, and its caller hears of it
                    self.tell("hook", {"message": sent.message.id, **record.to_dict()})

        if hook.queue.put(hook, work, sent.message.size_bytes):
            return hook.record(QUEUED)
        return hook.record(DROPPED, reason="its queue is full")

    # ------------------------------------------------------------------ asking

    async def _ask(self, hook: Hook, sent: Sent) -> tuple[Answer, float]:
        """What the hook returned, or why there is no answer; and how long it took."""
        if not hook.breaker.lets_through():
            return Answer(None, SKIPPED, "it failed too often in a row, and is left alone for a while"), 0.0
        asked = _Asked(self, hook)
        before = _asked.set((*_asked.get(), asked))
        begun = time.perf_counter()
        limit = asyncio.timeout(self.hook_s)
        try:
            answer = await within(limit, hook.call(sent))
            if answer.failure == SKIPPED:
                hook.breaker.stand_aside()
        except TimeoutError as error:
            answer = _raised(error)
            if limit.expired():
                answer = Answer(None, TIMEOUT, f"no answer within {self.hook_s:g} seconds")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                hook.breaker.stand_aside()
                raise
            answer = _raised(error)  # nobody cancelled us: the callback made it up
        except Exception as error:
            answer = _raised(error)
        finally:
            asked.now = False
            _asked.reset(before)
        return answer, time.perf_counter() - begun

    def _failed(self, hook: Hook, answer: Answer, duration_s: float) -> HookRecord:
        if answer.failure != SKIPPED:
            hook.breaker.went(well=False)
        return hook.record(answer.failure, duration_s, said(answer.reason))

    def _note(self, hook: Hook, record: HookRecord, denials: list[tuple[str, str]]) -> None:
        """Whether this record denies: a veto that does, or a hook that failed closed."""
        if record.outcome == DENIED:
            denials.append((hook.name, record.reason))
        elif record.outcome not in (KEPT, CHANGED, ALLOWED) and not hook.fail_open:
            denials.append((hook.name, f"{record.outcome}: {record.reason}" if record.reason else record.outcome))

    # ------------------------------------------------------------------ hooks that dispatch

    def _asked_now(self) -> Hook | None:
        for asked in _asked.get():
            if asked.by is self and asked.now:
                return asked.hook
        return None

    def _refused(self, message: AgentMessage, hook: Hook, evaluate_only: bool) -> Dispatch:
        """A hook that dispatches while it is asked would be asked again, and again."""
        reason = "a hook may not dispatch to the manager that asks it"
        record = hook.record(REFUSED, reason=reason)
        return Dispatch(message, message, message, False, reason, hook.name, (record,), evaluate_only)

    def _told(self, dispatch: Dispatch) -> Dispatch:
        if self.tell is not None:
            self.tell("dispatch", dispatch.to_dict())
        return dispatch


def _raised(error: BaseException) -> Answer:
    try:
        text = str(error)
    except Exception:
        text = ""
    return Answer(None, f"failed:{said(type(error).__name__)}", text)
