"""What a hook costs the agent that dispatches a message: confined, of the host's own, and beside AGENT-HOOKS' SDK.

An observer's figure is what the agent waits for; the plugin sees the message later, on a thread of ours. `whole` has
the time until it has seen it too, shared by the messages of a round.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from agentplug import AgentMessage, PluginManager, Policy, SandboxedPlugin
from agentplug.integrations.agent_hooks import ConfinedInterceptor

OURS = "veto by a confined plugin"
OBSERVER = "observing confined plugin, queued"
WHOLE = "observing confined plugin, whole"
_ARGUMENTS = {"path": "/tmp/report.txt", "mode": "r"}


class _Plugin:
    version = "1"

    async def initialize(self, config: Any) -> None:
        """Nothing to do."""

    async def process(self, x: Any) -> Any:
        """Not called."""

    async def on_message(self, point: str, message: dict[str, Any]) -> Any:
        """Allow, or take note."""
        return {"decision": "allow"} if "tool_call" in message else None


class VetoPlugin(_Plugin):
    """Is asked and allows."""

    name = "veto"
    hooks = {"pre_tool_call": "veto"}  # noqa: RUF012


class WatchPlugin(_Plugin):
    """Is told."""

    name = "watch"
    hooks = {"pre_tool_call": "observe"}  # noqa: RUF012


Once = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def _contenders() -> AsyncIterator[tuple[dict[str, Once], PluginManager]]:
    part = {"type": "tool_call", "id": "1", "name": "read", "arguments": _ARGUMENTS}
    message = AgentMessage(point="pre_tool_call", name="read", session_id="s", parts=[part])
    async with AsyncExitStack() as stack:
        managers = [await stack.enter_async_context(PluginManager()) for _ in range(4)]
        watched, vetoed, both, bare = managers
        await watched.register(SandboxedPlugin(WatchPlugin, Policy(hooks=WatchPlugin.hooks)))
        await vetoed.register(SandboxedPlugin(VetoPlugin, Policy(hooks=VetoPlugin.hooks)))
        for name in ("a", "b"):
            kind = type("VetoPlugin", (VetoPlugin,), {"name": name})
            await both.register(SandboxedPlugin(kind, Policy(hooks=VetoPlugin.hooks)))
        bare.register_hook("pre_tool_call", lambda m: True, "veto")
        found: dict[str, Once] = {
            OBSERVER: lambda: watched.dispatch(message),
            OURS: lambda: vetoed.dispatch(message),
            "vetoes by two confined plugins at once": lambda: both.dispatch(message),
            "veto by a callback of the host's own": lambda: bare.dispatch(message),
        }
        if importlib.util.find_spec("agent_hooks"):
            found |= _others(await stack.enter_async_context(SandboxedPlugin(VetoPlugin)))
        yield found, watched


def _others(plugin: SandboxedPlugin) -> dict[str, Once]:
    from agent_hooks import AgentContextBuilder, InterceptionEmitter, Verdict

    class Allows:
        def intercept(self, context: Any) -> Any:
            return Verdict.allow()

    build = AgentContextBuilder(agent_id="a", framework="f", session_id="s")

    def emitting(interceptor: Any) -> Once:
        emitter = InterceptionEmitter().register(interceptor).set_max_records(1)
        return lambda: emitter.emit(build.pre_tool_call(call_id="1", name="read", args=dict(_ARGUMENTS)))

    return {
        "agent-hooks-sdk, an interceptor in process": emitting(Allows()),
        "agent-hooks-sdk, an interceptor of it in our worker": emitting(ConfinedInterceptor(plugin)),
    }


async def measure(rounds: int, calls: int) -> dict[str, list[float]]:
    """Seconds of every dispatch, by contender."""
    times: dict[str, list[float]] = {WHOLE: []}
    async with _contenders() as (ready, watched):
        for once in ready.values():
            for _ in range(min(200, calls)):
                await once()
        await watched.drain()
        for _ in range(rounds):
            for name, once in ready.items():
                round_began = time.perf_counter()
                for _ in range(calls):
                    began = time.perf_counter()
                    await once()
                    times.setdefault(name, []).append(time.perf_counter() - began)
                if name == OBSERVER:
                    await watched.drain()
                    times[WHOLE].append((time.perf_counter() - round_began) / calls)
        if (dropped := int(watched.hooks_frame()["dropped"].sum())) > 0:
            raise RuntimeError(f"{dropped} messages found the queue full: fewer calls a round, please")
    return {name: times[name] for name in (OBSERVER, WHOLE, *(n for n in times if n not in (OBSERVER, WHOLE)))}


if __name__ == "__main__":
    import statistics

    for name, values in asyncio.run(measure(10, 300)).items():
        print(f"{name:54} {statistics.median(values) * 1e6:8.1f} {min(values) * 1e6:8.1f}")
