"""The adapter for LangChain (host; the extra `langchain`): the outermost middleware of agents of `create_agent`.

    agent = attach(create_agent, manager)(model, tools=[weather])
    await agent.ainvoke({"messages": "How is Oslo?"})

The middleware of an agent is fixed when the agent is made. So attach to `create_agent` itself; the result is called
like `create_agent`. For a denied tool call or result the model gets a `ToolMessage` whose status is `error`; any
other denied message ends the run with `HookDenied`. `agent_shutdown` comes from a callback, because `after_agent`
isn't called when a run fails. In a streamed response, `post_model_call` comes after the last word: a denial can't
recall streamed words, but the agent doesn't use them. Hooks see a structured output and a tool's `Command`, and can't
change them.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Awaitable, Callable, Sequence
from types import FunctionType
from typing import Any
from uuid import UUID

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import messages_from_dict
from langgraph.config import get_config

from agentplug.contract.messages.message import AgentMessage
from agentplug.errors import ContractError
from agentplug.integrations import unattached, unknown
from agentplug.integrations.bridge import Framework, Trail, check_manager
from agentplug.integrations.langchain.steps import Call, Message, Steps, begin, call_model, call_tool, finish
from agentplug.manager.manager import PluginManager

_FRAMEWORK = Framework.of("langchain", "langchain")
_attached: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


def attach(agent: Any, manager: PluginManager) -> Callable[..., Any]:
    """Return a `create_agent` that makes agents whose messages go to the hooks of `manager`.

    Raises `ContractError` unless `agent` is `create_agent` itself; an agent that it made can't be attached.
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
        agent = create_agent(*args, middleware=[HooksMiddleware(runs), *middleware], **options)
        return agent.with_config(callbacks=[runs])

    _attached.add(attached)
    return attached


def detach(agent: Any) -> Any:
    """Return `create_agent`, if `agent` is a result of `attach`. Raises `ContractError` for another object."""
    if isinstance(agent, FunctionType) and agent in _attached:
        return create_agent
    if type(agent).__module__.startswith("langgraph."):
        raise ContractError(
            "the middleware of a LangChain agent is fixed when it is made; "
            "make it anew with create_agent(model, tools, ...)"
        )
    raise unattached(agent)


def restore(message: AgentMessage) -> Any:
    """Return the framework's own objects from a message's `native`; None without `native`.

    LangChain's own tool call for `pre_tool_call`, the tool's message for `post_tool_call`; else a list of messages.
    """
    if message.native is None:
        return None
    data = message.native["data"]
    if message.point == "pre_tool_call":
        return data
    messages = messages_from_dict(data)
    return messages[0] if message.point == "post_tool_call" else messages


class _Runs(AsyncCallbackHandler):
    """Knows which run of the agent a step belongs to, and when a run ends."""

    run_inline = True

    def __init__(self, manager: PluginManager, name: str | None) -> None:
        self._manager = manager
        self._name = name
        self._roots: dict[UUID, UUID] = {}
        self._trails: dict[UUID, Trail] = {}

    def trail(self) -> Trail:
        """Return the trail of the current step's run."""
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
        """Record which run a step belongs to."""
        root = self._roots.get(parent_run_id) if parent_run_id is not None else None
        self._roots[run_id] = root or run_id

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """End the trail, if a run ended and not a step."""
        await self._end(run_id, None)

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """End the trail, if a run failed and not a step."""
        await self._end(run_id, error)

    async def _end(self, run_id: UUID, error: BaseException | None) -> None:
        if self._roots.get(run_id) != run_id:
            return
        trail = self._trails.pop(run_id, None)
        self._roots = {step: root for step, root in self._roots.items() if root != run_id}
        if trail is not None:
            await trail.end(error)


class HooksMiddleware(AgentMiddleware[Any, Any]):
    """The middleware that dispatches messages to the hooks, in `invoke` and in `ainvoke`."""

    def __init__(self, runs: _Runs) -> None:
        super().__init__()
        self._runs = runs

    @property
    def name(self) -> str:
        """The name of the graph's nodes."""
        return "agentplug"

    def before_agent(self, state: Any, runtime: Any) -> Any:
        """Dispatch `agent_startup` and `input`."""
        return self._drive(begin(state))

    async def abefore_agent(self, state: Any, runtime: Any) -> Any:
        return await self._adrive(begin(state))

    def after_agent(self, state: Any, runtime: Any) -> Any:
        """Dispatch `output`."""
        return self._drive(finish(state))

    async def aafter_agent(self, state: Any, runtime: Any) -> Any:
        return await self._adrive(finish(state))

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Dispatch `pre_model_call` and `post_model_call`."""
        self._runs.trail().turn += 1
        return self._drive(call_model(request), handler)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        self._runs.trail().turn += 1
        return await self._adrive(call_model(request), handler)

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Dispatch `pre_tool_call` and `post_tool_call`."""
        return self._drive(call_tool(request, self._runs.trail()), handler)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        return await self._adrive(call_tool(request, self._runs.trail()), handler)

    def _drive(self, steps: Steps, handler: Callable[[Any], Any] | None = None) -> Any:
        trail, go = self._runs.trail(), functools.partial(next, steps)
        while True:
            try:
                step = go()
            except StopIteration as done:
                return done.value
            try:
                go = functools.partial(steps.send, _do(step, trail.dispatch_sync, handler))
            except Exception as error:
                go = functools.partial(steps.throw, error)

    async def _adrive(self, steps: Steps, handler: Callable[[Any], Awaitable[Any]] | None = None) -> Any:
        trail, go = self._runs.trail(), functools.partial(next, steps)
        while True:
            try:
                step = go()
            except StopIteration as done:
                return done.value
            try:
                go = functools.partial(steps.send, await _do(step, trail.dispatch, handler))
            except Exception as error:
                go = functools.partial(steps.throw, error)


def _do(step: Message | Call, dispatch: Callable[..., Any], handler: Callable[[Any], Any] | None) -> Any:
    """Execute one step. The result is awaitable if `dispatch` and `handler` are coroutine functions."""
    if isinstance(step, Message):
        return dispatch(step.point, step.parts, **step.fields)
    assert handler is not None
    return handler(step.request)
