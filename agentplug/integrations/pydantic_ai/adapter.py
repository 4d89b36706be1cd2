"""Pydantic AI (host; the extra `pydantic-ai`): a capability, outermost in every run of the agent.

    agent = attach(agent, manager)
    result = await agent.run("How is Oslo?")

A denied tool call or result comes back to the model as a tool return whose outcome is `denied`; any other denied
message ends the run in `HookDenied`. When a response is streamed, `post_model_call` comes after the last of it: what
was streamed can't be recalled, but nothing is done with it. An output that is no text is shown, and can't be changed.
Realtime sessions are refused.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter
from pydantic_ai import messages as m
from pydantic_ai.agent import AbstractAgent, WrapperAgent
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import SkipToolExecution
from pydantic_ai.tools import ToolDenied
from pydantic_core import to_jsonable_python

from agentplug.contract.messages.message import AgentMessage
from agentplug.errors import ContractError
from agentplug.integrations import unattached, unknown
from agentplug.integrations.bridge import (
    Framework,
    Trail,
    anything,
    check_manager,
    dumped,
    error_of,
    since,
    tool_call,
)
from agentplug.integrations.carrying import (
    Place,
    all_text,
    call_arguments,
    carry,
    flat,
    response_of,
    settled,
    tell_result,
    uncarried,
)
from agentplug.integrations.pydantic_ai.parts import (
    Contents,
    Messages,
    content_part,
    places,
    response_places,
    shown,
)
from agentplug.manager.hooks import Dispatch
from agentplug.manager.manager import PluginManager

_FRAMEWORK = Framework.of("pydantic-ai", "pydantic-ai-slim")
_PROMPT: TypeAdapter[Any] = TypeAdapter(str | list[m.UserContent])
_CALL: TypeAdapter[Any] = TypeAdapter(m.ToolCallPart)


def attach(agent: Any, manager: PluginManager) -> AttachedAgent:
    """An agent that does what `agent` does, its messages going to the hooks of `manager`.

    Raises `ContractError` for another object.
    """
    if not isinstance(agent, AbstractAgent):
        raise ContractError(unknown(agent))
    return AttachedAgent(agent, check_manager(manager))


def detach(agent: Any) -> Any:
    """The agent that was attached. Raises `ContractError` for one that isn't."""
    if not isinstance(agent, AttachedAgent):
        raise unattached(agent)
    return agent.wrapped


def restore(message: AgentMessage) -> Any:
    """The framework's own objects that a message was made of, by its `native`; None if it has none.

    The prompt for `input`, a `ToolCallPart` for `pre_tool_call`, a list of `ModelMessage` around the model, and plain
    values for the rest.
    """
    if message.native is None:
        return None
    data = message.native["data"]
    if message.point in ("pre_model_call", "post_model_call"):
        return m.ModelMessagesTypeAdapter.validate_python(data)
    adapter = {"input": _PROMPT, "pre_tool_call": _CALL}.get(message.point)
    return data if adapter is None else adapter.validate_python(data)


class AttachedAgent(WrapperAgent[Any, Any]):
    """The agent that was attached: every run of it, however it is started, has a trail of its own."""

    def __init__(self, wrapped: AbstractAgent[Any, Any], manager: PluginManager) -> None:
        super().__init__(wrapped)
        self.manager = manager

    @asynccontextmanager
    async def iter(self, user_prompt: Any = None, **options: Any) -> AsyncGenerator[Any]:
        """As the wrapped agent's: all ways to run an agent come through here."""
        trail = Trail(self.manager, _FRAMEWORK, self.name, options.get("run_id"), options.get("conversation_id"))
        try:
            (await trail.tell("agent_startup")).check()
            given = [Asking(trail), *(options.pop("capabilities", None) or ())]
            prompt = await _asked(trail, user_prompt)
            async with super().iter(prompt, capabilities=given, **options) as run:
                yield run
        except BaseException as error:
            await trail.end(error)
            raise
        await trail.end()

    def realtime(self, *_: Any, **__: Any) -> Any:
        """Refused: what is said in a realtime session goes through none of the hooks. Raises `ContractError`."""
        raise ContractError("a realtime session can't be asked about; use the agent that nothing is attached to")


async def _asked(trail: Trail, prompt: Any) -> Any:
    """The prompt as it is to be sent."""
    if prompt is None:
        return None
    contents = [prompt] if isinstance(prompt, str) else list(prompt)
    found = [Place(at, None, content_part(content)) for at, content in enumerate(contents)]
    dispatch = await trail.tell(
        "input",
        [place.part for place in found],
        role="user",
        native=lambda: dumped(lambda: _PROMPT.dump_json(prompt)),
    )
    dispatch.check()
    contents = carry(contents, found, dispatch, Contents())
    return contents[0] if isinstance(prompt, str) and len(contents) == 1 else contents


