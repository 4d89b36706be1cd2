"""Write the changes of transforms back into a framework's own objects (host).

Objects that no transform changed stay the same objects. A changed part is written into a copy of the object that it
came from. A change that can't be written back denies the message: no message goes on with only some of its changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

from agentplug.errors import HookDenied
from agentplug.integrations.bridge import Trail, error_of, ms_since, tool_response
from agentplug.manager.hooks import Dispatch

M = TypeVar("M")
T = TypeVar("T")


class Place(NamedTuple):
    """The position of a part: the index of its message, and the place in it, in a form that the adapter chooses."""

    message: int
    where: Any
    part: dict[str, Any]


class Editor(Protocol[M]):
    """Changes one message of a framework; each adapter has one. Methods return a new message."""

    def put(self, message: M, where: Any, part: dict[str, Any]) -> M:
        """Return the message with `part` at `where`."""

    def drop(self, message: M, where: Any) -> M | None:
        """Return the message without its part at `where`; None if nothing is left."""

    def fresh(self, part: dict[str, Any]) -> M:
        """Return a new message of one part."""


def write_back(
    messages: Sequence[M], places: Sequence[Place], dispatch: Dispatch, editor: Editor[M], head: int = 0
) -> list[M]:
    """Return `messages` with the changes of transforms. Messages without changes stay the same objects.

    The first `head` messages (the instructions, for example) stay first. Raises `HookDenied` for a change that can't
    be written back.
    """
    result: list[M | None] = list(messages)
    before, after = dispatch.original.parts, dispatch.message.parts
    if before == after:
        return list(messages)
    if len(before) != len(places):
        refuse_change(dispatch, "the message was too large to be shown whole")
    added: dict[int, list[M]] = {}
    for tag, i, j, k, m in reversed(_steps(before, after)):
        for at in reversed(range(i, j)):
            index, where, _ = places[at]
            message = result[index]
            assert message is not None
            if tag == "put":
                if not _is_whole(places[at].part, before[at]):
                    refuse_change(dispatch, "a change to a part that was too large to be shown whole")
                result[index] = editor.put(message, where, _same_kind(dispatch, before[at], after[k + at - i]))
            else:
                result[index] = editor.drop(message, where)
        if tag == "replace":
            index = max(places[i - 1].message if i else -1, head - 1)
            added[index] = [editor.fresh(part) for part in after[k:m]] + added.get(index, [])
    merged = added.get(-1, [])
    for index, message in enumerate(result):
        merged += ([] if message is None else [message]) + added.get(index, [])
    return merged


def decide(dispatch: Dispatch, change: Callable[[Dispatch], T], value: T) -> tuple[str | None, T]:
    """Return the reason of a denial or None, and the value to go on with: `change(dispatch)` if a hook changed it."""
    try:
        dispatch.check()
        return None, change(dispatch) if dispatch.changed else value
    except HookDenied as denied:
        return str(denied), value


def only_part(dispatch: Dispatch, kind: str) -> dict[str, Any]:
    """Return the only part of a message. Raises `HookDenied` for several parts or another kind."""
    parts = dispatch.message.parts
    if dispatch.original.truncated:
        refuse_change(dispatch, "a change to what was too large to be shown whole")
    if len(parts) != 1 or parts[0]["type"] != kind:
        refuse_change(
            dispatch, f"{', '.join(part['type'] for part in parts) or 'nothing'} in place of one {kind} part"
        )
    return parts[0]


def call_arguments(dispatch: Dispatch) -> dict[str, Any]:
    """Return the arguments of a changed tool call. Raises `HookDenied` for another name, id or form."""
    before, part = dispatch.original.parts[0], only_part(dispatch, "tool_call")
    name, arguments, call_id = changed_call(part, before.get("id"))
    if name != before["name"] or call_id != before.get("id"):
        refuse_change(dispatch, "another tool or call in place of this one")
    return arguments


def changed_call(part: dict[str, Any], call_id: str | None) -> tuple[str, dict[str, Any], str | None]:
    """Return name, arguments and id of a changed tool call; a part without an id has the id `call_id`.

    Raises `HookDenied` for arguments that aren't a dict.
    """
    arguments = part.get("arguments", {})
    if not isinstance(arguments, dict):
        kind = type(arguments).__name__
        raise HookDenied(f"a transform left what can't be carried back: arguments that are a {kind}, not a dict")
    return str(part["name"]), arguments, part.get("id") or call_id


def response_of(dispatch: Dispatch) -> Any:
    """Return the changed result of a tool call. Raises `HookDenied` for another form or another call's id."""
    before, part = dispatch.original.parts[0], only_part(dispatch, "tool_call_response")
    if (part.get("id") or before.get("id")) != before.get("id"):
        refuse_change(dispatch, "another call in place of this one")
    return part["response"]


