"""The adapter for Google ADK (host; the extra `google-adk`): a plugin of the runner, before all other plugins.

    runner = attach(runner, manager)
    async for event in runner.run_async(user_id=..., session_id=..., new_message=...): ...

Plugins belong to a `Runner` or an `App`, not to an agent. The messages of all its agents go to the hooks; a transfer
to another agent is a tool call. ADK calls its plugins in order until one answers. So ours sees calls that a later
plugin denies, but not a later plugin's change to a result.

A denied tool call has the result `{"error": the reason}`. A denied model call or response becomes an `LlmResponse`
with the reason and the error code `HOOK_DENIED`. A denied input is withheld from the session, and the run ends with
the reason; a denied output is replaced by the reason. In a streamed response, `post_model_call` comes with the last
event: a denial can't recall streamed words, but the agent doesn't use them. ADK doesn't report that a run was
cancelled: `agent_shutdown` of such a run comes when the runner is closed. Live runs are refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Any

from google.adk.apps import App
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.genai import types

from agentplug.contract.messages.message import AgentMessage
from agentplug.errors import ContractError
from agentplug.integrations import unattached, unknown
from agentplug.integrations.bridge import (
    Framework,
    Trail,
    check_manager,
    denial_of,
    error_of,
    ms_since,
    text,
    tool_call,
    tool_response,
)
from agentplug.integrations.google_adk.parts import ContentEditor, dump, places_of, plain, text_content
from agentplug.integrations.transforms import (
    Place,
    call_arguments,
    decide,
    flat,
    response_of,
    without_role,
    write_back,
)
from agentplug.manager.hooks import Dispatch
from agentplug.manager.manager import PluginManager

_FRAMEWORK = Framework.of("google-adk", "google-adk")
_MAX_RUNS = 10_000  # ADK doesn't report runs that were cancelled


def attach(agent: Any, manager: PluginManager) -> Any:
    """Return the same runner or app; from now on its messages go to the hooks of `manager`.

    Raises `ContractError` for another object, an agent included.
    """
    check_manager(manager)
    plugins = _plugins(agent)
    if any(isinstance(plugin, HooksPlugin) for plugin in plugins):
        raise ContractError("a manager is attached to this runner already")
    plugins.insert(0, HooksPlugin(manager))
    return agent


def detach(agent: Any) -> Any:
    """Return the same runner or app, without the hooks. Raises `ContractError` if it isn't attached."""
    plugins = _plugins(agent)
    at = next((at for at, plugin in enumerate(plugins) if isinstance(plugin, HooksPlugin)), None)
    if at is None:
        raise unattached(agent)
    del plugins[at]
    return agent


def _plugins(agent: Any) -> list[Any]:
    plugins = agent.plugin_manager.plugins if isinstance(agent, Runner) else getattr(agent, "plugins", None)
    if not isinstance(agent, (Runner, App)) or not isinstance(plugins, list):
        raise ContractError(f"{unknown(agent)}; in ADK plugins belong to the Runner, so attach to that")
    return plugins


def restore(message: AgentMessage) -> Any:
    """Return the framework's own objects from a message's `native`; None without `native`.

    A list of `Content` for inputs, outputs and the model's messages; plain values for tool calls and results.
    """
    if message.native is None:
        return None
    data = message.native["data"]
    if message.point in ("pre_tool_call", "post_tool_call"):
        return data
    return [types.Content.model_validate(content) for content in data]


class _Run(Trail):
    """The messages and the state of one invocation."""

    denial: str | None = None  # the reason, if the run is denied at its start
    start_s = 0.0
    started = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.task: Any = asyncio.current_task()
        self.calls: dict[str, float] = {}  # tool calls under way: the start of each
        self.denied_calls: set[str] = set()  # for these no tool ran