class Asking(AbstractCapability[Any]):
    """Takes one run's messages to the hooks."""

    def __init__(self, trail: Trail) -> None:
        self.trail = trail

    def get_ordering(self) -> CapabilityOrdering:
        """Outermost: what others skip or deny is seen all the same."""
        return CapabilityOrdering(position="outermost")

    async def wrap_model_request(self, ctx: Any, *, request_context: Any, handler: Callable[..., Any]) -> Any:
        """`pre_model_call` and `post_model_call`."""
        trail, given = self.trail, request_context
        trail.turn += 1
        model = {"id": given.model.model_name, "vendor": given.model.system}
        first = [given.model_request_parameters, *given.messages]
        found = flat(places(at, message) for at, message in enumerate(first))
        native = lambda: dumped(lambda: m.ModelMessagesTypeAdapter.dump_json(given.messages))  # noqa: E731
        asked = await trail.tell("pre_model_call", [p.part for p in found], model=model, native=native)
        asked.check()
        if asked.changed:
            parameters, *messages = carry(first, found, asked, Messages(), head=1)
            given = replace(given, model_request_parameters=parameters, messages=messages)
        begun = time.perf_counter()
        try:
            response = await handler(given)
        except Exception as error:
            await trail.tell("post_model_call", model=model, error=error_of(error), duration_ms=since(begun))
            raise
        found = response_places(0, response)
        answered = await trail.tell(
            "post_model_call",
            [place.part for place in found],
            role="assistant",
            model={**model, "id": response.model_name or model["id"]},
            finish_reason=response.finish_reason,
            usage={"input_tokens": response.usage.input_tokens, "output_tokens": response.usage.output_tokens},
            duration_ms=since(begun),
            native=lambda: dumped(lambda: m.ModelMessagesTypeAdapter.dump_json([response])),
        )
        answered.check()
        if not answered.changed:
            return response
        carried = carry([response], found, answered, Messages())
        return replace(response, parts=[part for message in carried for part in message.parts])

    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: dict[str, Any], handler: Callable[..., Any]
    ) -> Any:
        """`pre_tool_call` and `post_tool_call`."""
        trail = self.trail
        fields = trail.call(call.tool_call_id, call.tool_name)
        part = tool_call(call.tool_call_id, call.tool_name, to_jsonable_python(args, fallback=repr))
        native = lambda: dumped(lambda: _CALL.dump_json(call))  # noqa: E731
        asked = await trail.tell("pre_tool_call", [part], role="assistant", native=native, **fields)
        denied, args = settled(asked, lambda changed: _arguments(changed, args), args)
        if denied is not None:
            return ToolDenied(denied)
        begun = time.perf_counter()
        failure: BaseException | None = None
        result: Any = None
        try:
            result = await handler(args)
        except SkipToolExecution as skipped:  # another capability's answer in place of the tool's
            result = skipped.result
        except Exception as error:
            failure = error.__cause__ if _wraps_another(error) else error
        carried = lambda changed: _returned(changed, result)  # noqa: E731
        denied, result = await tell_result(
            trail, fields, begun, result, failure, shown=shown, native=to_jsonable_python, carried=carried
        )
        return result if denied is None else ToolDenied(denied)

    async def wrap_output_process(
        self, ctx: Any, *, output_context: Any, output: Any, handler: Callable[..., Any]
    ) -> Any:
        """`output`, of the final one alone."""
        made = await handler(output)
        if ctx.partial_output:
            return made
        plain = shown(made)
        dispatch = await self.trail.tell("output", [anything(plain)], role="assistant", native=lambda: plain)
        dispatch.check()
        if not dispatch.changed:
            return made
        if not isinstance(made, str):
            uncarried(dispatch, "an output that is no text")
        return all_text(dispatch)


def _arguments(dispatch: Dispatch, given: dict[str, Any]) -> dict[str, Any]:
    """Validated arguments stay what they are, unless they were changed. Those are JSON, and not validated again."""
    before = dispatch.original.parts[0]["arguments"]
    changed = call_arguments(dispatch)
    return {
        name: given[name] if name in given and before.get(name) == value else value for name, value in changed.items()
    }


def _returned(dispatch: Dispatch, given: Any) -> Any:
    """A changed response, in the `ToolReturn` that it was in."""
    response = response_of(dispatch)
    return replace(given, return_value=response) if isinstance(given, m.ToolReturn) else response


def _wraps_another(error: BaseException) -> bool:
    """Pydantic AI's own wrappers of `ModelRetry` and `ToolFailed`."""
    return type(error).__name__ in ("ToolRetryError", "ToolFailedError") and error.__cause__ is not None
