"""Conversion of ADK's messages, `Content` of Google's Gen AI types, to parts and back (host).

ADK wraps a tool's result that isn't a dict as `{"result": ...}`, and an error's text as `{"error": ...}`. Parts hold
the inner value; the way back wraps it again.
"""

from __future__ import annotations

import base64
from typing import Any

from google.genai import types
from pydantic_core import to_jsonable_python

from agentplug.errors import HookDenied
from agentplug.integrations.bridge import text, tool_call, tool_response
from agentplug.integrations.transforms import Place, changed_call

_WRAPPED = ("result", "error")


def places_of(at: int, content: types.Content) -> list[Place]:
    role = "assistant" if content.role == "model" else "user"
    return [
        Place(at, i, {**part, "role": "tool" if part["type"] == "tool_call_response" else role})
        for i, part in enumerate(map(_part, content.parts or ()))
    ]


def plain(value: Any) -> Any:
    """Return a tool's result as JSON values."""
    return to_jsonable_python(value, fallback=repr)


def dump(contents: list[types.Content]) -> Any:
    """Return the framework's own dump of contents."""
    return [content.model_dump(mode="json", exclude_none=True) for content in contents]


def _part(part: types.Part) -> dict[str, Any]:
    if part.function_call is not None:
        return tool_call(part.function_call.id, part.function_call.name or "", part.function_call.args or {})
    if part.function_response is not None:
        return tool_response(part.function_response.id, _unwrapped(part.function_response.response))
    if part.text is not None:
        return {"type": "reasoning", "content": part.text} if part.thought else text(part.text)
    if part.inline_data is not None and part.inline_data.data is not None:
        kind = part.inline_data.mime_type or "application/octet-stream"
        data = base64.b64encode(part.inline_data.data).decode()
        return {"type": "blob", "modality": kind.partition("/")[0], "mime_type": kind, "content": data}
    if part.file_data is not None and part.file_data.file_uri:
        kind = part.file_data.mime_type or "application/octet-stream"
        return {"type": "uri", "modality": kind.partition("/")[0], "mime_type": kind, "uri": part.file_data.file_uri}
    return {"type": "google_adk.part", "content": part.model_dump(mode="json", exclude_none=True)}


def _unwrapped(response: Any) -> Any:
    if isinstance(response, dict) and len(response) == 1 and next(iter(response)) in _WRAPPED:
        return plain(next(iter(response.values())))
    return plain(response)


class ContentEditor:
    """Changes contents: see `Editor`. New contents have `role`, unless the part says another."""

    def __init__(self, role: str) -> None:
        self._role = role

    def put(self, message: types.Content, where: int, part: dict[str, Any]) -> types.Content:
        parts = list(message.parts or ())
        parts[where] = _changed(parts[where], part)
        return message.model_copy(update={"parts": parts})

    def drop(self, message: types.Content, where: int) -> types.Content | None:
        parts = [part for at, part in enumerate(message.parts or ()) if at != where]
        return message.model_copy(update={"parts": parts}) if parts else None

    def fresh(self, part: dict[str, Any]) -> types.Content:
        role = part.get("role", self._role)
        if role == "assistant" and part["type"] == "tool_call":
            name, arguments, call_id = changed_call(part, None)
            call = types.FunctionCall(id=call_id, name=name, args=arguments)
            return types.Content(role="model", parts=[types.Part(function_call=call)])
        if part["type"] == "text" and role in ("user", "assistant"):
            return text_content(part["content"], "model" if role == "assistant" else "user")
        raise HookDenied(f"a transform added what can't be carried back: a {part['type']} part of {role}")


def text_content(content: str, role: str = "model") -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=content)])


def _changed(native: types.Part, part: dict[str, Any]) -> types.Part:
    if native.function_call is not None:
        name, arguments, call_id = changed_call(part, native.function_call.id)
        called = {"id": call_id, "name": name, "args": arguments}
        return native.model_copy(update={"function_call": native.function_call.model_copy(update=called)})
    if native.function_response is not None:
        before, after = native.function_response.response, part["response"]
        if isinstance(before, dict) and len(before) == 1 and next(iter(before)) in _WRAPPED:
            after = {next(iter(before)): after}
        elif not isinstance(after, dict):
            after = {"result": after}
        answer = native.function_response.model_copy(update={"response": after})
        return native.model_copy(update={"function_response": answer})
    if native.text is not None:
        return native.model_copy(update={"text": part["content"]})
    raise HookDenied(f"a transform changed what can't be carried back: a {part['type']} part")
