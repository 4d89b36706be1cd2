"""What all adapters share (host): one run of an agent as messages in order, and transforms carried back.

A framework's own objects stay as they are wherever no transform changed them; a part that was changed is put into the
very object that it came from. What can't be put back denies the message: nothing is sent on that a plugin asked to
change and that wasn't.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

from agentplug.contract.messages import AgentMessage
from agentplug.contract.text import printable
from agentplug.errors import AgentplugError, ContractError, HookDenied
from agentplug.hooks import Dispatch
from agentplug.manager import PluginManager

M = TypeVar("M")


class Framework(NamedTuple):
    """A framework's name, as messages have it, and its version."""

    name: str
    version: str | None

    @classmethod
    def of(cls, name: str, distribution: str) -> Framework:
        """By the distribution that it comes from."""
        try:
            return cls(name, version(distribution))
        except PackageNotFoundError:
            return cls(name, None)


class Trail:
    """The messages of one run of an agent: numbered, and told to the hooks of `manager`.

    `turn` counts the model's calls. Those of a turn that run at the same time share a `group`.
    """

    def __init__(
        self,
        manager: PluginManager,
        framework: Framework,
        agent: str | None,
        run_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self.manager = manager
        self.framework = framework
        self.agent = agent
        self.run_id = run_id or uuid.uuid4().hex
        self.session_id = session_id or self.run_id
        self.turn = 0
        self.ended = False
        self._seq = 0

    async def tell(self, point: str, parts: Sequence[dict[str, Any]] = (), **fields: Any) -> Dispatch:
        """Dispatch a message at `point`. `native` may be a function that dumps the framework's own objects."""
        return await self.manager.dispatch(self._message(point, parts, fields))

    def tell_sync(self, point: str, parts: Sequence[dict[str, Any]] = (), **fields: Any) -> Dispatch:
        """The same, for hooks that are no coroutines."""
        return self.manager.dispatch_sync(self._message(point, parts, fields))

    async def end(self, error: BaseException | None = None) -> None:
        """`agent_shutdown`, once. What hooks make of it can't undo the run, and never hides the error it ended in."""
        if not self.ended:
            self.ended = True
            try:
                await self.tell("agent_shutdown", error=error_of(error))
            except AgentplugError:
                if error is None:
                    raise

    def end_sync(self, error: BaseException | None = None) -> None:
        """The same, for hooks that are no coroutines."""
        if not self.ended:
            self.ended = True
            try:
                self.tell_sync("agent_shutdown", error=error_of(error))
            except AgentplugError:
                if error is None:
                    raise

    def call(self, call_id: str | None, name: str, **more: Any) -> dict[str, Any]:
        """The fields that both messages of a tool's call have."""
        return {"name": name, "request_id": call_id, "group": f"{self.run_id}:{self.turn}", **more}

    def _message(self, point: str, parts: Sequence[dict[str, Any]], fields: dict[str, Any]) -> AgentMessage:
        self._seq += 1
        notes = []
        if callable(native := fields.pop("native", None)):
            try:
                native = {"framework": self.framework.name, "data": native()}
            except Exception as error:  # an object without a dump: the run goes on, and the message says so
                notes.append(f"native: left out, {type(error).__name__}")
                native = None
        return AgentMessage.coerced(
            point=point,
            parts=list(parts),
            native=native,
            redactions=notes,
            seq=self._seq,
            turn=self.turn,
            run_id=self.run_id,
            session_id=self.session_id,
            agent={
                "name": fields.pop("agent", None) or self.agent,
                "framework": self.framework.name,
                "framework_version": self.framework.version,
            },
            **fields,
        )


# ---------------------------------------------------------------------- parts


def text(content: str, **more: Any) -> dict[str, Any]:
    """A text part."""
    return {"type": "text", "content": content, **more}


def tool_call(call_id: str | None, name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    """A call that the model asks for; arguments that are JSON as text are read."""
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": read(arguments), **more}


def tool_response(call_id: str | None, response: Any, **more: Any) -> dict[str, Any]:
    """What a tool's call came to."""
    return {"type": "tool_call_response", "id": call_id, "response": response, **more}


def anything(value: Any) -> dict[str, Any]:
    """An output: text as text, all else as a generic part."""
    return text(value) if isinstance(value, str) else {"type": "generic", "content": value}


def read(arguments: Any) -> Any:
    """Arguments as they are meant: JSON text read, if it is any."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments) if arguments else {}
    except ValueError:
        return arguments


def error_of(error: BaseException | None) -> dict[str, str] | None:
    """The field `error` for an exception."""
    return None if error is None else {"type": type(error).__name__}


# ---------------------------------------------------------------------- the way back


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


def only(dispatch: Dispatch, kind: str) -> dict[str, Any]:
    """The one part of a message that has to stay one part of `kind`. Raises `HookDenied` if it isn't."""
    parts = dispatch.message.parts
    if len(parts) != 1 or parts[0]["type"] != kind:
        uncarried(dispatch, f"{', '.join(part['type'] for part in parts) or 'nothing'} in place of one {kind} part")
    return parts[0]


def call_arguments(dispatch: Dispatch) -> dict[str, Any]:
    """The arguments that a tool is to be called with. Raises `HookDenied` for another name, id or form."""
    before, part = dispatch.original.parts[0], only(dispatch, "tool_call")
    if part["name"] != before["name"] or part.get("id") != before.get("id"):
        uncarried(dispatch, "another tool or call in place of this one")
    arguments = part.get("arguments")
    if not isinstance(arguments, dict):
        uncarried(dispatch, f"arguments that are a {type(arguments).__name__}, not a dict")
    return arguments


def response_of(dispatch: Dispatch) -> Any:
    """What a tool's call is to have come to. Raises `HookDenied` for another form, or another call's."""
    before, part = dispatch.original.parts[0], only(dispatch, "tool_call_response")
    if part.get("id") != before.get("id"):
        uncarried(dispatch, "another call in place of this one")
    return part["response"]


def all_text(dispatch: Dispatch) -> str:
    """What text a message is to have. Raises `HookDenied` if there is anything else in it."""
    if any(part["type"] != "text" for part in dispatch.message.parts):
        uncarried(dispatch, "parts other than text")
    return dispatch.message.text


def uncarried(dispatch: Dispatch, what: str) -> NoReturn:
    """Raises `HookDenied`: a transform left what the framework can't take."""
    by = next((record.hook for record in reversed(dispatch.records) if record.changed), "a hook")
    raise HookDenied(f"{by} left at {dispatch.original.point} what can't be carried back: {what}")


def denial(dispatch: Dispatch) -> str | None:
    """Why a message is denied, for the model or the user to read; None if it isn't."""
    try:
        dispatch.check()
    except HookDenied as denied:
        return str(denied)
    return None


def check_manager(manager: object) -> PluginManager:
    """Raises `ContractError` for what is no manager."""
    if not isinstance(manager, PluginManager):
        raise ContractError(f"manager is a {printable(type(manager).__name__, 100)}; pass a PluginManager")
    return manager


def dumped(dump: Callable[[], Any]) -> Any:
    """A framework's dump as plain JSON values, by its own JSON if it gives bytes or text."""
    value = dump()
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def without_role(places: Iterable[Place]) -> list[dict[str, Any]]:
    """The parts of a message that all has one role."""
    return [{name: value for name, value in place.part.items() if name != "role"} for place in places]


def since(begun_s: float) -> float:
    """Milliseconds since `time.perf_counter()` gave `begun_s`."""
    return (time.perf_counter() - begun_s) * 1000


def flat(lists: Iterable[Iterable[Place]]) -> list[Place]:
    """Places of several messages as one list."""
    return [place for places in lists for place in places]


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
