"""What LangChain's middleware does, step by step (host): written once, for `invoke` and for `ainvoke`.

Each is a generator: it yields a `Tell` or a `Call`, and `langchain` does that, awaiting it or not.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.errors import GraphBubbleUp
from pydantic_core import to_jsonable_python

from agentplug.integrations.bridge import (
    Trail,
    anything,
    error_of,
    since,
    text,
    tool_call,
    tool_response,
)
from agentplug.integrations.carrying import (
    all_text,
    call_arguments,
    carry,
    flat,
    response_of,
    settled,
    uncarried,
    without_role,
)
from agentplug.integrations.langchain.parts import (
    Messages,
    as_content,
    blocks,
    dump,
    is_text,
    model_name,
    native,
    places,
    shown,
)
from agentplug.manager.hooks import Dispatch


class Tell(NamedTuple):
    """Tell the hooks; what comes back is the `Dispatch`."""

    point: str
    parts: list[dict[str, Any]]
    fields: dict[str, Any]


class Call(NamedTuple):
    """Go on inwards; what comes back, or is raised, is what came of it."""

    request: Any


Steps = Generator[Tell | Call, Any, Any]


def begin(state: Any) -> Steps:
    """`agent_startup` and `input`: what is to be changed in the agent's state."""
    (yield Tell("agent_startup", [], {})).check()
    given: list[Any] = []
    for message in reversed(state["messages"]):
        if not isinstance(message, HumanMessage):
            break
        given.insert(0, message)
    if not given:
        return None
    found = flat(places(at, message) for at, message in enumerate(given))
    asked = yield Tell("input", without_role(found), {"role": "user", "native": native(given)})
    asked.check()
    return _update(given, carry(given, found, asked, Messages())) if asked.changed else None


def finish(state: Any) -> Steps:
    """`output`: what is to be changed in the agent's state."""
    last = state["messages"][-1] if state["messages"] else None
    structured = state.get("structured_response")
    if structured is not None:
        parts = [anything(to_jsonable_python(structured, fallback=repr))]
    else:
        parts = [text(str(last.text))] if isinstance(last, AIMessage) else []
    final = yield Tell("output", parts, {"role": "assistant", "native": native([last] if last else [])})
    final.check()
    if not final.changed:
        return None
    if structured is not None or not isinstance(last, AIMessage):
        uncarried(final, "a structured output")
    others = [block for block in blocks(last) if not is_text(block)]
    content = all_text(final)
    changed = [*others, {"type": "text", "text": content}] if others else content
    return {"messages": [last.model_copy(update={"content": changed})]}


def call_model(request: Any) -> Steps:
    """`pre_model_call` and `post_model_call`: the model's response."""
    given = [*([request.system_message] if request.system_message else []), *request.messages]
    found = flat(places(at, message) for at, message in enumerate(given))
    model: dict[str, Any] = {"id": model_name(request.model), "vendor": None}
    asked = yield Tell("pre_model_call", [p.part for p in found], {"model": model, "native": native(given)})
    asked.check()
    if asked.changed:
        changed = carry(given, found, asked, Messages(), head=len(given) - len(request.messages))
        system = changed.pop(0) if changed and isinstance(changed[0], SystemMessage) else None
        request = request.override(messages=changed, system_message=system)
    begun = time.perf_counter()
    response: Any
    try:
        response = yield Call(request)
    except GraphBubbleUp:
        raise
    except Exception as error:
        failed = {"model": model, "error": error_of(error), "duration_ms": since(begun)}
        yield Tell("post_model_call", [], failed)
        raise
    whole = response
    if not isinstance(response, AIMessage):
        response = getattr(response, "model_response", response)
    result = [response] if isinstance(response, AIMessage) else response.result
    said = next((message for message in result if isinstance(message, AIMessage)), AIMessage(""))
    found = flat(places(at, message) for at, message in enumerate(result))
    used = said.usage_metadata or {}
    told = said.response_metadata
    fields = {
        "role": "assistant",
        "model": {"id": told.get("model_name") or model["id"], "vendor": told.get("model_provider")},
        "finish_reason": told.get("finish_reason") or told.get("stop_reason"),
        "usage": {"input_tokens": used.get("input_tokens"), "output_tokens": used.get("output_tokens")},
        "duration_ms": since(begun),
        "native": native(result),
    }
    answered = yield Tell("post_model_call", without_role(found), fields)
    answered.check()
    if not answered.changed:
        return whole
    changed = carry(result, found, answered, Messages())
    if isinstance(whole, AIMessage):
        return changed[0] if len(changed) == 1 else uncarried(answered, f"{len(changed)} messages")
    response.result = changed
    return whole


def call_tool(request: Any, trail: Trail) -> Steps:
    """`pre_tool_call` and `post_tool_call`: the tool's message, or command."""
    call = request.tool_call
    fields = trail.call(call["id"], call["name"])
    part = tool_call(call["id"], call["name"], call["args"])
    own = dump(lambda: dict(call))
    asked = yield Tell("pre_tool_call", [part], {"role": "assistant", "native": own, **fields})
    denied, arguments = settled(asked, call_arguments, call["args"])
    if denied is not None:
        return _denied(call, denied)
    if asked.changed:
        request = request.override(tool_call={**call, "args": arguments})
    begun = time.perf_counter()
    failure: Exception | None = None
    result: Any = None
    try:
        result = yield Call(request)
    except GraphBubbleUp:
        raise  # an interrupt isn't an error
    except Exception as error:
        failure = error
    answered = yield Tell(
        "post_tool_call",
        [tool_response(call["id"], str(failure) if failure else shown(result))],
        {
            "role": "tool",
            "error": error_of(failure) or ({"type": "tool_error"} if _is_error(result) else None),
            "duration_ms": since(begun),
            "native": native([result]) if isinstance(result, ToolMessage) else None,
            **fields,
        },
    )
    if failure is not None:
        raise failure
    denied, result = settled(answered, lambda changed: _with_response(changed, result), result)
    return result if denied is None else _denied(call, denied)


def _with_response(dispatch: Dispatch, result: Any) -> ToolMessage:
    if not isinstance(result, ToolMessage):
        uncarried(dispatch, "a Command")
    return result.model_copy(update={"content": as_content(response_of(dispatch))})


def _is_error(result: Any) -> bool:
    return isinstance(result, ToolMessage) and result.status == "error"


def _denied(call: Any, reason: str) -> ToolMessage:
    return ToolMessage(reason, tool_call_id=call["id"], name=call["name"], status="error")


def _update(before: list[Any], after: list[Any]) -> dict[str, Any]:
    """What turns `before` into `after` in the agent's state, where messages are known by their id."""
    kept = {message.id for message in after}
    return {"messages": [*(RemoveMessage(m.id) for m in before if m.id not in kept), *after]}
