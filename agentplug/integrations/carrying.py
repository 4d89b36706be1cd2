"""Transforms carried back into a framework's own objects (host).

These stay as they are wherever no transform changed them; a part that was changed is put into the very object that
it came from. What can't be put back denies the message: what a plugin asked to change goes on changed, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

from agentplug.errors import HookDenied
from agentplug.integrations.bridge import Trail, error_of, since, tool_response
from agentplug.manager.hooks import Dispatch

M = TypeVar("M")
T = TypeVar("T")


class Place(NamedTuple):
    """Where a part stands: in which message, and where in it, as the adapter says."""

    message: int
    where: Any
    part: dict[str, Any]


class Carrier(Protocol[M]):
    """How an adapter changes one message of its framework. None changes the message it is given."""

    def put(self, message: M, where: Any, part: dict[str, Any]) -> M:
        """The message with `part` there."""

    def drop(self, message: M, where: Any) -> M | None:
        """The message without what is there; None if nothing is left."""

    def fresh(self, part: dict[str, Any]) -> M:
        """A new message of one part."""


def carry(
    messages: Sequence[M], places: Sequence[Place], dispatch: Dispatch, carrier: Carrier[M], head: int = 0
) -> list[M]:
    """`messages` as transforms left them: the same objects, but where a part was changed, added or taken away.

    The first `head` messages, the instructions say, stay first.

    Raises `HookDenied` for what can't be carried.
    """
    kept: list[M | None] = list(messages)
    before, after = dispatch.original.parts, dispatch.message.parts
    if before == after:
        return list(messages)
    if len(before) != len(places):
        uncarried(dispatch, "the message was too large to be shown whole")
    added: dict[int, list[M]] = {}
    for tag, i, j, k, m in reversed(_steps(before, after)):
        for at in reversed(range(i, j)):
            home, where, _ = places[at]
            message = kept[home]
            assert message is not None
            if tag == "put":
                if not _is_whole(places[at].part, before[at]):
                    uncarried(dispatch, "a change to a part that was too large to be shown whole")
                kept[home] = carrier.put(message, where, _of_the_kind(dispatch, before[at], after[k + at - i]))
            else:
                kept[home] = carrier.drop(message, where)
        if tag == "replace":
            home = max(places[i - 1].message if i else -1, head - 1)
            added[home] = [carrier.fresh(part) for part in after[k:m]] + added.get(home, [])
    result = added.get(-1, [])
    for home, message in enumerate(kept):
        result += ([] if message is None else [message]) + added.get(home, [])
    return result


def settled(dispatch: Dispatch, carried: Callable[[Dispatch], T], given: T) -> tuple[str | None, T]:
    """Why it is denied, or None; and what to go on with: `given`, or what `carried` makes of a changed message."""
    try:
        dispatch.check()
        return None, carried(dispatch) if dispatch.changed else given
    except HookDenied as denied:
        return str(denied), given


def only(dispatch: Dispatch, kind: str) -> dict[str, Any]:
    """The one part of a message that has to stay one part of `kind`. Raises `HookDenied` if it isn't."""
    parts = dispatch.message.parts
    if dispatch.original.truncated:
        uncarried(dispatch, "a change to what was too large to be shown whole")
    if len(parts) != 1 or parts[0]["type"] != kind:
        uncarried(dispatch, f"{', '.join(part['type'] for part in parts) or 'nothing'} in place of one {kind} part")
    return parts[0]


def call_arguments(dispatch: Dispatch) -> dict[str, Any]:
    """The arguments that a tool is to be called with. Raises `HookDenied` for another name, id or form."""
    before, part = dispatch.original.parts[0], only(dispatch, "tool_call")
    name, arguments, call_id = changed_call(part, before.get("id"))
    if name != before["name"] or call_id != before.get("id"):
        uncarried(dispatch, "another tool or call in place of this one")
    return arguments


