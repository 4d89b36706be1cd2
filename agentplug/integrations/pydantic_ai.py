"""Pydantic AI (host; the extra `pydantic-ai`): a capability, outermost in every run of the agent.

    agent = attach(agent, manager)
    result = await agent.run("How is Oslo?")

A denied tool call or result comes back to the model as a tool return whose outcome is `denied`; any other denied
message ends the run in `HookDenied`. When a response is streamed, `post_model_call` comes after the last of it: what
was streamed can't be recalled, but nothing is done with it. An output that is no text is shown, and can't be changed.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator, Callable, Sequence
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

from agentplug.contract.messages import AgentMessage
from agentplug.errors import ContractError, HookDenied
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
    dumped,
    error_of,
    flat,
    only,
    response_of,
    text,
    tool_call,
    tool_response,
)
from agentplug.manager import PluginManager

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


async def _asked(trail: Trail, prompt: Any) -> Any:
    """The prompt as it is to be sent."""
    if prompt is None:
        return None
    contents = [prompt] if isinstance(prompt, str) else list(prompt)
    places = [Place(at, None, _content(content)) for at, content in enumerate(contents)]
    dispatch = await trail.tell(
        "input",
        [place.part for place in places],
        role="user",
        native=lambda: dumped(lambda: _PROMPT.dump_json(prompt)),
    )
    dispatch.check()
    contents = carry(contents, places, dispatch, _Contents())
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
        places = flat(_places(at, message) for at, message in enumerate(first))
        native = lambda: dumped(lambda: m.ModelMessagesTypeAdapter.dump_json(given.messages))  # noqa: E731
        asked = await trail.tell("pre_model_call", [p.part for p in places], model=model, native=native)
        asked.check()
        if asked.changed:
            parameters, *messages = carry(first, places, asked, _Messages())
            given = replace(given, model_request_parameters=parameters, messages=messages)
        begun = time.perf_counter()
        try:
            response = await handler(given)
        except Exception as error:
            await trail.tell("post_model_call", model=model, error=error_of(error), duration_ms=_ms(begun))
            raise
        places = _response_places(0, response)
        answered = await trail.tell(
            "post_model_call",
            [place.part for place in places],
            role="assistant",
            model={**model, "id": response.model_name or model["id"]},
            finish_reason=response.finish_reason,
            usage={"input_tokens": response.usage.input_tokens, "output_tokens": response.usage.output_tokens},
            duration_ms=_ms(begun),
            native=lambda: dumped(lambda: m.ModelMessagesTypeAdapter.dump_json([response])),
        )
        answered.check()
        if not answered.changed:
            return response
        carried = carry([response], places, answered, _Messages())
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
        if (denied := denial(asked)) is not None:
            return ToolDenied(denied)
        if asked.changed:
            args = call_arguments(asked)
        begun = time.perf_counter()
        failure: BaseException | None = None
        result: Any = None
        try:
            result = await handler(args)
        except SkipToolExecution as skipped:  # another capability's answer in place of the tool's
            result = skipped.result
        except Exception as error:
            failure = error.__cause__ if _wraps_another(error) else error
        answered = await trail.tell(
            "post_tool_call",
            [tool_response(call.tool_call_id, _shown(result) if failure is None else str(failure))],
            role="tool",
            error=error_of(failure),
            duration_ms=_ms(begun),
            native=lambda: to_jsonable_python(result),
            **fields,
        )
        if failure is not None:
            raise failure
        if (denied := denial(answered)) is not None:
            return ToolDenied(denied)
        if not answered.changed:
            return result
        response = response_of(answered)
        return replace(result, return_value=response) if isinstance(result, m.ToolReturn) else response

    async def wrap_output_process(
        self, ctx: Any, *, output_context: Any, output: Any, handler: Callable[..., Any]
    ) -> Any:
        """`output`, of the final one alone."""
        made = await handler(output)
        if ctx.partial_output:
            return made
        shown = to_jsonable_python(made, fallback=repr)
        dispatch = await self.trail.tell("output", [anything(shown)], role="assistant", native=lambda: shown)
        dispatch.check()
        return only(dispatch, "text")["content"] if dispatch.changed else made


# ---------------------------------------------------------------------- parts


def _places(at: int, message: Any) -> list[Place]:
    """What a message holds. The request's parameters count as one: the instructions are theirs."""
    if isinstance(message, m.ModelResponse):
        return [Place(p.message, p.where, {**p.part, "role": "assistant"}) for p in _response_places(at, message)]
    if not isinstance(message, m.ModelRequest):
        instructions = message.instruction_parts or ()
        return [Place(at, i, text(part.content, role="system")) for i, part in enumerate(instructions)]
    found: list[Place] = []
    for i, part in enumerate(message.parts):
        if isinstance(part, m.SystemPromptPart):
            found.append(Place(at, (i, None), text(part.content, role="system")))
        elif isinstance(part, m.UserPromptPart):
            contents = [part.content] if isinstance(part.content, str) else part.content
            found += [Place(at, (i, j), {**_content(c), "role": "user"}) for j, c in enumerate(contents)]
        elif isinstance(part, m.ToolReturnPart):
            response = tool_response(part.tool_call_id, _shown(part.content), role="tool")
            found.append(Place(at, (i, None), response))
        elif getattr(part, "tool_call_id", None):
            response = tool_response(part.tool_call_id, part.model_response(), role="tool")
            found.append(Place(at, (i, None), {**response, "type": "tool_call_response"}))
        else:
            found.append(Place(at, (i, None), {**_generic(part), "role": "user"}))
    return found


