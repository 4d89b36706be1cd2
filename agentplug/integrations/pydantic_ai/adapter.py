"""The adapter for Pydantic AI (host; the extra `pydantic-ai`): the outermost capability of each run of the agent.

    agent = attach(agent, manager)
    result = await agent.run("How is Oslo?")

For a denied tool call or result the model gets a tool return whose outcome is `denied`; any other denied message ends
the run with `HookDenied`. In a streamed response, `post_model_call` comes after the last word: a denial can't recall
streamed words, but the agent doesn't use them. Hooks see an output that is no text, and can't change it. Realtime
sessions are refused.
"""

from __future__ import annotations

import json
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
from agentplug.integrations.bridge import Framework, Trail, check_manager, error_of, ms_since, output_part, tool_call
from agentplug.integrations.pydantic_ai.parts import (
    MessageEditor,
    PromptEditor,
    content_part,
    places_of,
    plain,
    response_places,
)
from agentplug.integrations.transforms import (
    Place,
    all_text,
    call_arguments,
    decide,
    dispatch_result,
    flat,
    refuse_change,
    response_of,
    write_back,
)
from agentplug.manager.hooks import Dispatch
from agentplug.manager.manager import PluginManager

_FRAMEWORK = Framework.of("pydantic-ai", "pydantic-ai-slim")
_PROMPT: TypeAdapter[Any] = TypeAdapter(str | list[m.UserContent])
_CALL: TypeAdapter[Any] = TypeAdapter(m.ToolCallPart)


def attach(agent: Any, manager: PluginManager) -> AttachedAgent:
    """Return an agent that does what `agent` does; its messages go to the hooks of `manager`.

    Raises `ContractError` for another object.
    """
    if not isinstance(agent, AbstractAgent):
        raise ContractError(unknown(agent))
    return AttachedAgent(agent, check_manager(manager))


def detach(agent: Any) -> Any:
    """Return the original agent. Raises `ContractError` if `agent` isn't attached."""
    if not isinstance(agent, AttachedAgent):
        raise unattached(agent)
    return agent.wrapped


def restore(message: AgentMessage) -> Any:
    """Return the framework's own objects from a message's `native`; None without `native`.

    The prompt for `input`, a `ToolCallPart` for `pre_tool_call`, a list of `ModelMessage` for the model's messages;
    else plain values.
    """
    if message.native is None:
        return None
    data = message.native["data"]
    if message.point in ("pre_model_call", "post_model_call"):
        return m.ModelMessagesTypeAdapter.validate_python(data)
    adapter = {"input": _PROMPT, "pre_tool_call": _CALL}.get(message.point)
    return data if adapter is None else adapter.validate_python(data)


class AttachedAgent(WrapperAgent[Any, Any]):
    """The attached agent. Each run has a trail of its own, however it is started."""

    def __init__(self, wrapped: AbstractAgent[Any, Any], manager: PluginManager) -> None:
        super().__init__(wrapped)
        self.manager = manager

    @asynccontextmanager
    async def iter(self, user_prompt: Any = None, **options: Any) -> AsyncGenerator[Any]:
        """Do the same as the wrapped agent's `iter`, which all ways to run an agent use."""
        trail = Trail(self.manager, _FRAMEWORK, self.name, options.get("run_id"), options.get("conversation_id"))
        async with trail:
            (await trail.dispatch("agent_startup")).check()
            capabilities = [HooksCapability(trail), *(options.pop("capabilities", None) or ())]
            prompt = await _dispatch_input(trail, user_prompt)
            async with super().iter(prompt, capabilities=capabilities, **options) as run:
                yield run

    def realtime(self, *_: Any, **__: Any) -> Any:
        """Raise `ContractError`: the messages of a realtime session pass no hook."""
        raise ContractError("a realtime session can't be asked about; use the agent that nothing is attached to")


async def _dispatch_input(trail: Trail, prompt: Any) -> Any:
    """Dispatch `input`. Return the prompt to send."""
    if prompt is None:
        return None
    contents = [prompt] if isinstance(prompt, str) else list(prompt)
    places = [Place(at, None, content_part(content)) for at, content in enumerate(contents)]
    dispatch = await trail.dispatch(
        "input", [place.part for place in places], role="user", native=lambda: json.loads(_PROMPT.dump_json(prompt))
    )
    dispatch.check()
    contents = write_back(contents, places, dispatch, PromptEditor())
    return contents[0] if isinstance(prompt, str) and len(contents) == 1 else contents


