"""LangChain (host; the extra `langchain`): a middleware, outermost in the agents that `create_agent` makes.

    agent = attach(create_agent, manager)(model, tools=[weather])
    await agent.ainvoke({"messages": "How is Oslo?"})

Middleware is fixed when an agent is made, so it is `create_agent` that is attached; what comes back is called like
it. A denied tool call or result comes back to the model as a `ToolMessage` whose status is `error`; any other denied
message ends the run in `HookDenied`. `agent_shutdown` comes from a callback, since `after_agent` isn't called when a
run fails. When a response is streamed, `post_model_call` comes after the last of it: what was streamed can't be
recalled, but nothing is done with it. A structured output and a tool's `Command` are shown, and can't be changed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
)
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp
from pydantic_core import to_jsonable_python

from agentplug.contract.messages import AgentMessage
from agentplug.errors import ContractError
from agentplug.integrations import unknown
from agentplug.integrations.bridge import (
    Framework,
    Trail,
    all_text,
    anything,
    call_arguments,
    carry,
    check_manager,
    denial,
    error_of,
    flat,
    response_of,
    since,
    text,
    tool_call,
    tool_response,
    uncarried,
    without_role,
)
from agentplug.integrations.parts.langchain import (
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
from agentplug.manager import PluginManager

_FRAMEWORK = Framework.of("langchain", "langchain")


def attach(agent: Any, manager: PluginManager) -> Callable[..., Any]:
    """`create_agent` for agents whose messages go to the hooks of `manager`; `agent` is `create_agent` itself.

    Raises `ContractError` for another object, and for an agent that is made already.
    """
    check_manager(manager)
    if agent is not create_agent:
        if type(agent).__module__.startswith("langgraph."):
            raise ContractError(
                "the middleware of a LangChain agent is fixed when it is made; "
                "make it with attach(create_agent, manager)(model, tools, ...)"
            )
        raise ContractError(unknown(agent))

    @functools.wraps(create_agent)
    def attached(*args: Any, middleware: Sequence[Any] = (), **options: Any) -> Any:
        runs = _Runs(manager, options.get("name"))
        made = create_agent(*args, middleware=[Asking(runs), *middleware], **options)
        return made.with_config(callbacks=[runs])

    return attached


def restore(message: AgentMessage) -> Any:
    """The framework's own objects that a message was made of, by its `native`; None if it has none.

    A list of messages for `input`, `output` and around the model; else the tool call as LangChain has it, or what the
    tool's message was.
    """
    if message.native is None:
        return None
    data = message.native["data"]
    if message.point == "pre_tool_call":
        return data
    found = messages_from_dict(data)
    return found[0] if message.point == "post_tool_call" else found


class _Runs(AsyncCallbackHandler):
    """Knows which run of the agent a step belongs to, and when it has ended."""

    run_inline = True

    def __init__(self, manager: PluginManager, name: str | None) -> None:
        self._manager = manager
        self._name = name
        self._roots: dict[UUID, UUID] = {}
        self._trails: dict[UUID, Trail] = {}

    def trail(self) -> Trail:
        """That of the run that the current step belongs to."""
        config = get_config()
        parent = getattr(config.get("callbacks"), "parent_run_id", None)
        root = self._roots[parent] if parent is not None else None
        assert root is not None, "the agent's callbacks are gone from its configuration"
        if root not in self._trails:
            thread = config.get("configurable", {}).get("thread_id")
            session = None if thread is None else str(thread)
            self._trails[root] = Trail(self._manager, _FRAMEWORK, self._name, str(root), session)
        return self._trails[root]

    async def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **_: Any
    ) -> None:
        """Note whose part it is."""
        known = self._roots.get(parent_run_id) if parent_run_id is not None else None
        self._roots[run_id] = known or run_id

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """A step has ended, or the run."""
        await self._ended(run_id, None)

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A step has failed, or the run."""
        await self._ended(run_id, error)

    async def _ended(self, run_id: UUID, error: BaseException | None) -> None:
        if self._roots.get(run_id) != run_id:
            return
        trail = self._trails.pop(run_id, None)
        self._roots = {step: root for step, root in self._roots.items() if root != run_id}
        if trail is not None:
            await trail.end(error)


class _Tell(NamedTuple):
    point: str
    parts: list[dict[str, Any]]
    fields: dict[str, Any]


class _Call(NamedTuple):
    request: Any


_Steps = Generator[_Tell | _Call, Any, Any]


