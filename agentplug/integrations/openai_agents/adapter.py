"""OpenAI Agents SDK (host; the extra `openai-agents`): run hooks, tool guardrails, and the model's own interface.

    agent = attach(agent, manager)
    result = await agent.run("How is Oslo?")

What comes back stands for `Runner` and the agent: `run`, `run_sync` and `run_streamed` take what those of `Runner`
take after the agent. Agents that are handed over to are attached too; a handoff is asked about as the tool's call
that it is to the model. `pre_model_call` is what is really sent, after all filters and hooks, each time it is tried.

A denied tool call is rejected as a tool guardrail does it: the model reads the reason. A denied input or output
raises what a guardrail's tripwire raises, which is a `HookDenied` too; anything else that is denied ends the run in
`HookDenied`. Tools of MCP servers and hosted ones that report to hooks can be denied, which ends the run, and not
changed. When a response is streamed its end is held until `post_model_call` is through: what was streamed can't be
recalled, but nothing is done with it. An output that is no text is shown, and can't be changed.
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
from agentplug.integrations.bridge import (
    Framework,
    Trail,
    anything,
    check_manager,
    denial,
)
from agentplug.integrations.carrying import (
    Place,
    all_text,
    carry,
    flat,
    uncarried,
    without_role,
)
from agentplug.integrations.openai_agents.asking import Asking, Hooks, Provider, attached, current
from agentplug.integrations.openai_agents.parts import OUTPUT, Items, as_items, places, plain
from agentplug.manager.hooks import Dispatch
from agentplug.manager.manager import PluginManager

_FRAMEWORK = Framework.of("openai-agents", "openai-agents")


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


def detach(agent: Any) -> Any:
    """The agent that was attached. Raises `ContractError` for one that isn't."""
    if not isinstance(agent, AttachedAgent):
        raise unattached(agent)
    return agent.original


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
        self.original = agent
        self.agent = attached(agent, {})

    async def run(self, input: Any, **options: Any) -> Any:
        """As `Runner.run(agent, input, ...)`."""
        trail = self.trail(options)
        before = current.set(trail)
        try:
            asked = await _begin(trail, input)
            result = await Runner.run(self.agent, asked, **_options(options))
            await _finish(trail, result)
        except BaseException as error:
            await trail.end(error)
            raise
        finally:
            current.reset(before)
        await trail.end()
        return result

    def run_sync(self, input: Any, **options: Any) -> Any:
        """As `Runner.run_sync(agent, input, ...)`."""
        trail = self.trail(options)
        before = current.set(trail)
        try:
            asked = _begun(trail.tell_sync("agent_startup"), input)
            if asked is not None:
                input = _changed_input(input, asked[0], trail.tell_sync("input", **asked[1]))
            result = Runner.run_sync(self.agent, input, **_options(options))
            _changed_output(result, trail.tell_sync("output", **_output(result)))
        except BaseException as error:
            trail.end_sync(error)
            raise
        finally:
            current.reset(before)
        trail.end_sync()
        return result

    def run_streamed(self, input: Any, **options: Any) -> Streamed:
        """As `Runner.run_streamed(agent, input, ...)`; the run begins when its events are asked for."""
        return Streamed(self, input, options)

    def trail(self, options: dict[str, Any]) -> Trail:
        """Of a new run."""
        session = getattr(options.get("session"), "session_id", None) or options.get("conversation_id")
        return Trail(self.manager, _FRAMEWORK, self.agent.name, session_id=session)


class Streamed:
    """A run whose events are streamed. What else its result has, as `final_output`, is here once they are through."""

    def __init__(self, attached: AttachedAgent, input: Any, options: dict[str, Any]) -> None:
        self._attached = attached
        self._input = input
        self._options = options
        self._result: Any = None

    async def stream_events(self) -> AsyncIterator[Any]:
        """The events, as the SDK has them. Raises what the run raises."""
        trail = self._attached.trail(self._options)
        try:
            asked = await _begin(trail, self._input)
            before = current.set(trail)
            try:
                self._result = Runner.run_streamed(self._attached.agent, asked, **_options(self._options))
            finally:
                current.reset(before)
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
    asked = _begun(await trail.tell("agent_startup"), input)
    return input if asked is None else _changed_input(input, asked[0], await trail.tell("input", **asked[1]))


def _begun(startup: Dispatch, input: Any) -> tuple[list[Place], dict[str, Any]] | None:
    startup.check()
    if not isinstance(input, (str, list)):
        return None  # a run goes on where it was interrupted: there is no new input
    found = flat(places(at, item) for at, item in enumerate(as_items(input)))
    return found, {"parts": without_role(found), "role": "user", "native": lambda: plain(input)}


def _changed_input(input: Any, found: list[Place], asked: Dispatch) -> Any:
    if (denied := denial(asked)) is not None:
        raise _tripped(InputDenied, denied)
    if not asked.changed:
        return input
    items = carry(as_items(input), found, asked, Items())
    return items[0]["content"] if isinstance(input, str) and len(items) == 1 else items


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
        result.final_output = all_text(final)


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
    model = Asking(config.model) if isinstance(config.model, Model) else config.model
    config = replace(config, model=model, model_provider=Provider(config.model_provider))
    return {**options, "run_config": config, "hooks": Hooks(options.get("hooks") or RunHooks())}