class HooksCapability(AbstractCapability[Any]):
    """The capability that dispatches one run's messages to the hooks."""

    def __init__(self, trail: Trail) -> None:
        self.trail = trail

    def get_ordering(self) -> CapabilityOrdering:
        """Return the outermost position, so that hooks also see calls that other capabilities skip or deny."""
        return CapabilityOrdering(position="outermost")

    async def wrap_model_request(self, ctx: Any, *, request_context: Any, handler: Callable[..., Any]) -> Any:
        """Dispatch `pre_model_call` and `post_model_call`."""
        trail, request = self.trail, request_context
        trail.turn += 1
        model = {"id": request.model.model_name, "vendor": request.model.system}
        sources = [request.model_request_parameters, *request.messages]
        places = flat(places_of(at, message) for at, message in enumerate(sources))
        native = lambda: json.loads(m.ModelMessagesTypeAdapter.dump_json(request_context.messages))  # noqa: E731
        dispatch = await trail.dispatch("pre_model_call", [p.part for p in places], model=model, native=native)
        dispatch.check()
        if dispatch.changed:
            parameters, *messages = write_back(sources, places, dispatch, MessageEditor(), head=1)
            request = replace(request, model_request_parameters=parameters, messages=messages)
        start_s = time.perf_counter()
        try:
            response = await handler(request)
        except Exception as error:
            await trail.dispatch("post_model_call", model=model, error=error_of(error), duration_ms=ms_since(start_s))
            raise
        places = response_places(0, response)
        dispatch = await trail.dispatch(
            "post_model_call",
            [place.part for place in places],
            role="assistant",
            model={**model, "id": response.model_name or model["id"]},
            finish_reason=response.finish_reason,
            usage={"input_tokens": response.usage.input_tokens, "output_tokens": response.usage.output_tokens},
            duration_ms=ms_since(start_s),
            native=lambda: json.loads(m.ModelMessagesTypeAdapter.dump_json([response])),
        )
        dispatch.check()
        if not dispatch.changed:
            return response
        messages = write_back([response], places, dispatch, MessageEditor())
        return replace(response, parts=[part for message in messages for part in message.parts])

    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: dict[str, Any], handler: Callable[..., Any]
    ) -> Any:
        """Dispatch `pre_tool_call` and `post_tool_call`."""
        trail = self.trail
        fields = trail.call_fields(call.tool_call_id, call.tool_name)
        part = tool_call(call.tool_call_id, call.tool_name, to_jsonable_python(args, fallback=repr))
        native = lambda: json.loads(_CALL.dump_json(call))  # noqa: E731
        dispatch = await trail.dispatch("pre_tool_call", [part], role="assistant", native=native, **fields)
        denial, args = decide(dispatch, lambda changed: _arguments(changed, args), args)
        if denial is not None:
            return ToolDenied(denial)
        start_s = time.perf_counter()
        failure: BaseException | None = None
        result: Any = None
        try:
            result = await handler(args)
        except SkipToolExecution as skipped:  # another capability's answer in place of the tool's
            result = skipped.result
        except Exception as error:
            failure = error.__cause__ if _wraps_another(error) else error
        change = lambda changed: _changed_result(changed, result)  # noqa: E731
        denial, result = await dispatch_result(
            trail, fields, start_s, result, failure, plain=plain, native=to_jsonable_python, change=change
        )
        return result if denial is None else ToolDenied(denial)

    async def wrap_output_process(
        self, ctx: Any, *, output_context: Any, output: Any, handler: Callable[..., Any]
    ) -> Any:
        """Dispatch `output`, only of the final output."""
        result = await handler(output)
        if ctx.partial_output:
            return result
        value = plain(result)
        dispatch = await self.trail.dispatch("output", [output_part(value)], role="assistant", native=lambda: value)
        dispatch.check()
        if not dispatch.changed:
            return result
        if not isinstance(result, str):
            refuse_change(dispatch, "an output that is no text")
        return all_text(dispatch)


def _arguments(dispatch: Dispatch, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the changed arguments. Unchanged ones stay validated objects; changed ones are JSON, not validated."""
    before = dispatch.original.parts[0]["arguments"]
    changed = call_arguments(dispatch)
    return {
        name: arguments[name] if name in arguments and before.get(name) == value else value
        for name, value in changed.items()
    }


def _changed_result(dispatch: Dispatch, result: Any) -> Any:
    """Return the changed result, in a `ToolReturn` if the original was one."""
    response = response_of(dispatch)
    return replace(result, return_value=response) if isinstance(result, m.ToolReturn) else response


def _wraps_another(error: BaseException) -> bool:
    """True for Pydantic AI's own wrappers of `ModelRetry` and `ToolFailed`."""
    return type(error).__name__ in ("ToolRetryError", "ToolFailedError") and error.__cause__ is not None
