"""OpenAI Agents SDK (host; the extra `openai-agents`): run hooks, tool guardrails, and the model's own interface.

    agent = attach(agent, manager)
    result = await agent.run("How is Oslo?")

What comes back stands for `Runner` and the agent: `run`, `run_sync` and `run_streamed` take what those of `Runner`
take after the agent. Agents that are handed over to are attached too; a handoff is asked about as the tool's call that
it is to the model. `pre_model_call` is what is really sent, after all filters and hooks, each time it is tried.

A denied tool call is rejected as a tool guardrail does it: the model reads the reason. A denied input or output raises
what a guardrail's tripwire raises, which is a `HookDenied` too; anything else that is denied ends the run in
`HookDenied`. Tools of MCP servers and hosted ones that report to hooks can be denied, which ends the run, and not
changed. When a response is streamed its end is held until `post_model_call` is through: what was streamed can't be
recalled, but nothing is done with it. An output that is no text is shown, and can't be changed.
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
    GuardrailFunctionOutput,
    Handoff,
    InputGuardrail,
    InputGuardrailResult,
    InputGuardrailTripwireTriggered,
    Model,
    ModelProvider,
    ModelResponse,
    OutputGuardrail,
    OutputGuardrailResult,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    RunHooks,
    Runner,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    handoff,
)

from agentplug.contract.messages import AgentMessage
from agentplug.errors import ContractError, HookDenied
from agentplug.hooks import Dispatch
from agentplug.integrations import unknown
from agentplug.integrations.bridge import (
    Framework,
    Place,
    Trail,
    anything,
    call_arguments,
    carry,
    check_manager,
    denial,
    error_of,
    flat,
    only,
    response_of,
    tool_call,
    tool_response,
    uncarried,
)
from agentplug.integrations.parts.openai_agents import OUTPUT, Items, as_dict, places, plain
from agentplug.manager import PluginManager

_FRAMEWORK = Framework.of("openai-agents", "openai-agents")
_trail: ContextVar[Trail] = ContextVar("agentplug_openai_agents_trail")


class InputDenied(HookDenied, InputGuardrailTripwireTriggered):
    """The input was denied: a `HookDenied`, and what the SDK raises where an input guardrail's tripwire did it."""


class OutputDenied(HookDenied, OutputGuardrailTripwireTriggered):
    """The output was denied: a `HookDenied`, and what the SDK raises where an output guardrail's tripwire did it."""


def attach(agent: Any, manager: PluginManager) -> AttachedAgent:
    """What runs `agent`, its messages going to the hooks of `manager`.

    Raises `ContractError` for another object.
    """
    if not isinstance(agent, Agent):
        raise ContractError(unknown(agent))
    return AttachedAgent(agent, check_manager(manager))


def restore(message: AgentMessage) -> Any:
    """The framework's own objects that a message was made of, by its `native`; None if it has none.

    Items as dicts for `input` and `pre_model_call`, output items for `post_model_call`; else plain values.
    """
    if message.native is None:
        return None
    data = message.native["data"]
    return OUTPUT.validate_python(data) if message.point == "post_model_call" else data


class AttachedAgent:
    """Runs one agent, and those it hands over to; each run has a trail of its own."""

    def __init__(self, agent: Agent[Any], manager: PluginManager) -> None:
        self.manager = manager
        self.agent = _attached(agent, {})

    async def run(self, input: Any, **options: Any) -> Any:
        """As `Runner.run(agent, input, ...)`."""
        trail = self._trail(options)
        before = _trail.set(trail)
        try:
            asked = await _begin(trail, input)
            result = await Runner.run(self.agent, asked, **_options(options))
            await _finish(trail, result)
        except BaseException as error:
            await trail.end(error)
            raise
        finally:
            _trail.reset(before)
        await trail.end()
        return result

    def run_sync(self, input: Any, **options: Any) -> Any:
        """As `Runner.run_sync(agent, input, ...)`."""
        trail = self._trail(options)
        before = _trail.set(trail)
        try:
            asked = _begun(trail.tell_sync("agent_startup"), trail, input)
            if asked is not None:
                input = _changed_input(input, asked[0], trail.tell_sync("input", **asked[1]))
            result = Runner.run_sync(self.agent, input, **_options(options))
            _changed_output(result, trail.tell_sync("output", **_output(result)))
        except BaseException as error:
            trail.end_sync(error)
            raise
        finally:
            _trail.reset(before)
        trail.end_sync()
        return result

    def run_streamed(self, input: Any, **options: Any) -> Streamed:
        """As `Runner.run_streamed(agent, input, ...)`; the run begins when its events are asked for."""
        return Streamed(self, input, options)

    def _trail(self, options: dict[str, Any]) -> Trail:
        session = getattr(options.get("session"), "session_id", None) or options.get("conversation_id")
        return Trail(self.manager, _FRAMEWORK, self.agent.name, session_id=session)