class HooksPlugin(BasePlugin):
    """The plugin that dispatches the messages to the hooks."""

    def __init__(self, manager: PluginManager) -> None:
        super().__init__(name="agentplug")
        self._manager = manager
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    def _run(self, context: Any) -> _Run:
        if context.invocation_id not in self._runs:
            session = context.session
            run = _Run(self._manager, _FRAMEWORK, None, context.invocation_id, session.id)
            self._runs[context.invocation_id] = run
            while len(self._runs) > _MAX_RUNS:
                self._runs.popitem(last=False)
        return self._runs[context.invocation_id]

    async def _started(self, context: Any) -> _Run:
        run = self._run(context)
        if not run.started:
            run.started = True
            run.agent = context.agent.name
            run.denial = denial_of(await run.dispatch("agent_startup"))
            if getattr(context, "live_request_queue", None) is not None:
                run.denial = "a live run can't be asked about: what is said in it goes through none of the hooks"
        return run

    async def on_user_message_callback(self, *, invocation_context: Any, user_message: Any) -> Any:
        """Dispatch `agent_startup` and `input`."""
        run = await self._started(invocation_context)
        if run.denial is None:
            places = places_of(0, user_message)
            dispatch = await run.dispatch(
                "input", without_role(places), role="user", native=lambda: dump([user_message])
            )
            run.denial, changed = _carried([user_message], places, dispatch, "user")
            if run.denial is None:
                return _one(changed, "user") if dispatch.changed else None
        return text_content(f"(withheld: {run.denial})", "user")

    async def before_run_callback(self, *, invocation_context: Any) -> Any:
        """End a run that was denied."""
        run = await self._started(invocation_context)
        return None if run.denial is None else text_content(run.denial)

    async def on_event_callback(self, *, invocation_context: Any, event: Any) -> Any:
        """Dispatch `output`: the text of a final response."""
        run = self._run(invocation_context)
        content = event.content
        if run.denial is not None or event.partial or event.error_code:
            return None
        if not content or not event.is_final_response():
            return None
        if not any(part.text and not part.thought for part in content.parts or ()):
            return None
        places = [place for place in places_of(0, content) if place.part["type"] == "text"]
        fields = {"role": "assistant", "agent": event.author, "native": lambda: dump([content])}
        dispatch = await run.dispatch("output", without_role(places), **fields)
        denial, changed = _carried([content], places, dispatch, "assistant")
        if denial is not None:
            return event.model_copy(update={"content": text_content(denial), "error_code": "HOOK_DENIED"})
        return event.model_copy(update={"content": _one(changed, "model")}) if dispatch.changed else None

    async def after_run_callback(self, *, invocation_context: Any) -> None:
        """Dispatch `agent_shutdown`."""
        if run := self._runs.pop(invocation_context.invocation_id, None):
            await run.end()

    async def on_run_error_callback(self, *, invocation_context: Any, error: Exception) -> None:
        """Dispatch `agent_shutdown` of a failed run."""
        if run := self._runs.pop(invocation_context.invocation_id, None):
            await run.end(error)

    async def close(self) -> None:
        """Dispatch `agent_shutdown` of cancelled runs: their task is done, or is closing the runner now."""
        ended = [name for name, run in self._runs.items() if run.task.done() or run.task is asyncio.current_task()]
        for name in ended:  # the others may be another runner's of the same app
            await self._runs.pop(name).end(asyncio.CancelledError())

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> Any:
        """Dispatch `pre_model_call`."""
        run = self._run(callback_context)
        run.turn += 1
        run.agent = callback_context.agent_name
        config, contents = llm_request.config, list(llm_request.contents)
        instruction = config.system_instruction if config is not None else None
        places, first = [], []
        if isinstance(instruction, str) and instruction:
            places, first = [Place(0, 0, text(instruction, role="system"))], [text_content(instruction, "system")]
        places += flat(places_of(at, content) for at, content in enumerate(contents, len(first)))
        fields = {"model": {"id": llm_request.model, "vendor": None}, "native": lambda: dump(contents)}
        dispatch = await run.dispatch("pre_model_call", [place.part for place in places], **fields)
        run.start_s = time.perf_counter()
        denial, changed = _carried([*first, *contents], places, dispatch, "user", len(first))
        if denial is not None:
            return _denied_response(denial)
        if dispatch.changed:
            if first:
                system = changed.pop(0) if changed and changed[0].role == "system" else None
                config.system_instruction = system.parts[0].text if system is not None else None
            llm_request.contents = changed
        return None

    async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> Any:
        """Dispatch `post_model_call` of a whole response."""
        if llm_response.partial:
            return None
        run, content = self._run(callback_context), llm_response.content or types.Content(role="model", parts=[])
        places = places_of(0, content)
        usage, reason = llm_response.usage_metadata, llm_response.finish_reason
        dispatch = await run.dispatch(
            "post_model_call",
            without_role(places),
            role="assistant",
            model={"id": llm_response.model_version, "vendor": None},
            finish_reason=reason.name.lower() if reason is not None else None,
            usage={"input_tokens": usage.prompt_token_count, "output_tokens": usage.candidates_token_count}
            if usage is not None
            else None,
            error={"type": llm_response.error_code} if llm_response.error_code else None,
            duration_ms=ms_since(run.start_s),
            native=lambda: dump([content]),
        )
        denial, changed = _carried([content], places, dispatch, "assistant")
        if denial is not None:
            return _denied_response(denial)
        return llm_response.model_copy(update={"content": _one(changed, "model")}) if dispatch.changed else None

    async def on_model_error_callback(self, *, callback_context: Any, llm_request: Any, error: Exception) -> None:
        """Dispatch `post_model_call` of a failed call."""
        run = self._run(callback_context)
        model = {"id": llm_request.model, "vendor": None}
        await run.dispatch("post_model_call", model=model, error=error_of(error), duration_ms=ms_since(run.start_s))

    async def before_tool_callback(self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any) -> Any:
        """Dispatch `pre_tool_call`."""
        run, call_id = self._run(tool_context), tool_context.function_call_id
        part = tool_call(call_id, tool.name, plain(tool_args))
        fields = run.call_fields(call_id, tool.name, role="assistant", native=lambda: plain(tool_args))
        dispatch = await run.dispatch("pre_tool_call", [part], **fields)
        denial, arguments = decide(dispatch, call_arguments, tool_args)
        if denial is not None:
            run.denied_calls.add(call_id)
            return {"error": denial}
        if dispatch.changed:
            tool_args.clear()
            tool_args.update(arguments)
        run.calls[call_id] = time.perf_counter()
        return None

    async def after_tool_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any, result: Any
    ) -> Any:
        """Dispatch `post_tool_call`, also for another plugin's answer in the tool's place."""
        run, call_id = self._run(tool_context), tool_context.function_call_id
        if call_id in run.denied_calls:
            return None
        part = tool_response(call_id, plain(result))
        dispatch = await self._after(run, call_id, tool, part, native=lambda: plain(result))
        denial, changed = decide(dispatch, response_of, None)
        return changed if denial is None else {"error": denial}

    async def on_tool_error_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any, error: Exception
    ) -> None:
        """Dispatch `post_tool_call` of a failed tool."""
        run, call_id = self._run(tool_context), tool_context.function_call_id
        await self._after(run, call_id, tool, tool_response(call_id, str(error)), error=error_of(error))

    async def _after(self, run: _Run, call_id: str, tool: Any, part: dict[str, Any], **more: Any) -> Dispatch:
        start_s = run.calls.pop(call_id, None)
        duration_ms = None if start_s is None else ms_since(start_s)
        fields = run.call_fields(call_id, tool.name, role="tool", duration_ms=duration_ms, **more)
        return await run.dispatch("post_tool_call", [part], **fields)


def _carried(
    contents: list[Any], places: list[Place], dispatch: Dispatch, role: str, head: int = 0
) -> tuple[str | None, list[Any]]:
    """Return the reason of a denial or None, and the contents with the changes of transforms."""
    return decide(
        dispatch, lambda changed: write_back(contents, places, changed, ContentEditor(role), head), contents
    )


def _one(contents: list[Any], role: str) -> types.Content:
    """Return the contents joined into one; a single content stays the same object."""
    parts = [part for content in contents for part in content.parts or ()]
    return types.Content(role=role, parts=parts) if len(contents) != 1 else contents[0]


def _denied_response(reason: str) -> LlmResponse:
    return LlmResponse(content=text_content(reason), error_code="HOOK_DENIED", error_message=reason)
