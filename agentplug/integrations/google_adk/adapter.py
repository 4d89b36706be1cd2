"""Google ADK (host; the extra `google-adk`): a plugin of the runner, the first of its plugins.

    runner = attach(runner, manager)
    async for event in runner.run_async(user_id=..., session_id=..., new_message=...): ...

Plugins belong to a `Runner` or an `App`, not to an agent; all agents that it runs are asked about, and a transfer to
another is the tool's call that it is. ADK asks its plugins in order until one answers: the first sees what a later
one denies, though not how a later one changes a result.

Denials are answers, as ADK has them: a tool's call gets `{"error": the reason}`, a model's call or response an
`LlmResponse` with the reason and the error code `HOOK_DENIED`; a denied input is withheld from the session and the
run ends with the reason; a denied output is replaced by it. When a response is streamed, `post_model_call` comes with
the last of it: what was streamed can't be recalled, but nothing is done with it. ADK doesn't say when a run is
cancelled: its `agent_shutdown` comes when the runner is closed. Live runs are refused.
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
    denial,
    error_of,
    since,
    text,
    tool_call,
    tool_response,
)
from agentplug.integrations.carrying import (
    Place,
    call_arguments,
    carry,
    flat,
    response_of,
    settled,
    without_role,
)
from agentplug.integrations.google_adk.parts import Contents, dump, places, plain, said
from agentplug.manager.hooks import Dispatch
from agentplug.manager.manager import PluginManager

_FRAMEWORK = Framework.of("google-adk", "google-adk")
_MAX_RUNS = 10_000  # of those that were cancelled nobody tells us


def attach(agent: Any, manager: PluginManager) -> Any:
    """The same runner or app, its messages going to the hooks of `manager`.

    Raises `ContractError` for another object, an agent included.
    """
    check_manager(manager)
    plugins = _plugins(agent)
    if any(isinstance(plugin, Asking) for plugin in plugins):
        raise ContractError("a manager is attached to this runner already")
    plugins.insert(0, Asking(manager))
    return agent


def detach(agent: Any) -> Any:
    """The same runner or app without the hooks. Raises `ContractError` for one that isn't attached."""
    plugins = _plugins(agent)
    at = next((at for at, plugin in enumerate(plugins) if isinstance(plugin, Asking)), None)
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
    """The framework's own objects that a message was made of, by its `native`; None if it has none.

    A list of `Content` for the input, the output and around the model; else plain values.
    """
    if message.native is None:
        return None
    data = message.native["data"]
    if message.point in ("pre_tool_call", "post_tool_call"):
        return data
    return [types.Content.model_validate(content) for content in data]


class _Run(Trail):
    """What we know of one invocation."""

    denied: str | None = None  # why it ends before it begins
    begun_s = 0.0
    started = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.task: Any = asyncio.current_task()
        self.calls: dict[str, float] = {}  # the tools at work, and since when
        self.answered: set[str] = set()  # the calls that we answered, so that no tool ran


