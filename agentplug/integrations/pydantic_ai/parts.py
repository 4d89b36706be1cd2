"""Conversion of Pydantic AI's messages to parts and back (host)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai import messages as m
from pydantic_ai.tools import ToolDenied
from pydantic_core import to_jsonable_python

from agentplug.errors import HookDenied
from agentplug.integrations.bridge import text, tool_call, tool_response
from agentplug.integrations.transforms import Place, changed_call


def places_of(at: int, message: Any) -> list[Place]:
    """Return the parts of a message, each with its place. The request's parameters count as a message."""
    if isinstance(message, m.ModelResponse):
        return [Place(p.message, p.where, {**p.part, "role": "assistant"}) for p in response_places(at, message)]
    if not isinstance(message, m.ModelRequest):
        instructions = message.instruction_parts or ()
        return [Place(at, i, text(part.content, role="system")) for i, part in enumerate(instructions)]
    places: list[Place] = []
    for i, part in enumerate(message.parts):
        if isinstance(part, m.SystemPromptPart):
            places.append(Place(at, (i, None), text(part.content, role="system")))
        elif isinstance(part, m.UserPromptPart):
            contents = [part.content] if isinstance(part.content, str) else part.content
            places += [Place(at, (i, j), {**content_part(c), "role": "user"}) for j, c in enumerate(contents)]
        elif isinstance(part, m.ToolReturnPart):
            response = tool_response(part.tool_call_id, plain(part.content), role="tool")
            places.append(Place(at, (i, None), response))
        elif getattr(part, "tool_call_id", None):
            response = tool_response(part.tool_call_id, part.model_response(), role="tool")
            places.append(Place(at, (i, None), {**response, "type": "tool_call_response"}))
        else:
            places.append(Place(at, (i, None), {**_generic(part), "role": "user"}))
    return places


def response_places(at: int, response: m.ModelResponse) -> list[Place]:
    return [Place(at, (i, None), _response_part(part)) for i, part in enumerate(response.parts)]


def _response_part(part: Any) -> dict[str, Any]:
    if isinstance(part, m.TextPart):
        return text(part.content)
    if isinstance(part, m.ThinkingPart):
        return {"type": "reasoning", "content": part.content}
    if isinstance(part, m.ToolCallPart):
        return tool_call(part.tool_call_id, part.tool_name, part.args or {})
    if isinstance(part, m.FilePart):
        return content_part(part.content)
    return _generic(part)


def content_part(content: Any) -> dict[str, Any]:
    """Return the part for one item of a prompt."""
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


def plain(result: Any) -> Any:
    if isinstance(result, m.ToolReturn):
        result = result.return_value
    if isinstance(result, ToolDenied):
        result = result.message
    return to_jsonable_python(result, fallback=repr)


class PromptEditor:
    """Changes a prompt, each item of which counts as a message: see `Editor`."""

    def put(self, message: Any, where: Any, part: dict[str, Any]) -> Any:
        return _with_content(message, part)

    def drop(self, message: Any, where: Any) -> None:
        return None

    def fresh(self, part: dict[str, Any]) -> Any:
        return _with_content("", part)


class MessageEditor:
    """Changes `ModelRequest`, `ModelResponse`, and the request's parameters with the instructions: see `Editor`."""

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
            name, arguments, call_id = changed_call(part, None)
            more = {} if call_id is None else {"tool_call_id": call_id}
            return m.ModelResponse(parts=[m.ToolCallPart(name, arguments, **more)])
        if role == "assistant":
            return m.ModelResponse(parts=[m.TextPart(_text(part))])
        raise HookDenied(f"a transform added what can't be carried back: a {part['type']} part of {role}")


def _changed(native: Any, at: int | None, part: dict[str, Any]) -> Any:
    if isinstance(native, m.ToolCallPart):
        name, arguments, call_id = changed_call(part, native.tool_call_id)
        return replace(native, tool_name=name, args=arguments, tool_call_id=call_id)
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
    raise HookDenied(f"a transform changed what can't be carried back: a {type(native).__name__}")


def _with_content(content: Any, part: dict[str, Any]) -> Any:
    if isinstance(content, str):
        return _text(part)
    if isinstance(content, m.TextContent):
        return replace(content, content=_text(part))
    raise HookDenied(f"a transform changed what can't be carried back: a {type(content).__name__}")


def _text(part: dict[str, Any]) -> str:
    if part["type"] != "text":
        raise HookDenied(f"a transform left what can't be carried back: a {part['type']} part where only text can be")
    return str(part["content"])
