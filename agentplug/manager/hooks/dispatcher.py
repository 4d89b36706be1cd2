"""Send a message to the hooks at its point, and collect their answers in one `Dispatch` (host).

First come the transforms, one after another, each with the result of the one before; then all vetoes at once, on the
final message; then observers, which also see denied messages, and which nobody waits for. Every hook is called,
whatever the hooks before it answered. Within each kind hooks are called in the order of registration.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from agentplug.contract.messages.message import AgentMessage
from agentplug.core.decoders import in_turns
from agentplug.errors import AuditError
from agentplug.manager.hooks.hook import Answer, Hook, Sent
from agentplug.manager.hooks.records import (
    ALLOWED,
    CHANGED,
    DENIED,
    DROPPED,
    INVALID,
    OBSERVED,
    QUEUED,
    REFUSED,
    SKIPPED,
    TIMEOUT,
    UNCHANGED,
    Dispatch,
    HookRecord,
    bounded_text,
)
from agentplug.manager.hooks.replies import FEW_VALUES, BadReply, check_size, denial, transformed, value_count
from agentplug.manager.hooks.timing import within

HOOK_S = 5.0
"""The time limit of one hook for one message, with its wait for a busy plugin."""


class _Call:
    """A call of a hook, which is None once it is over: a loop keeps a cancelled timer for a while, with its context.
    The context variable makes it visible to all code that the hook runs."""

    __slots__ = ("dispatcher", "hook")

    def __init__(self, dispatcher: Dispatcher, hook: Hook) -> None:
        self.dispatcher: Dispatcher | None = dispatcher
        self.hook: Hook | None = hook

    def end(self) -> None:
        """Let go of the hook, and of the plugin behind it."""
        self.dispatcher = self.hook = None


_calls: contextvars.ContextVar[tuple[_Call, ...]] = contextvars.ContextVar("agentplug_hook_calls", default=())


class Dispatcher:
    """A caller of hooks. `record(kind, fields)` writes to an audit: each dispatch, and each call of an observer."""

    def __init__(self, record: Callable[[str, dict[str, Any]], None] | None) -> None:
        self._record = record
        self.hook_s = HOOK_S

    async def dispatch(
        self, message: AgentMessage, hooks: Sequence[Hook], *, evaluate_only: bool = False
    ) -> Dispatch:
        """Call `hooks`, all at the message's point and in order. Never raises for what a hook did."""
        if (inner := self._running_hook()) is not None:
            return self._recorded(self._refused(message, inner, evaluate_only))
        records: list[HookRecord] = []
        denials: list[tuple[str, str]] = []
        proposed = message
        for hook in hooks:
            if hook.kind == "transform":
                record, proposed = await self._transform(hook, proposed)
                records.append(record)
                _collect_denial(hook, record, denials)
        vetoes = [hook for hook in hooks if hook.kind == "veto"]
        if vetoes:
            sent = Sent(proposed)
            if len(vetoes) == 1:
                answered = [await self._veto(vetoes[0], sent)]
            else:
                answered = await asyncio.gather(*(self._veto(hook, sent) for hook in vetoes))
            for hook, record in zip(vetoes, answered, strict=True):
                records.append(record)
                _collect_denial(hook, record, denials)
        denied_by, reason = denials[0] if denials else (None, "")
        final = message if evaluate_only else proposed
        dispatch = Dispatch(
            message, final, proposed, evaluate_only or not denials, reason, denied_by, tuple(records), evaluate_only
        )
        observers = [hook for hook in hooks if hook.kind == "observe"]
        if observers:
            sent = Sent(proposed, dispatch)
            records += [self._queued(hook, sent) for hook in observers]
            dispatch = replace(dispatch, records=tuple(records))
        return self._recorded(dispatch)

    # ------------------------------------------------------------------ the three kinds

    async def _transform(self, hook: Hook, message: AgentMessage) -> tuple[HookRecord, AgentMessage]:
        sent = Sent(message)

        def check(reply: Any) -> AgentMessage:
            if hook.share is not None:
                check_size(message, reply)
            return transformed(message, reply, lambda: sent.view(hook.native), hook.name)

        answer, duration_s = await self._checked(hook, sent, check)
        if answer.failure:
            return _failed(hook, answer, duration_s), message
        changed = answer.value is not message
        return hook.record(CHANGED if changed else UNCHANGED, duration_s, changed=changed), answer.value

    async def _veto(self, hook: Hook, sent: Sent) -> HookRecord:
        answer, duration_s = await self._checked(hook, sent, denial)
        if answer.failure:
            return _failed(hook, answer, duration_s)
        return hook.record(ALLOWED if answer.value is None else DENIED, duration_s, answer.value or "")

    def _queued(self, hook: Hook, sent: Sent) -> HookRecord:
        async def work() -> None:
            answer, duration_s = await self._checked(hook, sent, lambda reply: None)
            record = _failed(hook, answer, duration_s) if answer.failure else hook.record(OBSERVED, duration_s)
            if self._record is not None:
                with contextlib.suppress(AuditError):  # nobody waits for this; the next dispatch raises it
                    self._record("hook", {"message": sent.message.id, **record.to_dict()})

        if hook.queue.put(hook, work, sent.message.size_bytes):
            return hook.record(QUEUED)
        return hook.record(DROPPED, reason="its queue is full")

    # ------------------------------------------------------------------ asking

    async def _checked(self, hook: Hook, sent: Sent, check: Callable[[Any], Any]) -> tuple[Answer, float]:
        """Call a hook and `check` its answer; return the result and the time of the call in seconds.

        A transform's long answer is checked on a decoding thread.
        """
        answer, duration_s = await self._call(hook, sent)
        if not answer.failure:
            try:
                value = answer.value
                if hook.share is None or hook.kind != "transform" or value_count(value, FEW_VALUES) <= FEW_VALUES:
                    answer = Answer(check(value))
                else:
                    checking = in_turns(hook.share, 0, lambda pace: check(value))
                    answer = Answer(await asyncio.wrap_future(checking))
            except BadReply as bad:
                answer = Answer(None, INVALID, str(bad))
            except asyncio.CancelledError:
                hook.breaker.cancel()
                raise
        if answer.failure != SKIPPED:
            hook.breaker.record(success=not answer.failure)
        return answer, duration_s

    async def _call(self, hook: Hook, sent: Sent) -> tuple[Answer, float]:
        """Call a hook; return its answer and the time taken in seconds."""
        if not hook.breaker.allows_call():
            return Answer(None, SKIPPED, "it failed too often in a row, and is left alone for a while"), 0.0
        call = _Call(self, hook)
        before = _calls.set((*_calls.get(), call))
        begun = time.perf_counter()
        limit = asyncio.timeout(self.hook_s)
        try:
            answer = await within(limit, hook.call(sent))
            if answer.failure == SKIPPED:
                hook.breaker.cancel()
        except TimeoutError as error:
            answer = _raised(error)
            if limit.expired():
                answer = Answer(None, TIMEOUT, f"no answer within {self.hook_s:g} seconds")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                hook.breaker.cancel()
                raise
            answer = _raised(error)  # nobody cancelled this task: the callback raised it
        except Exception as error:
            answer = _raised(error)
        finally:
            call.end()
            _calls.reset(before)
        return answer, time.perf_counter() - begun

    # ------------------------------------------------------------------ hooks that dispatch

    def _running_hook(self) -> Hook | None:
        return next((call.hook for call in _calls.get() if call.dispatcher is self), None)

    def _refused(self, message: AgentMessage, hook: Hook, evaluate_only: bool) -> Dispatch:
        """Refuse a dispatch by a hook that is running, which would be called again without end."""
        reason = "a hook may not dispatch to the manager that asks it"
        record = hook.record(REFUSED, reason=reason)
        return Dispatch(message, message, message, False, reason, hook.name, (record,), evaluate_only)

    def _recorded(self, dispatch: Dispatch) -> Dispatch:
        if self._record is not None:
            self._record("dispatch", dispatch.to_dict())
        return dispatch


def _failed(hook: Hook, answer: Answer, duration_s: float) -> HookRecord:
    return hook.record(answer.failure, duration_s, bounded_text(answer.reason))


def _collect_denial(hook: Hook, record: HookRecord, denials: list[tuple[str, str]]) -> None:
    """Add a veto's denial, or the failure of a hook that fails closed, to `denials`."""
    if record.outcome == DENIED:
        denials.append((hook.name, record.reason))
    elif record.outcome not in (UNCHANGED, CHANGED, ALLOWED) and not hook.fail_open:
        denials.append((hook.name, f"{record.outcome}: {record.reason}" if record.reason else record.outcome))


def _raised(error: BaseException) -> Answer:
    try:
        text = str(error)
    except Exception:
        text = ""
    return Answer(None, f"failed:{bounded_text(type(error).__name__)}", text)