class Streamed:
    """A run whose events are streamed. What else its result has, `final_output` say, is here once they are through."""

    def __init__(self, attached: AttachedAgent, input: Any, options: dict[str, Any]) -> None:
        self._attached = attached
        self._input = input
        self._options = options
        self._result: Any = None

    async def stream_events(self) -> AsyncIterator[Any]:
        """The events, as the SDK has them. Raises what the run raises."""
        trail = self._attached._trail(self._options)
        try:
            asked = await _begin(trail, self._input)
            before = _trail.set(trail)
            try:
                self._result = Runner.run_streamed(self._attached.agent, asked, **_options(self._options))
            finally:
                _trail.reset(before)
            async with aclosing(self._result.stream_events()) as events:
                async for event in events:
                    yield event
            await _finish(trail, self._result)
        except BaseException as error:
            await trail.end(error)
            raise
        await trail.end()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._result is None:
            raise AttributeError(f"{name}: the run has not begun; read its stream_events() first")
        return getattr(self._result, name)


# ---------------------------------------------------------------------- the run


async def _begin(trail: Trail, input: Any) -> Any:
    asked = _begun(await trail.tell("agent_startup"), trail, input)
    return input if asked is None else _changed_input(input, asked[0], await trail.tell("input", **asked[1]))


def _begun(startup: Dispatch, trail: Trail, input: Any) -> tuple[list[Place], dict[str, Any]] | None:
    startup.check()
    if not isinstance(input, (str, list)):
        return None  # a run goes on where it was interrupted: there is no new input
    found = flat(places(at, item) for at, item in enumerate(_as_items(input)))
    parts = [{name: value for name, value in place.part.items() if name != "role"} for place in found]
    return found, {"parts": parts, "role": "user", "native": lambda: plain(input)}


def _changed_input(input: Any, found: list[Place], asked: Dispatch) -> Any:
    if (denied := denial(asked)) is not None:
        raise _tripped(InputDenied, denied)
    if not asked.changed:
        return input
    items = carry(_as_items(input), found, asked, Items())
    return items[0]["content"] if isinstance(input, str) and len(items) == 1 else items


def _as_items(input: Any) -> list[Any]:
    return [{"role": "user", "content": input}] if isinstance(input, str) else list(input)


async def _finish(trail: Trail, result: Any) -> None:
    _changed_output(result, await trail.tell("output", **_output(result)))


def _output(result: Any) -> dict[str, Any]:
    shown = plain(result.final_output)
    return {"parts": [anything(shown)], "role": "assistant", "native": lambda: shown}


def _changed_output(result: Any, final: Dispatch) -> None:
    if (denied := denial(final)) is not None:
        raise _tripped(OutputDenied, denied, result)
    if final.changed:
        if not isinstance(result.final_output, str):
            uncarried(final, "an output that is no text")
        result.final_output = only(final, "text")["content"]


def _tripped(cls: type[Any], reason: str, result: Any = None) -> Exception:
    output = GuardrailFunctionOutput(output_info=reason, tripwire_triggered=True)
    name = "agentplug"
    if cls is InputDenied:
        told: Any = InputGuardrailResult(InputGuardrail(lambda *_: output, name=name), output)
    else:
        guard = OutputGuardrail(lambda *_: output, name=name)
        told = OutputGuardrailResult(guard, result.final_output, result.last_agent, output)
    error: Exception = cls(told)
    error.args = (reason,)
    return error


def _options(options: dict[str, Any]) -> dict[str, Any]:
    config = options.get("run_config") or RunConfig()
    if isinstance(config, dict):
        config = RunConfig(**config)
    model = _Asking(config.model) if isinstance(config.model, Model) else config.model
    config = replace(config, model=model, model_provider=_Provider(config.model_provider))
    return {**options, "run_config": config, "hooks": _Hooks(options.get("hooks") or RunHooks())}


# ---------------------------------------------------------------------- the agent


def _attached(agent: Agent[Any], known: dict[int, Agent[Any]]) -> Agent[Any]:
    """A copy of the agent that asks; the agents it hands over to too, be it in circles."""
    if id(agent) not in known:
        given = {"model_settings": agent.model_settings}
        if isinstance(agent.model, Model):
            given["model"] = _Asking(agent.model)
        tools = [_tool(tool) if isinstance(tool, FunctionTool) else tool for tool in agent.tools]
        made = known[id(agent)] = agent.clone(tools=tools, **given)
        made.handoffs = [_handoff(to, known) for to in agent.handoffs]
    return known[id(agent)]