def _response_places(at: int, response: m.ModelResponse) -> list[Place]:
    return [Place(at, (i, None), _response_part(part)) for i, part in enumerate(response.parts)]


def _response_part(part: Any) -> dict[str, Any]:
    if isinstance(part, m.TextPart):
        return text(part.content)
    if isinstance(part, m.ThinkingPart):
        return {"type": "reasoning", "content": part.content}
    if isinstance(part, m.ToolCallPart):
        return tool_call(part.tool_call_id, part.tool_name, part.args or {})
    if isinstance(part, m.FilePart):
        return _content(part.content)
    return _generic(part)


def _content(content: Any) -> dict[str, Any]:
    """One item of a prompt."""
    if isinstance(content, str):
        return text(content)
    if isinstance(content, m.TextContent):
        return text(content.content)
    if isinstance(content, m.BinaryContent):
        data = base64.b64encode(content.data).decode()
        modality = content.media_type.partition("/")[0]
        return {"type": "blob", "modality": modality, "mime_type": content.media_type, "content": data}
    if isinstance(content, m.FileUrl):
        return {"type": "uri", "modality": content.kind.removesuffix("-url"), "uri": content.url}
    return _generic(content)


def _generic(part: Any) -> dict[str, Any]:
    kind = getattr(part, "part_kind", None) or getattr(part, "kind", None) or type(part).__name__
    return {"type": f"pydantic_ai.{kind}", "content": to_jsonable_python(part, fallback=repr)}


def _shown(result: Any) -> Any:
    if isinstance(result, m.ToolReturn):
        result = result.return_value
    if isinstance(result, ToolDenied):
        result = result.message
    return to_jsonable_python(result, fallback=repr)


# ---------------------------------------------------------------------- the way back


class _Contents:
    """A prompt's item is a message of its own."""

    def put(self, message: Any, where: Any, part: dict[str, Any]) -> Any:
        return _with_content(message, part)

    def drop(self, message: Any, where: Any) -> None:
        return None

    def fresh(self, part: dict[str, Any]) -> Any:
        return _with_content("", part)


class _Messages:
    """`ModelRequest`, `ModelResponse`, and the request's parameters, which hold the instructions."""

    def put(self, message: Any, where: Any, part: dict[str, Any]) -> Any:
        if not isinstance(where, tuple):
            instructions = list(message.instruction_parts)
            instructions[where] = replace(instructions[where], content=_text(part))
            return replace(message, instruction_parts=instructions)
        i, j = where
        parts = list(message.parts)
        parts[i] = _changed(parts[i], j, part)
        return replace(message, parts=parts)

    def drop(self, message: Any, where: Any) -> Any:
        if not isinstance(where, tuple):
            instructions = list(message.instruction_parts)
            del instructions[where]
            return replace(message, instruction_parts=instructions)
        i, j = where
        parts = list(message.parts)
        if j is not None and not isinstance(parts[i].content, str) and len(parts[i].content) > 1:
            parts[i] = replace(parts[i], content=[c for at, c in enumerate(parts[i].content) if at != j])
        else:
            del parts[i]
        return replace(message, parts=parts) if parts else None

    def fresh(self, part: dict[str, Any]) -> Any:
        role = part.get("role", "assistant")
        if role == "user":
            return m.ModelRequest(parts=[m.UserPromptPart(content=_text(part))])
        if role == "system":
            return m.ModelRequest(parts=[m.SystemPromptPart(content=_text(part))])
        if role == "assistant" and part["type"] == "tool_call":
            call = m.ToolCallPart(part["name"], part.get("arguments"), **_given_id(part))
            return m.ModelResponse(parts=[call])
        if role == "assistant":
            return m.ModelResponse(parts=[m.TextPart(_text(part))])
        raise HookDenied(f"a transform added what can't be carried: a {part['type']} part of {role}")


def _given_id(part: dict[str, Any]) -> dict[str, str]:
    return {"tool_call_id": part["id"]} if part.get("id") else {}


def _changed(native: Any, at: int | None, part: dict[str, Any]) -> Any:
    if isinstance(native, m.ToolCallPart):
        called = {"tool_name": part["name"], "args": part.get("arguments"), "tool_call_id": part["id"]}
        return replace(native, **called)
    if isinstance(native, m.ToolReturnPart):
        return replace(native, content=part["response"])
    if isinstance(native, m.UserPromptPart):
        if isinstance(native.content, str):
            return replace(native, content=_text(part))
        contents: Sequence[Any] = [
            _with_content(content, part) if i == at else content for i, content in enumerate(native.content)
        ]
        return replace(native, content=contents)
    if isinstance(native, (m.TextPart, m.ThinkingPart, m.SystemPromptPart)):
        return replace(native, content=part["content"])
    raise HookDenied(f"a transform changed what can't be carried: a {type(native).__name__}")


def _with_content(content: Any, part: dict[str, Any]) -> Any:
    if isinstance(content, str):
        return _text(part)
    if isinstance(content, m.TextContent):
        return replace(content, content=_text(part))
    raise HookDenied(f"a transform changed what can't be carried: a {type(content).__name__}")


def _text(part: dict[str, Any]) -> str:
    if part["type"] != "text":
        raise HookDenied(f"a transform put a {part['type']} part where only text can be")
    return str(part["content"])


def _wraps_another(error: BaseException) -> bool:
    """Pydantic AI's own wrappers of `ModelRetry` and `ToolFailed`."""
    return type(error).__name__ in ("ToolRetryError", "ToolFailedError") and error.__cause__ is not None


def _ms(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