def changed_call(part: dict[str, Any], call_id: str | None) -> tuple[str, dict[str, Any], str | None]:
    """Name, arguments and id of a call that a transform left; `call_id` unless it says another.

    Raises `HookDenied` for arguments that aren't a dict: models don't ask for anything else.
    """
    arguments = part.get("arguments", {})
    if not isinstance(arguments, dict):
        kind = type(arguments).__name__
        raise HookDenied(f"a transform left what can't be carried back: arguments that are a {kind}, not a dict")
    return str(part["name"]), arguments, part.get("id") or call_id


def response_of(dispatch: Dispatch) -> Any:
    """What a tool's call is to have come to. Raises `HookDenied` for another form, or another call's."""
    before, part = dispatch.original.parts[0], only(dispatch, "tool_call_response")
    if (part.get("id") or before.get("id")) != before.get("id"):
        uncarried(dispatch, "another call in place of this one")
    return part["response"]


async def tell_result(
    trail: Trail,
    fields: dict[str, Any],
    begun_s: float,
    result: Any,
    failure: BaseException | None,
    *,
    shown: Callable[[Any], Any],
    native: Callable[[Any], Any],
    carried: Callable[[Dispatch], Any] = response_of,
) -> tuple[str | None, Any]:
    """`post_tool_call` of the call that has `fields`, which came to `result` or, if it is one, to `failure`.

    Why it is denied, or None; and the result to go on with, as `settled` has them. Raises `failure`.
    """
    answered = await trail.tell(
        "post_tool_call",
        [tool_response(fields["request_id"], shown(result) if failure is None else str(failure))],
        role="tool",
        error=error_of(failure),
        duration_ms=since(begun_s),
        native=lambda: native(result),
        **fields,
    )
    if failure is not None:
        raise failure
    return settled(answered, carried, result)


def all_text(dispatch: Dispatch) -> str:
    """What text a message is to have. Raises `HookDenied` if there is anything else in it."""
    if dispatch.changed and dispatch.original.truncated:
        uncarried(dispatch, "a change to what was too large to be shown whole")
    if any(part["type"] != "text" for part in dispatch.message.parts):
        uncarried(dispatch, "parts other than text")
    return dispatch.message.text


def uncarried(dispatch: Dispatch, what: str) -> NoReturn:
    """Raises `HookDenied`: a transform left what the framework can't take."""
    by = next((record.hook for record in reversed(dispatch.records) if record.changed), "a hook")
    raise HookDenied(f"{by} left at {dispatch.original.point} what can't be carried back: {what}")


def without_role(places: Iterable[Place]) -> list[dict[str, Any]]:
    """The parts of a message that all has one role."""
    return [{name: value for name, value in place.part.items() if name != "role"} for place in places]


def flat(lists: Iterable[Iterable[Place]]) -> list[Place]:
    """Places of several messages as one list."""
    return [place for places in lists for place in places]


def _is_whole(part: dict[str, Any], shown: dict[str, Any]) -> bool:
    """Whether a hook was shown all of this part: a message that is too large is cut."""
    return all(shown.get(name) == value for name, value in part.items() if isinstance(value, str) and name in shown)


def _of_the_kind(dispatch: Dispatch, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    if before["type"] != after["type"]:
        uncarried(dispatch, f"a {after['type']} part in place of a {before['type']} part")
    if before.get("role") != after.get("role", before.get("role")):
        uncarried(dispatch, f"a part whose role was {before.get('role')}")
    return after


def _steps(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[tuple[str, int, int, int, int]]:
    """Which parts changed in place (`put`), and which were taken away or added (`replace`)."""
    if len(before) == len(after) and all(b["type"] == a["type"] for b, a in zip(before, after, strict=True)):
        return [("put", i, i + 1, i, i + 1) for i, (b, a) in enumerate(zip(before, after, strict=True)) if b != a]
    old, new = ([json.dumps(part, sort_keys=True) for part in parts] for parts in (before, after))
    found = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [("replace", i, j, k, m) for tag, i, j, k, m in found if tag != "equal"]
