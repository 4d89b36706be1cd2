"""Wrappers of the OpenAI Agents SDK's agents, tools, handoffs and models that call the hooks (host).

The trail of the current run is a context variable, which each task of a run inherits.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from agents import (
    Agent,
    FunctionTool,
    Handoff,
    Model,
    ModelProvider,
    ModelResponse,
    RunHooks,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    handoff,
)

from agentplug.errors import HookDenied
from agentplug.integrations.bridge import Trail, error_of, ms_since, tool_call, tool_response
from agentplug.integrations.openai_agents.parts import ItemEditor, as_dict, as_items, places_of, plain
from agentplug.integrations.transforms import (
    call_arguments,
    decide,
    dispatch_result,
    flat,
    refuse_change,
    without_role,
    write_back,
)

current_trail: ContextVar[Trail] = ContextVar("agentplug_openai_agents_trail")


@contextmanager
def current(trail: Trail) -> Iterator[None]:
    """Make `trail` the trail of the runs that begin in the block."""
    token = current_trail.set(trail)
    try:
        yield
    finally:
        current_trail.reset(token)


def wrap_agent(agent: Agent[Any], copies: dict[int, Agent[Any]]) -> Agent[Any]:
    """Return a copy of the agent that calls the hooks. Agents of its handoffs are copied too, also in circles."""
    if id(agent) not in copies:
        options = {"model_settings": agent.model_settings}
        if isinstance(agent.model, Model):
            options["model"] = HookedModel(agent.model)
        tools = [_wrap_tool(tool) if isinstance(tool, FunctionTool) else tool for tool in agent.tools]
        wrapped = copies[id(agent)] = agent.clone(tools=tools, **options)
        wrapped.handoffs = [_wrap_handoff(target, copies) for target in agent.handoffs]
    return copies[id(agent)]


def _wrap_handoff(target: Any, copies: dict[int, Agent[Any]]) -> Handoff[Any, Any]:
    inner = target if isinstance(target, Handoff) else handoff(target)
    if not isinstance(target, Handoff):
        wrap_agent(target, copies)
    wrapped = copy.copy(inner)

    async def invoke(context: Any, arguments: str) -> Any:
        trail = current_trail.get()
        call_id = trail.call_ids.get(inner.tool_name)  # the SDK doesn't say
        fields = trail.call_fields(call_id, inner.tool_name)
        part = tool_call(call_id, inner.tool_name, arguments)
        dispatch = await trail.dispatch("pre_tool_call", [part], role="assistant", **fields)
        dispatch.check()
        if dispatch.changed:
            arguments = json.dumps(call_arguments(dispatch))
        agent = await inner.on_invoke_handoff(context, arguments)
        part = tool_response(call_id, inner.get_transfer_message(agent))
        dispatch = await trail.dispatch("post_tool_call", [part], role="tool", **fields)
        dispatch.check()
        if dispatch.changed:
            refuse_change(dispatch, "the message of a handoff")
        return wrap_agent(agent, copies)

    wrapped.on_invoke_handoff = invoke
    return wrapped


def _wrap_tool(tool: FunctionTool) -> FunctionTool:
    wrapped = copy.copy(tool)
    inner = wrapped.on_invoke_tool
    changed: dict[tuple[str, str], str] = {}

    async def guard(data: Any) -> ToolGuardrailFunctionOutput:
        trail, context = current_trail.get(), data.context
        part = tool_call(context.tool_call_id, tool.name, context.tool_arguments)
        native = lambda: as_dict(context.tool_call) if context.tool_call else None  # noqa: E731
        fields = trail.call_fields(context.tool_call_id, tool.name)
        dispatch = await trail.dispatch("pre_tool_call", [part], role="assistant", native=native, **fields)
        nothing: dict[str, Any] = {}
        denial, arguments = decide(dispatch, call_arguments, nothing)
        if denial is not None:
            return ToolGuardrailFunctionOutput.reject_content(denial, output_info=denial)
        if dispatch.changed:
            changed[trail.run_id, context.tool_call_id] = json.dumps(arguments)
        return ToolGuardrailFunctionOutput.allow()

    async def invoke(context: Any, arguments: str) -> Any:
        trail = current_trail.get()
        arguments = changed.pop((trail.run_id, context.tool_call_id), arguments)
        start_s = time.perf_counter()
        failure: Exception | None = None
        result: Any = None
        try:
            result = await inner(context, arguments)
        except Exception as error:
            failure = error
        fields = trail.call_fields(context.tool_call_id, tool.name)
        denial, result = await dispatch_result(trail, fields, start_s, result, failure, plain=plain, native=plain)
        return result if denial is None else denial

    wrapped.on_invoke_tool = invoke
    guardrail: ToolInputGuardrail[Any] = ToolInputGuardrail(guard, name="agentplug")
    wrapped.tool_input_guardrails = [guardrail, *(tool.tool_input_guardrails or ())]  # first: others may reject
    return wrapped


def _pass_on(wrapper: object, inner: object, *names: str) -> None:
    """Make these methods of `wrapper` those of the object that it wraps; its base class has others."""
    for name in names:
        setattr(wrapper, name, getattr(inner, name))


class Hooks(RunHooks[Any]):
    """Run hooks around the user's: they follow the current agent, and dispatch calls of tools that aren't wrapped."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs
        _pass_on(self, theirs, "on_agent_end", "on_handoff", "on_llm_start", "on_llm_end")

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        current_trail.get().agent = agent.name
        await self._theirs.on_agent_start(context, agent)

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        if not _is_wrapped(tool):
            part = tool_call(_call_id(context), tool.name, getattr(context, "tool_arguments", None))
            await self._dispatch("pre_tool_call", part, context, tool)
        await self._theirs.on_tool_start(context, agent, tool)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        if not _is_wrapped(tool):
            await self._dispatch("post_tool_call", tool_response(_call_id(context), plain(result)), context, tool)
        await self._theirs.on_tool_end(context, agent, tool, result)

    async def _dispatch(self, point: str, part: dict[str, Any], context: Any, tool: Any) -> None:
        trail = current_trail.get()
        dispatch = await trail.dispatch(point, [part], **trail.call_fields(_call_id(context), tool.name))
        dispatch.check()
        if dispatch.changed:
            refuse_change(dispatch, "a tool that isn't a function of the agent's own")