class Asking(BasePlugin):
    """Takes the messages to the hooks."""

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

    # ------------------------------------------------------------------ the run

    async def _started(self, context: Any) -> _Run:
        run = self._run(context)
        if not run.started:
            run.started = True
            run.agent = context.agent.name
            run.denied = denial(await run.tell("agent_startup"))
            if getattr(context, "live_request_queue", None) is not None:
                run.denied = "a live run can't be asked about: what is said in it goes through none of the hooks"
        return run

    async def on_user_message_callback(self, *, invocation_context: Any, user_message: Any) -> Any:
        """`agent_startup` and `input`."""
        run = await self._started(invocation_context)
        if run.denied is None:
            found = places(0, user_message)
            asked = await run.tell("input", without_role(found), role="user", native=lambda: dump([user_message]))
            run.denied, changed = _carried([user_message], found, asked, "user")
            if run.denied is None:
                return _one(changed, "user") if asked.changed else None
        return said(f"(withheld: {run.denied})", "user")

    async def before_run_callback(self, *, invocation_context: Any) -> Any:
        """The end of a run that was denied."""
        run = await self._started(invocation_context)
        return None if run.denied is None else said(run.denied)

    async def on_event_callback(self, *, invocation_context: Any, event: Any) -> Any:
        """`output`: the last that an agent says."""
        run = self._run(invocation_context)
        content = event.content
        if run.denied is not None or event.partial or event.error_code:
            return None
        if not content or not event.is_final_response():
            return None
        if not any(part.text and not part.thought for part in content.parts or ()):
            return None
        found = [place for place in places(0, content) if place.part["type"] == "text"]
        fields = {"role": "assistant", "agent": event.author, "native": lambda: dump([content])}
        final = await run.tell("output", without_role(found), **fields)
        denied, changed = _carried([content], found, final, "assistant")
        if denied is not None:
            return event.model_copy(update={"content": said(denied), "error_code": "HOOK_DENIED"})
        return event.model_copy(update={"content": _one(changed, "model")}) if final.changed else None

    async def after_run_callback(self, *, invocation_context: Any) -> None:
        """`agent_shutdown`."""
        if run := self._runs.pop(invocation_context.invocation_id, None):
            await run.end()

    async def on_run_error_callback(self, *, invocation_context: Any, error: Exception) -> None:
        """`agent_shutdown` of a run that failed."""
        if run := self._runs.pop(invocation_context.invocation_id, None):
            await run.end(error)

    async def close(self) -> None:
        """`agent_shutdown` of runs that were cancelled: those whose task is done, or closes the runner now."""
        over = [name for name, run in self._runs.items() if run.task.done() or run.task is asyncio.current_task()]
        for name in over:  # the others may be another runner's of the same app
            await self._runs.pop(name).end(asyncio.CancelledError())

    # ------------------------------------------------------------------ the model

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> Any:
        """`pre_model_call`."""
        run = self._run(callback_context)
        run.turn += 1
        run.agent = callback_context.agent_name
        config, contents = llm_request.config, list(llm_request.contents)
        told = config.system_instruction if config is not None else None
        found, first = [], []
        if isinstance(told, str) and told:
            found, first = [Place(0, 0, text(told, role="system"))], [said(told, "system")]
        found += flat(places(at, content) for at, content in enumerate(contents, len(first)))
        fields = {"model": {"id": llm_request.model, "vendor": None}, "native": lambda: dump(contents)}
        asked = await run.tell("pre_model_call", [place.part for place in found], **fields)
        run.begun_s = time.perf_counter()
        denied, changed = _carried([*first, *contents], found, asked, "user", len(first))
        if denied is not None:
            return _denied(denied)
        if asked.changed:
            if first:
                system = changed.pop(0) if changed and changed[0].role == "system" else None
                config.system_instruction = system.parts[0].text if system is not None else None
            llm_request.contents = changed
        return None

    async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> Any:
        """`post_model_call`, of whole responses."""
        if llm_response.partial:
            return None
        run, content = self._run(callback_context), llm_response.content or types.Content(role="model", parts=[])
        found = places(0, content)
        used, reason = llm_response.usage_metadata, llm_response.finish_reason
        answered = await run.tell(
            "post_model_call",
            without_role(found),
            role="assistant",
            model={"id": llm_response.model_version, "vendor": None},
            finish_reason=reason.name.lower() if reason is not None else None,
            usage={"input_tokens": used.prompt_token_count, "output_tokens": used.candidates_token_count}
            if used is not None
            else None,
            error={"type": llm_response.error_code} if llm_response.error_code else None,
            duration_ms=since(run.begun_s),
            native=lambda: dump([content]),
        )
        denied, changed = _carried([content], found, answered, "assistant")
        if denied is not None:
            return _denied(denied)
        return llm_response.model_copy(update={"content": _one(changed, "model")}) if answered.changed else None

    async def on_model_error_callback(self, *, callback_context: Any, llm_request: Any, error: Exception) -> None:
        """`post_model_call` of a model that failed."""
        run = self._run(callback_context)
        model = {"id": llm_request.model, "vendor": None}
        await run.tell("post_model_call", model=model, error=error_of(error), duration_ms=since(run.begun_s))

    # ------------------------------------------------------------------ tools

    async def before_tool_callback(self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any) -> Any:
        """`pre_tool_call`."""
        run, call_id = self._run(tool_context), tool_context.function_call_id
        part = tool_call(call_id, tool.name, plain(tool_args))
        fields = run.call(call_id, tool.name, role="assistant", native=lambda: plain(tool_args))
        asked = await run.tell("pre_tool_call", [part], **fields)
        denied, arguments = settled(asked, call_arguments, tool_args)
        if denied is not None:
            run.answered.add(call_id)
            return {"error": denied}
        if asked.changed:
            tool_args.clear()
            tool_args.update(arguments)
        run.calls[call_id] = time.perf_counter()
        return None

    async def after_tool_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any, result: Any
    ) -> Any:
        """`post_tool_call`, also of what another plugin answered in the tool's place."""
        run, call_id = self._run(tool_context), tool_context.function_call_id
        if call_id in run.answered:
            return None  # denied: no tool ran
        part = tool_response(call_id, plain(result))
        answered = await self._after(run, call_id, tool, part, native=lambda: plain(result))
        denied, changed = settled(answered, response_of, None)
        return changed if denied is None else {"error": denied}

    async def on_tool_error_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any, error: Exception
    ) -> None:
        """`post_tool_call` of a tool that failed."""
        run, call_id = self._run(tool_context), tool_context.function_call_id
        await self._after(run, call_id, tool, tool_response(call_id, str(error)), error=error_of(error))

    async def _after(self, run: _Run, call_id: str, tool: Any, part: dict[str, Any], **more: Any) -> Dispatch:
        begun = run.calls.pop(call_id, None)
        duration_ms = None if begun is None else since(begun)
        fields = run.call(call_id, tool.name, role="tool", duration_ms=duration_ms, **more)
        return await run.tell("post_tool_call", [part], **fields)


def _carried(
    contents: list[Any], found: list[Place], dispatch: Dispatch, role: str, head: int = 0
) -> tuple[str | None, list[Any]]:
    """Why it is denied, or None; and the contents as transforms left them."""
    return settled(dispatch, lambda changed: carry(contents, found, changed, Contents(role), head), contents)


def _one(contents: list[Any], role: str) -> types.Content:
    """Several as one: what is one content stays one."""
    parts = [part for content in contents for part in content.parts or ()]
    return types.Content(role=role, parts=parts) if len(contents) != 1 else contents[0]


def _denied(reason: str) -> LlmResponse:
    return LlmResponse(content=said(reason), error_code="HOOK_DENIED", error_message=reason)
