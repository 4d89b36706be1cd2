"""The adapter for the OpenAI Agents SDK (host; the extra `openai-agents`): wrapped models, tools and handoffs.

    agent = attach(agent, manager)
    result = await agent.run("How is Oslo?")

The result replaces both `Runner` and the agent: `run`, `run_sync` and `run_streamed` take the arguments of `Runner`,
without the agent. Agents of handoffs are attached too; a handoff is dispatched as a tool call. `pre_model_call` holds
the request that is really sent, after all filters and hooks; each retry is dispatched again.

A denied tool call is rejected as by a tool guardrail: the model reads the reason. A denied input or output raises the
exception of a guardrail's tripwire, which is a `HookDenied` too; any other denied message ends the run with
`HookDenied`. Calls of MCP servers' tools and hosted tools, if the SDK reports them, can't be changed, only denied,
which ends the run. The end of a streamed response waits for `post_model_call`: a denial can't recall streamed words,
but the agent doesn't use them. Hooks see an output that is no text, and can't change it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailResult,
    InputGuardrailTripwireTriggered,
    Model,
    OutputGuardrail,
    OutputGuardrailResult,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    RunHooks,
    Runner,
)

from agentplug.contract.messages.message import AgentMessage
from agentplug.errors import ContractError, HookDenied
from agentplug.integrations import unattached, unknown
from agentplug.integrations.bridge import Framework, Trail, check_manager, denial_of, output_part
from agentplug.integrations.openai_agents.parts import OUTPUT, ItemEditor, as_items, places_of, plain
from agentplug.integrations.openai_agents.wrappers import (
    HookedModel,
    HookedProvider,
    Hooks,
    current,
    wrap_agent,
)
from agentplug.integrations.transforms import Place, all_text, flat, refuse_change, without_role, write_back
from agentplug.manager.hooks import Dispatch
from agentplug.manager.manager import PluginManager

_FRAMEWORK = Framework.of("openai-agents", "openai-agents")


class InputDenied(HookDenied, InputGuardrailTripwireTriggered):
    """The input was denied. Also the exception that the SDK raises for an input guardrail's tripwire."""


class OutputDenied(HookDenied, OutputGuardrailTripwireTriggered):
    """The output was denied. Also the exception that the SDK raises for an output guardrail's tripwire."""


def attach(agent: Any, manager: PluginManager) -> AttachedAgent:
    """Return a runner of `agent`, whose messages go to the hooks of `manager`.

    Raises `ContractError` for another object.
    """
    if not isinstance(agent, Agent):
        raise ContractError(unknown(agent))
    return AttachedAgent(agent, check_manager(manager))


def detach(agent: Any) -> Any:
    """Return the original agent. Raises `ContractError` if `agent` isn't attached."""
    if not isinstance(agent, AttachedAgent):
        raise unattached(agent)
    return agent.original


def restore(message: AgentMessage) -> Any:
    """Return the framework's own objects from a message's `native`; None without `native`.

    Items as dicts for `input` and `pre_model_call`, output items for `post_model_call`; else plain values.
    """
    if message.native is None:
        return None
    data = message.native["data"]
    return OUTPUT.validate_python(data) if message.point == "post_model_call" else data


class AttachedAgent:
    """Runs one agent and the agents of its handoffs. Each run has a trail of its own."""

    def __init__(self, agent: Agent[Any], manager: PluginManager) -> None:
        self.manager = manager
        self.original = agent
        self.agent = wrap_agent(agent, {})

    async def run(self, input: Any, **options: Any) -> Any:
        """Do the same as `Runner.run(agent, input, ...)`."""
        async with self.trail(options) as trail:
            with current(trail):
                input = await _dispatch_input(trail, input)
                result = await Runner.run(self.agent, input, **_run_options(options))
                _change_output(result, await trail.dispatch("output", **_output_fields(result)))
        return result

    def run_sync(self, input: Any, **options: Any) -> Any:
        """Do the same as `Runner.run_sync(agent, input, ...)`."""
        with self.trail(options) as trail, current(trail):
            trail.dispatch_sync("agent_startup").check()
            if (places := _input_places(input)) is not None:
                dispatch = trail.dispatch_sync("input", **_input_fields(input, places))
                input = _changed_input(input, places, dispatch)
            result = Runner.run_sync(self.agent, input, **_run_options(options))
            _change_output(result, trail.dispatch_sync("output", **_output_fields(result)))
        return result

    def run_streamed(self, input: Any, **options: Any) -> Streamed:
        """Do the same as `Runner.run_streamed(agent, input, ...)`. The run begins with the first event."""
        return Streamed(self, input, options)

    def trail(self, options: dict[str, Any]) -> Trail:
        """Return the trail of a new run."""
        session = getattr(options.get("session"), "session_id", None) or options.get("conversation_id")
        return Trail(self.manager, _FRAMEWORK, self.agent.name, session_id=session)


