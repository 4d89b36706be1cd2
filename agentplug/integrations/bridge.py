"""Helpers that all adapters share (host): the messages of one agent run, and constructors of message parts."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, Self

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.text import printable
from agentplug.errors import AgentplugError, ContractError, HookDenied
from agentplug.manager.hooks import Dispatch
from agentplug.manager.manager import PluginManager


class Framework(NamedTuple):
    """A framework's name and version, as messages show them."""

    name: str
    version: str | None

    @classmethod
    def of(cls, name: str, distribution: str) -> Framework:
        """Read the version of an installed distribution."""
        try:
            return cls(name, version(distribution))
        except PackageNotFoundError:
            return cls(name, None)


class Trail:
    """Dispatches the messages of one agent run to the hooks of `manager`, and numbers them.

    `turn` counts the model's calls. The tool calls of one turn share a `group`. As a context manager, of either
    kind, a trail ends with the block.
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
        self.call_ids: dict[str, str | None] = {}  # by tool: the id of the model's latest call
        self._seq = 0

    async def dispatch(self, point: str, parts: Sequence[dict[str, Any]] = (), **fields: Any) -> Dispatch:
        """Dispatch a message at `point`. `native` may be a function that dumps the framework's own objects."""
        return await self.manager.dispatch(self._message(point, parts, fields))

    def dispatch_sync(self, point: str, parts: Sequence[dict[str, Any]] = (), **fields: Any) -> Dispatch:
        """Do the same as `dispatch`, from code that can't await."""
        return self.manager._inside.dispatching.dispatch_sync(self._message(point, parts, fields))

    async def end(self, error: BaseException | None = None) -> None:
        """Dispatch `agent_shutdown`. A hook's error never hides `error`, in which the run ended."""
        with _second_to(error):
            await self.dispatch("agent_shutdown", error=error_of(error))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _stack: object) -> None:
        await self.end(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _stack: object) -> None:
        with _second_to(error):
            self.dispatch_sync("agent_shutdown", error=error_of(error))

    def call_fields(self, call_id: str | None, name: str, **more: Any) -> dict[str, Any]:
        """Return the fields that both messages of a tool call share."""
        return {"name": name, "request_id": call_id, "group": f"{self.run_id}:{self.turn}", **more}

    def _message(self, point: str, parts: Sequence[dict[str, Any]], fields: dict[str, Any]) -> AgentMessage:
        self._seq += 1
        redactions = []
        if callable(native := fields.pop("native", None)):
            try:
                native = {"framework": self.framework.name, "data": native()}
            except Exception as error:  # an object without a dump: the run goes on, and the message says so
                redactions.append(f"native: left out, {type(error).__name__}")
                native = None
        return AgentMessage.coerced(
            point=point,
            parts=list(parts),
            native=native,
            redactions=redactions,
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


def _second_to(error: BaseException | None) -> AbstractContextManager[None]:
    """Suppress errors of ours, if there is an `error` already."""
    return nullcontext() if error is None else suppress(AgentplugError)


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "content": content, **more}


def tool_call(call_id: str | None, name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    """Return the part for a call that the model requests. Arguments may be JSON text."""
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": parsed_arguments(arguments), **more}


def tool_response(call_id: str | None, response: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": call_id, "response": response, **more}


def output_part(value: Any) -> dict[str, Any]:
    """Return the part for an output: a text part for text, else a generic part."""
    return text(value) if isinstance(value, str) else {"type": "generic", "content": value}


def parsed_arguments(arguments: Any) -> Any:
    """Return arguments parsed, if they are JSON text; other arguments stay as they are."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments) if arguments else {}
    except ValueError:
        return arguments


def error_of(error: BaseException | None) -> dict[str, str] | None:
    """Return the field `error` for an exception."""
    return None if error is None else {"type": type(error).__name__}


def denial_of(dispatch: Dispatch) -> str | None:
    """Return the reason of a denial, for the model or the user to read; None if the message is allowed."""
    try:
        dispatch.check()
    except HookDenied as denied:
        return str(denied)
    return None


def check_manager(manager: object) -> PluginManager:
    """Return `manager`. Raises `ContractError` for another object."""
    if not isinstance(manager, PluginManager):
        raise ContractError(f"manager is a {printable(type(manager).__name__, 100)}; pass a PluginManager")
    return manager


def ms_since(start_s: float) -> float:
    """Return the milliseconds since `start_s`, a reading of `time.perf_counter()`."""
    return (time.perf_counter() - start_s) * 1000