def _handoff(to: Any, known: dict[int, Agent[Any]]) -> Handoff[Any, Any]:
    given = to if isinstance(to, Handoff) else handoff(to)
    if not isinstance(to, Handoff):
        _attached(to, known)
    made = copy.copy(given)

    async def invoke(context: Any, arguments: str) -> Any:
        trail = _trail.get()
        call_id = getattr(context, "tool_call_id", None)
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
        return _attached(target, known)

    made.on_invoke_handoff = invoke
    return made


def _tool(tool: FunctionTool) -> FunctionTool:
    made = copy.copy(tool)
    inner = made.on_invoke_tool
    asked_of: dict[tuple[str, str], Dispatch] = {}

    async def guard(data: Any) -> ToolGuardrailFunctionOutput:
        trail, context = _trail.get(), data.context
        part = tool_call(context.tool_call_id, tool.name, context.tool_arguments)
        native = lambda: as_dict(context.tool_call) if context.tool_call else None  # noqa: E731
        fields = trail.call(context.tool_call_id, tool.name)
        asked = await trail.tell("pre_tool_call", [part], role="assistant", native=native, **fields)
        if (denied := denial(asked)) is not None:
            return ToolGuardrailFunctionOutput.reject_content(denied, output_info=denied)
        asked_of[trail.run_id, context.tool_call_id] = asked
        return ToolGuardrailFunctionOutput.allow()

    async def invoke(context: Any, arguments: str) -> Any:
        trail = _trail.get()
        asked = asked_of.pop((trail.run_id, context.tool_call_id), None)
        if asked is not None and asked.changed:
            arguments = json.dumps(call_arguments(asked))
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
    answered = await trail.tell(
        "post_tool_call",
        [tool_response(context.tool_call_id, plain(result) if failure is None else str(failure))],
        role="tool",
        error=error_of(failure),
        duration_ms=_ms(begun),
        native=lambda: plain(result),
        **trail.call(context.tool_call_id, name),
    )
    if failure is not None:
        raise failure
    if (denied := denial(answered)) is not None:
        return denied
    return response_of(answered) if answered.changed else result


class _Hooks(RunHooks[Any]):
    """Ours beside the user's: whose turn it is, and tools that have no guardrails of ours."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        _trail.get().agent = agent.name
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
        trail = _trail.get()
        dispatch = await trail.tell(point, [part], **trail.call(_call_id(context), tool.name))
        dispatch.check()
        if dispatch.changed:
            uncarried(dispatch, "a tool that isn't a function of the agent's own")


def _is_ours(tool: Any) -> bool:
    return any(guard.name == "agentplug" for guard in getattr(tool, "tool_input_guardrails", None) or ())


def _call_id(context: Any) -> Any:
    return getattr(context, "tool_call_id", None)


# ---------------------------------------------------------------------- the model


class _Provider(ModelProvider):
    """Gives models by name, asking."""

    def __init__(self, inner: ModelProvider) -> None:
        self._inner = inner

    def get_model(self, model_name: str | None) -> Model:
        return _Asking(self._inner.get_model(model_name))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Asking(Model):
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
        trail = _trail.get()
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
        trail = _trail.get()
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
        items = [*([{"role": "system", "content": instructions}] if instructions else []), *_as_items(input)]
        found = flat(places(at, item) for at, item in enumerate(items))
        asked = await trail.tell(
            "pre_model_call", [place.part for place in found], model=self._model(), native=lambda: plain(items)
        )
        asked.check()
        if not asked.changed:
            return instructions, input
        items = carry(items, found, asked, Items())
        if instructions:
            first = items[0] if items and items[0].get("role") == "system" else None
            return (None, items) if first is None else (first["content"], items[1:])
        return None, items

    async def _after(self, trail: Trail, output: list[Any], usage: Any, begun: float) -> list[Any]:
        found = flat(places(at, item) for at, item in enumerate(output))
        parts = [{name: value for name, value in place.part.items() if name != "role"} for place in found]
        count = {name: getattr(usage, name, None) for name in ("input_tokens", "output_tokens")}
        answered = await trail.tell(
            "post_model_call",
            parts,
            role="assistant",
            model=self._model(),
            usage=count,
            duration_ms=_ms(begun),
            native=lambda: [plain(as_dict(item)) for item in output],
        )
        answered.check()
        return carry(output, found, answered, Items(said=True)) if answered.changed else output

    async def _failed(self, trail: Trail, error: Exception, begun: float) -> None:
        await trail.tell("post_model_call", model=self._model(), error=error_of(error), duration_ms=_ms(begun))

    def _model(self) -> dict[str, Any]:
        name = getattr(self._inner, "model", None)
        return {"id": str(name) if name else type(self._inner).__name__, "vendor": None}


def _ms(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