def _is_wrapped(tool: Any) -> bool:
    return any(guard.name == "agentplug" for guard in getattr(tool, "tool_input_guardrails", None) or ())


def _call_id(context: Any) -> Any:
    return getattr(context, "tool_call_id", None)


class HookedProvider(ModelProvider):
    """A provider of wrapped models."""

    def __init__(self, inner: ModelProvider) -> None:
        self._inner = inner
        _pass_on(self, inner, "aclose")

    def get_model(self, model_name: str | None) -> Model:
        return HookedModel(self._inner.get_model(model_name))


class HookedModel(Model):
    """A model that dispatches each call to the hooks."""

    def __init__(self, inner: Model) -> None:
        self._inner = inner
        _pass_on(self, inner, "close", "_cleanup_on_run_end", "get_retry_advice")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def get_response(self, system_instructions: Any, input: Any, *rest: Any, **options: Any) -> ModelResponse:
        trail = current_trail.get()
        system_instructions, input = await self._before(trail, system_instructions, input)
        start_s = time.perf_counter()
        try:
            response = await self._inner.get_response(system_instructions, input, *rest, **options)
        except Exception as error:
            await self._failed(trail, error, start_s)
            raise
        output = await self._after(trail, response.output, response.usage, start_s)
        return response if output is response.output else replace(response, output=output)

    async def stream_response(
        self, system_instructions: Any, input: Any, *rest: Any, **options: Any
    ) -> AsyncIterator[Any]:
        trail = current_trail.get()
        system_instructions, input = await self._before(trail, system_instructions, input)
        start_s = time.perf_counter()
        try:
            stream: Any = self._inner.stream_response(system_instructions, input, *rest, **options)
            async with aclosing(stream) as events:
                async for event in events:
                    if event.type == "response.completed":
                        output = await self._after(trail, event.response.output, event.response.usage, start_s)
                        if output is not event.response.output:
                            response = event.response.model_copy(update={"output": output})
                            event = event.model_copy(update={"response": response})
                    yield event
        except HookDenied:
            raise
        except Exception as error:
            await self._failed(trail, error, start_s)
            raise

    async def _before(self, trail: Trail, instructions: Any, input: Any) -> tuple[Any, Any]:
        trail.turn += 1
        items = [*([{"role": "system", "content": instructions}] if instructions else []), *as_items(input)]
        places = flat(places_of(at, item) for at, item in enumerate(items))
        dispatch = await trail.dispatch(
            "pre_model_call", [place.part for place in places], model=self._model(), native=lambda: plain(items)
        )
        dispatch.check()
        if not dispatch.changed:
            return instructions, input
        items = write_back(items, places, dispatch, ItemEditor(), head=1 if instructions else 0)
        if instructions:
            first = items[0] if items and items[0].get("role") == "system" else None
            return (None, items) if first is None else (first["content"], items[1:])
        return None, items

    async def _after(self, trail: Trail, output: list[Any], usage: Any, start_s: float) -> list[Any]:
        places = flat(places_of(at, item) for at, item in enumerate(output))
        trail.call_ids = {
            place.part["name"]: place.part["id"] for place in places if place.part["type"] == "tool_call"
        }
        count = {name: getattr(usage, name, None) for name in ("input_tokens", "output_tokens")}
        dispatch = await trail.dispatch(
            "post_model_call",
            without_role(places),
            role="assistant",
            model=self._model(),
            usage=count,
            duration_ms=ms_since(start_s),
            native=lambda: [plain(as_dict(item)) for item in output],
        )
        dispatch.check()
        return write_back(output, places, dispatch, ItemEditor(from_model=True)) if dispatch.changed else output

    async def _failed(self, trail: Trail, error: Exception, start_s: float) -> None:
        await trail.dispatch(
            "post_model_call", model=self._model(), error=error_of(error), duration_ms=ms_since(start_s)
        )

    def _model(self) -> dict[str, Any]:
        name = getattr(self._inner, "model", None)
        return {"id": str(name) if name else type(self._inner).__name__, "vendor": None}
