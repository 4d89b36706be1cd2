"""The OpenAI Agents SDK's agents, tools, handoffs and models, asking (host): what `openai_agents` runs.

The run that something belongs to is a context variable, which every task of a run inherits.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
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
from agentplug.integrations.bridge import (
    Trail,
    error_of,
    since,
    tool_call,
    tool_response,
)
from agentplug.integrations.carrying import (
    call_arguments,
    carry,
    flat,
    settled,
    tell_result,
    uncarried,
    without_role,
)
from agentplug.integrations.openai_agents.parts import Items, as_dict, as_items, places, plain

current: ContextVar[Trail] = ContextVar("agentplug_openai_agents_trail")


def attached(agent: Agent[Any], known: dict[int, Agent[Any]]) -> Agent[Any]:
    """A copy of the agent that asks; the agents it hands over to too, be it in circles."""
    if id(agent) not in known:
        given = {"model_settings": agent.model_settings}
        if isinstance(agent.model, Model):
            given["model"] = Asking(agent.model)
        tools = [_tool(tool) if isinstance(tool, FunctionTool) else tool for tool in agent.tools]
        made = known[id(agent)] = agent.clone(tools=tools, **given)
        made.handoffs = [_handoff(to, known) for to in agent.handoffs]
    return known[id(agent)]


def _handoff(to: Any, known: dict[int, Agent[Any]]) -> Handoff[Any, Any]:
    given = to if isinstance(to, Handoff) else handoff(to)
    if not isinstance(to, Handoff):
        attached(to, known)
    made = copy.copy(given)

    async def invoke(context: Any, arguments: str) -> Any:
        trail = current.get()
        call_id = trail.asked.get(given.tool_name)  # the SDK doesn't say
        fields = trail.call(call_id, given.tool_name)
        part = tool_call(call_id, given.tool_name, arguments)
        asked = await trail.tell("pre_tool_call", [part], role="assistant", **fields)
        asked.check()
        if asked.changed:
            arguments = json.dumps(call_arguments(asked))
        target = await given.on_invoke_handoff(context, arguments)
        part = tool_response(call_id, given.get_transfer_message(target))
        answered = await trail.tell("post_tool_call", [part], role="tool", **fields)
        answered.check()
        if answered.changed:
            uncarried(answered, "the message of a handoff")
        return attached(target, known)

    made.on_invoke_handoff = invoke
    return made


def _tool(tool: FunctionTool) -> FunctionTool:
    made = copy.copy(tool)
    inner = made.on_invoke_tool
    changed: dict[tuple[str, str], str] = {}

    async def guard(data: Any) -> ToolGuardrailFunctionOutput:
        trail, context = current.get(), data.context
        part = tool_call(context.tool_call_id, tool.name, context.tool_arguments)
        native = lambda: as_dict(context.tool_call) if context.tool_call else None  # noqa: E731
        fields = trail.call(context.tool_call_id, tool.name)
        asked = await trail.tell("pre_tool_call", [part], role="assistant", native=native, **fields)
        nothing: dict[str, Any] = {}
        denied, arguments = settled(asked, call_arguments, nothing)
        if denied is not None:
            return ToolGuardrailFunctionOutput.reject_content(denied, output_info=denied)
        if asked.changed:
            changed[trail.run_id, context.tool_call_id] = json.dumps(arguments)
        return ToolGuardrailFunctionOutput.allow()

    async def invoke(context: Any, arguments: str) -> Any:
        trail = current.get()
        arguments = changed.pop((trail.run_id, context.tool_call_id), arguments)
        return await _call(trail, context, tool.name, lambda: inner(context, arguments))

    made.on_invoke_tool = invoke
    guardrail: ToolInputGuardrail[Any] = ToolInputGuardrail(guard, name="agentplug")
    made.tool_input_guardrails = [guardrail, *(tool.tool_input_guardrails or ())]  # first: it sees what others reject
    return made


async def _call(trail: Trail, context: Any, name: str, call: Callable[[], Any]) -> Any:
    begun = time.perf_counter()
    failure: Exception | None = None
    result: Any = None
    try:
        result = await call()
    except Exception as error:
        failure = error
    fields = trail.call(context.tool_call_id, name)
    denied, result = await tell_result(trail, fields, begun, result, failure, shown=plain, native=plain)
    return result if denied is None else denied


class Hooks(RunHooks[Any]):
    """Ours beside the user's: whose turn it is, and tools that have no guardrails of ours."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        current.get().agent = agent.name
        await self._theirs.on_agent_start(context, agent)

    async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
        await self._theirs.on_agent_end(context, agent, output)

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
        await self._theirs.on_handoff(context, from_agent, to_agent)

    async def on_llm_start(self, context: Any, agent: Any, system_prompt: Any, input_items: Any) -> None:
        await self._theirs.on_llm_start(context, agent, system_prompt, input_items)

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        await self._theirs.on_llm_end(context, agent, response)

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        if not _is_ours(tool):
            part = tool_call(_call_id(context), tool.name, getattr(context, "tool_arguments", None))
            await self._tell("pre_tool_call", part, context, tool)
        await self._theirs.on_tool_start(context, agent, tool)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        if not _is_ours(tool):
            await self._tell("post_tool_call", tool_response(_call_id(context), plain(result)), context, tool)
        await self._theirs.on_tool_end(context, agent, tool, result)

    async def _tell(self, point: str, part: dict[str, Any], context: Any, tool: Any) -> None:
        trail = current.get()
        dispatch = await trail.tell(point, [part], **trail.call(_call_id(context), tool.name))
        dispatch.check()
        if dispatch.changed:
            uncarried(dispatch, "a tool that isn't a function of the agent's own")