async def dispatch_result(
    trail: Trail,
    fields: dict[str, Any],
    start_s: float,
    result: Any,
    failure: BaseException | None,
    *,
    plain: Callable[[Any], Any],
    native: Callable[[Any], Any],
    change: Callable[[Dispatch], Any] = response_of,
) -> tuple[str | None, Any]:
    """Dispatch `post_tool_call` for the call with `fields`; return what `decide` returns for its result.

    `plain` makes JSON values of the result. Raises `failure`, if the call failed.
    """
    dispatch = await trail.dispatch(
        "post_tool_call",
        [tool_response(fields["request_id"], plain(result) if failure is None else str(failure))],
        role="tool",
        error=error_of(failure),
        duration_ms=ms_since(start_s),
        native=lambda: native(result),
        **fields,
    )
    if failure is not None:
        raise failure
    return decide(dispatch, change, result)


def all_text(dispatch: Dispatch) -> str:
    """Return the text of a message. Raises `HookDenied` for parts other than text."""
    if dispatch.changed and dispatch.original.truncated:
        refuse_change(dispatch, "a change to what was too large to be shown whole")
    if any(part["type"] != "text" for part in dispatch.message.parts):
        refuse_change(dispatch, "parts other than text")
    return dispatch.message.text


def refuse_change(dispatch: Dispatch, what: str) -> NoReturn:
    """Raise `HookDenied` for a change that can't be written back. `what` names the change."""
    by = next((record.hook for record in reversed(dispatch.records) if record.changed), "a hook")
    raise HookDenied(f"{by} left at {dispatch.original.point} what can't be carried back: {what}")


def without_role(places: Iterable[Place]) -> list[dict[str, Any]]:
    """Return the parts of a message, without their role."""
    return [{name: value for name, value in place.part.items() if name != "role"} for place in places]


def flat(lists: Iterable[Iterable[Place]]) -> list[Place]:
    """Return the places of several messages as one list."""
    return [place for places in lists for place in places]


def _is_whole(part: dict[str, Any], sent: dict[str, Any]) -> bool:
    """True if hooks saw the whole part: parts of a message that is too large are cut."""
    return all(sent.get(name) == value for name, value in part.items() if isinstance(value, str) and name in sent)


def _same_kind(dispatch: Dispatch, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    if before["type"] != after["type"]:
        refuse_change(dispatch, f"a {after['type']} part in place of a {before['type']} part")
    if before.get("role") != after.get("role", before.get("role")):
        refuse_change(dispatch, f"a part whose role was {before.get('role')}")
    return after


def _steps(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[tuple[str, int, int, int, int]]:
    """Return the differences: parts changed in place (`put`), and parts removed or added (`replace`)."""
    if len(before) == len(after) and all(b["type"] == a["type"] for b, a in zip(before, after, strict=True)):
        return [("put", i, i + 1, i, i + 1) for i, (b, a) in enumerate(zip(before, after, strict=True)) if b != a]
    old, new = ([json.dumps(part, sort_keys=True) for part in parts] for parts in (before, after))
    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [("replace", i, j, k, m) for tag, i, j, k, m in codes if tag != "equal"]
