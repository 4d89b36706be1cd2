"""What all adapters share (host): one run of an agent as messages in order, and the parts that those are made of."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.text import printable
from agentplug.errors import AgentplugError, ContractError, HookDenied
from agentplug.manager.hooks import Dispatch
from agentplug.manager.manager import PluginManager


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
        self.asked: dict[str, str | None] = {}  # ids of the calls that the model asked for last, by tool
        self._seq = 0

    async def tell(self, point: str, parts: Sequence[dict[str, Any]] = (), **fields: Any) -> Dispatch:
        """Dispatch a message at `point`. `native` may be a function that dumps the framework's own objects."""
        return await self.manager.dispatch(self._message(point, parts, fields))

    def tell_sync(self, point: str, parts: Sequence[dict[str, Any]] = (), **fields: Any) -> Dispatch:
        """The same, for hooks that are no coroutines."""
        return self.manager._inside.dispatching.dispatch_sync(self._message(point, parts, fields))

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


# ---------------------------------------------------------------------- besides


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


def since(begun_s: float) -> float:
    """Milliseconds since `time.perf_counter()` gave `begun_s`."""
    return (time.perf_counter() - begun_s) * 1000