class Streamed:
    """A run whose events are streamed. After the last one it has the result's attributes, such as `final_output`."""

    def __init__(self, attached: AttachedAgent, input: Any, options: dict[str, Any]) -> None:
        self._attached = attached
        self._input = input
        self._options = options
        self._result: Any = None

    async def stream_events(self) -> AsyncIterator[Any]:
        """Yield the SDK's events. Raises the errors of the run."""
        async with self._attached.trail(self._options) as trail:
            input = await _dispatch_input(trail, self._input)
            with current(trail):
                self._result = Runner.run_streamed(self._attached.agent, input, **_run_options(self._options))
            async with aclosing(self._result.stream_events()) as events:
                async for event in events:
                    yield event
            _change_output(self._result, await trail.dispatch("output", **_output_fields(self._result)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._result is None:
            raise AttributeError(f"{name}: the run has not begun; read its stream_events() first")
        return getattr(self._result, name)


async def _dispatch_input(trail: Trail, input: Any) -> Any:
    (await trail.dispatch("agent_startup")).check()
    if (places := _input_places(input)) is None:
        return input
    return _changed_input(input, places, await trail.dispatch("input", **_input_fields(input, places)))


def _input_places(input: Any) -> list[Place] | None:
    if not isinstance(input, (str, list)):
        return None  # the state of an interrupted run: there is no new input
    return flat(places_of(at, item) for at, item in enumerate(as_items(input)))


def _input_fields(input: Any, places: list[Place]) -> dict[str, Any]:
    return {"parts": without_role(places), "role": "user", "native": lambda: plain(input)}


def _changed_input(input: Any, places: list[Place], dispatch: Dispatch) -> Any:
    if (reason := denial_of(dispatch)) is not None:
        raise _tripwire_error(InputDenied, reason)
    if not dispatch.changed:
        return input
    items = write_back(as_items(input), places, dispatch, ItemEditor())
    return items[0]["content"] if isinstance(input, str) and len(items) == 1 else items


def _output_fields(result: Any) -> dict[str, Any]:
    value = plain(result.final_output)
    return {"parts": [output_part(value)], "role": "assistant", "native": lambda: value}


def _change_output(result: Any, dispatch: Dispatch) -> None:
    if (reason := denial_of(dispatch)) is not None:
        raise _tripwire_error(OutputDenied, reason, result)
    if dispatch.changed:
        if not isinstance(result.final_output, str):
            refuse_change(dispatch, "an output that is no text")
        result.final_output = all_text(dispatch)


def _tripwire_error(cls: type[Any], reason: str, result: Any = None) -> Exception:
    output = GuardrailFunctionOutput(output_info=reason, tripwire_triggered=True)
    name = "agentplug"
    if cls is InputDenied:
        guardrail: Any = InputGuardrailResult(InputGuardrail(lambda *_: output, name=name), output)
    else:
        guard = OutputGuardrail(lambda *_: output, name=name)
        guardrail = OutputGuardrailResult(guard, result.final_output, result.last_agent, output)
    error: Exception = cls(guardrail)
    error.args = (reason,)
    return error


def _run_options(options: dict[str, Any]) -> dict[str, Any]:
    config = options.get("run_config") or RunConfig()
    if isinstance(config, dict):
        config = RunConfig(**config)
    model = HookedModel(config.model) if isinstance(config.model, Model) else config.model
    config = replace(config, model=model, model_provider=HookedProvider(config.model_provider))
    return {**options, "run_config": config, "hooks": Hooks(options.get("hooks") or RunHooks())}