def _is_ours(tool: Any) -> bool:
    return any(guard.name == "agentplug" for guard in getattr(tool, "tool_input_guardrails", None) or ())


def _call_id(context: Any) -> Any:
    return getattr(context, "tool_call_id", None)


class Provider(ModelProvider):
    """Gives models by name, asking."""

    def __init__(self, inner: ModelProvider) -> None:
        self._inner = inner

    def get_model(self, model_name: str | None) -> Model:
        return Asking(self._inner.get_model(model_name))

    async def aclose(self) -> None:
        await self._inner.aclose()


class Asking(Model):
    """A model whose every call is asked about."""

    def __init__(self, inner: Model) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def close(self) -> None:
        await self._inner.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._inner._cleanup_on_run_end(owner)

    def get_retry_advice(self, request: Any) -> Any:
        return self._inner.get_retry_advice(request)

    async def get_response(self, system_instructions: Any, input: Any, *rest: Any, **options: Any) -> ModelResponse:
        trail = current.get()
        system_instructions, input = await self._before(trail, system_instructions, input)
        begun = time.perf_counter()
        try:
            response = await self._inner.get_response(system_instructions, input, *rest, **options)
        except Exception as error:
            await self._failed(trail, error, begun)
            raise
        output = await self._after(trail, response.output, response.usage, begun)
        return response if output is response.output else replace(response, output=output)

    async def stream_response(
        self, system_instructions: Any, input: Any, *rest: Any, **options: Any
    ) -> AsyncIterator[Any]:
        trail = current.get()
        system_instructions, input = await self._before(trail, system_instructions, input)
        begun = time.perf_counter()
        try:
            stream: Any = self._inner.stream_response(system_instructions, input, *rest, **options)
            async with aclosing(stream) as events:
                async for event in events:
                    if event.type == "response.completed":
                        given = event.response.output
                        output = await self._after(trail, given, event.response.usage, begun)
                        if output is not given:
                            response = event.response.model_copy(update={"output": output})
                            event = event.model_copy(update={"response": response})
                    yield event
        except HookDenied:
            raise
        except Exception as error:
            await self._failed(trail, error, begun)
            raise

    async def _before(self, trail: Trail, instructions: Any, input: Any) -> tuple[Any, Any]:
        trail.turn += 1
        items = [*([{"role": "system", "content": instructions}] if instructions else []), *as_items(input)]
        found = flat(places(at, item) for at, item in enumerate(items))
        asked = await trail.tell(
            "pre_model_call", [place.part for place in found], model=self._model(), native=lambda: plain(items)
        )
        asked.check()
        if not asked.changed:
            return instructions, input
        items = carry(items, found, asked, Items(), head=1 if instructions else 0)
        if instructions:
            first = items[0] if items and items[0].get("role") == "system" else None
            return (None, items) if first is None else (first["content"], items[1:])
        return None, items

    async def _after(self, trail: Trail, output: list[Any], usage: Any, begun: float) -> list[Any]:
        found = flat(places(at, item) for at, item in enumerate(output))
        trail.asked = {place.part["name"]: place.part["id"] for place in found if place.part["type"] == "tool_call"}
        count = {name: getattr(usage, name, None) for name in ("input_tokens", "output_tokens")}
        answered = await trail.tell(
            "post_model_call",
            without_role(found),
            role="assistant",
            model=self._model(),
            usage=count,
            duration_ms=since(begun),
            native=lambda: [plain(as_dict(item)) for item in output],
        )
        answered.check()
        return carry(output, found, answered, Items(said=True)) if answered.changed else output

    async def _failed(self, trail: Trail, error: Exception, begun: float) -> None:
        await trail.tell("post_model_call", model=self._model(), error=error_of(error), duration_ms=since(begun))

    def _model(self) -> dict[str, Any]:
        name = getattr(self._inner, "model", None)
        return {"id": str(name) if name else type(self._inner).__name__, "vendor": None}