class Asking(AgentMiddleware[Any, Any]):
    """Takes the messages to the hooks. Each step is written once, and driven both ways: `invoke` and `ainvoke`."""

    def __init__(self, runs: _Runs) -> None:
        super().__init__()
        self._runs = runs

    @property
    def name(self) -> str:
        """As the graph's nodes are called."""
        return "agentplug"

    def before_agent(self, state: Any, runtime: Any) -> Any:
        """`agent_startup` and `input`."""
        return self._drive(_begin(state))

    async def abefore_agent(self, state: Any, runtime: Any) -> Any:
        """The same."""
        return await self._adrive(_begin(state))

    def after_agent(self, state: Any, runtime: Any) -> Any:
        """`output`."""
        return self._drive(_finish(state))

    async def aafter_agent(self, state: Any, runtime: Any) -> Any:
        """The same."""
        return await self._adrive(_finish(state))

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """`pre_model_call` and `post_model_call`."""
        self._runs.trail().turn += 1
        return self._drive(_model(request), handler)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """The same."""
        self._runs.trail().turn += 1
        return await self._adrive(_model(request), handler)

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """`pre_tool_call` and `post_tool_call`."""
        return self._drive(_tool(request, self._runs.trail()), handler)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """The same."""
        return await self._adrive(_tool(request, self._runs.trail()), handler)

    def _drive(self, steps: _Steps, handler: Callable[[Any], Any] | None = None) -> Any:
        trail, go = self._runs.trail(), functools.partial(next, steps)
        while True:
            try:
                step = go()
            except StopIteration as done:
                return done.value
            try:
                if isinstance(step, _Tell):
                    came = trail.tell_sync(step.point, step.parts, **step.fields)
                else:
                    assert handler is not None
                    came = handler(step.request)
                go = functools.partial(steps.send, came)
            except Exception as error:
                go = functools.partial(steps.throw, error)

    async def _adrive(self, steps: _Steps, handler: Callable[[Any], Awaitable[Any]] | None = None) -> Any:
        trail, go = self._runs.trail(), functools.partial(next, steps)
        while True:
            try:
                step = go()
            except StopIteration as done:
                return done.value
            try:
                if isinstance(step, _Tell):
                    came = await trail.tell(step.point, step.parts, **step.fields)
                else:
                    assert handler is not None
                    came = await handler(step.request)
                go = functools.partial(steps.send, came)
            except Exception as error:
                go = functools.partial(steps.throw, error)


# ---------------------------------------------------------------------- the steps


def _begin(state: Any) -> _Steps:
    (yield _Tell("agent_startup", [], {})).check()
    given: list[Any] = []
    for message in reversed(state["messages"]):
        if not isinstance(message, HumanMessage):
            break
        given.insert(0, message)
    if not given:
        return None
    found = flat(places(at, message) for at, message in enumerate(given))
    asked = yield _Tell("input", without_role(found), {"role": "user", "native": native(given)})
    asked.check()
    return _update(given, carry(given, found, asked, Messages())) if asked.changed else None


def _finish(state: Any) -> _Steps:
    last = state["messages"][-1] if state["messages"] else None
    structured = state.get("structured_response")
    if structured is not None:
        parts = [anything(to_jsonable_python(structured, fallback=repr))]
    else:
        parts = [text(str(last.text))] if isinstance(last, AIMessage) else []
    final = yield _Tell("output", parts, {"role": "assistant", "native": native([last] if last else [])})
    final.check()
    if not final.changed:
        return None
    if structured is not None or not isinstance(last, AIMessage):
        uncarried(final, "a structured output")
    others = [block for block in blocks(last) if not is_text(block)]
    content = all_text(final)
    changed = [*others, {"type": "text", "text": content}] if others else content
    return {"messages": [last.model_copy(update={"content": changed})]}


def _model(request: Any) -> _Steps:
    given = [*([request.system_message] if request.system_message else []), *request.messages]
    found = flat(places(at, message) for at, message in enumerate(given))
    model: dict[str, Any] = {"id": model_name(request.model), "vendor": None}
    asked = yield _Tell("pre_model_call", [p.part for p in found], {"model": model, "native": native(given)})
    asked.check()
    if asked.changed:
        changed = carry(given, found, asked, Messages(), head=len(given) - len(request.messages))
        system = changed.pop(0) if changed and isinstance(changed[0], SystemMessage) else None
        request = request.override(messages=changed, system_message=system)
    begun = time.perf_counter()
    response: Any
    try:
        response = yield _Call(request)
    except GraphBubbleUp:
        raise
    except Exception as error:
        failed = {"model": model, "error": error_of(error), "duration_ms": since(begun)}
        yield _Tell("post_model_call", [], failed)
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
    answered = yield _Tell("post_model_call", without_role(found), fields)
    answered.check()
    if not answered.changed:
        return whole
    changed = carry(result, found, answered, Messages())
    if isinstance(whole, AIMessage):
        return changed[0] if len(changed) == 1 else uncarried(answered, f"{len(changed)} messages")
    response.result = changed
    return whole


def _tool(request: Any, trail: Trail) -> _Steps:
    call = request.tool_call
    fields = trail.call(call["id"], call["name"])
    part = tool_call(call["id"], call["name"], call["args"])
    own = dump(lambda: dict(call))
    asked = yield _Tell("pre_tool_call", [part], {"role": "assistant", "native": own, **fields})
    if (denied := denial(asked)) is not None:
        return _denied(call, denied)
    if asked.changed:
        request = request.override(tool_call={**call, "args": call_arguments(asked)})
    begun = time.perf_counter()
    failure: Exception | None = None
    result: Any = None
    try:
        result = yield _Call(request)
    except GraphBubbleUp:
        raise  # an interrupt isn't an error
    except Exception as error:
        failure = error
    answered = yield _Tell(
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
    if (denied := denial(answered)) is not None:
        return _denied(call, denied)
    if not answered.changed:
        return result
    if not isinstance(result, ToolMessage):
        uncarried(answered, "a Command")
    return result.model_copy(update={"content": as_content(response_of(answered))})


def _is_error(result: Any) -> bool:
    return isinstance(result, ToolMessage) and result.status == "error"


def _denied(call: Any, reason: str) -> ToolMessage:
    return ToolMessage(reason, tool_call_id=call["id"], name=call["name"], status="error")


def _update(before: list[Any], after: list[Any]) -> dict[str, Any]:
    """What turns `before` into `after` in the agent's state, where messages are known by their id."""
    kept = {message.id for message in after}
    return {"messages": [*(RemoveMessage(m.id) for m in before if m.id not in kept), *after]}
