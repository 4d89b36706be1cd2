"""What one framework alone has: its traps, handoffs and retries, its other ways to run; and what is no agent."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Any

import pytest

from agentplug.contract.plugin import AGENT_POINTS
from agentplug.errors import ContractError, HookDenied
from agentplug.integrations import attach, detach
from agentplug.manager.manager import PluginManager
from tests.integrations.drivers import DRIVERS, Driver, GoogleADK, LangChain, OpenAIAgents, PydanticAI, Scripted

OSLO = ("weather", {"city": "Oslo"})


@pytest.fixture
async def manager() -> AsyncIterator[PluginManager]:
    """A manager with a callback that keeps what it is shown, in `seen`."""
    async with PluginManager() as made:
        made.seen = []  # type: ignore[attr-defined]

        def keep(message: Any, dispatch: Any) -> None:
            made.seen.append((message, dispatch))  # type: ignore[attr-defined]

        for point in AGENT_POINTS:
            made.register_hook(point, keep)
        yield made


async def seen(manager: PluginManager) -> list[Any]:
    """The messages so far, in order."""
    await manager.drain()
    messages = [message for message, _ in manager.seen]  # type: ignore[attr-defined]
    return sorted(messages, key=lambda message: (message.run_id, message.seq))


def points(messages: list[Any]) -> list[str]:
    return [message.point for message in messages]


async def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


ALL = [
    *("agent_startup", "input", "pre_model_call", "post_model_call", "pre_tool_call", "post_tool_call"),
    *("pre_model_call", "post_model_call", "output", "agent_shutdown"),
]


class TestOthersThatVeto:
    """Another middleware answers in the tool's place: observers see the call, and what came of it."""

    @pytest.mark.need("pydantic-ai")
    async def test_pydantic_ai(self, manager: PluginManager) -> None:
        """A capability that comes first in the agent's own list is inside all the same."""
        from pydantic_ai.capabilities import AbstractCapability
        from pydantic_ai.exceptions import SkipToolExecution

        class Other(AbstractCapability[Any]):
            async def before_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any) -> Any:
                raise SkipToolExecution("no tools today")

        done = await PydanticAI([[OSLO], "Well."], [weather], [Other()]).run(manager)
        messages = await seen(manager)

        assert (done.answer, points(messages)) == ("Well.", ALL)
        assert messages[5].parts[0]["response"] == "no tools today"

    @pytest.mark.need("langchain")
    async def test_langchain(self, manager: PluginManager) -> None:
        """A middleware that doesn't call its handler."""
        from langchain.agents.middleware import AgentMiddleware
        from langchain_core.messages import ToolMessage

        class Other(AgentMiddleware[Any, Any]):
            async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
                return ToolMessage("no tools today", tool_call_id=request.tool_call["id"])

        done = await LangChain([[OSLO], "Well."], [weather], [Other()]).run(manager)
        messages = await seen(manager)

        assert (done.answer, points(messages)) == ("Well.", ALL)
        assert messages[5].parts[0]["response"] == "no tools today"

    @pytest.mark.need("langchain")
    async def test_langchain_where_it_raises(self, manager: PluginManager) -> None:
        """`after_agent` isn't called then; the end of the run is told all the same."""
        from langchain.agents.middleware import AgentMiddleware

        class Other(AgentMiddleware[Any, Any]):
            async def abefore_model(self, state: Any, runtime: Any) -> Any:
                raise RuntimeError("not today")

        done = await LangChain(["Well."], [], [Other()]).run(manager)
        messages = await seen(manager)

        assert str(done.error) == "not today"
        assert points(messages) == ["agent_startup", "input", "agent_shutdown"]
        assert messages[-1].error == {"type": "RuntimeError"}

    @pytest.mark.need("google-adk")
    async def test_google_adk(self, manager: PluginManager) -> None:
        """A plugin that was registered before ours comes after it."""
        from google.adk.plugins.base_plugin import BasePlugin

        class Other(BasePlugin):
            async def before_tool_callback(self, **_: Any) -> Any:
                return {"error": "no tools today"}

        done = await GoogleADK([[OSLO], "Well."], [weather], [Other("other")]).run(manager)
        messages = await seen(manager)

        assert (done.answer, points(messages)) == ("Well.", ALL)
        assert messages[5].parts[0]["response"] == {"error": "no tools today"}

    @pytest.mark.need("openai-agents")
    async def test_openai_agents(self, manager: PluginManager) -> None:
        """A tool's own guardrail rejects the call: no tool ran, and the model is told what it said."""
        from agents import RunConfig, ToolGuardrailFunctionOutput, ToolInputGuardrail

        driver = OpenAIAgents([[OSLO], "Well."], [weather])
        agent = driver.agent()
        agent.tools[0].tool_input_guardrails = [
            ToolInputGuardrail(lambda _: ToolGuardrailFunctionOutput.reject_content("no tools today"), name="other")
        ]
        result = await attach(agent, manager).run("Hi", run_config=RunConfig(tracing_disabled=True))
        messages = await seen(manager)

        assert (result.final_output, points(messages)) == ("Well.", [p for p in ALL if p != "post_tool_call"])
        assert messages[5].parts[-1]["response"] == "no tools today"


@pytest.mark.need("openai-agents")
class TestOpenAIAgents:
    async def test_a_hook_that_changes_the_input_in_place_is_seen(self, manager: PluginManager) -> None:
        """What is shown is what is sent: an observer of the user's may have changed it last."""
        from agents import RunHooks

        class Meddler(RunHooks[Any]):
            async def on_llm_start(self, context: Any, agent: Any, system_prompt: Any, input_items: Any) -> None:
                input_items.append({"role": "user", "content": "and this"})

        driver = OpenAIAgents(["Well."], [], [Meddler()])
        done = await driver.run(manager, "Hi")
        model_call = (await seen(manager))[2]

        assert done.answer == "Well."
        assert [part["content"] for part in model_call.parts] == ["Hi", "and this"]
        assert [item["content"] for item in done.sent[0]] == ["Hi", "and this"]

    async def test_a_handoff_is_a_tool_call_and_goes_on(self, manager: PluginManager) -> None:
        """The agent that takes over is asked about too, under its own name; also if both hand over to each other."""
        from agents import RunConfig

        billing = OpenAIAgents(["From billing."]).agent(name="billing")
        front = OpenAIAgents([[("transfer_to_billing", {})]]).agent(name="front", handoffs=[billing])
        billing.handoffs = [front]
        result = await attach(front, manager).run("Hi", run_config=RunConfig(tracing_disabled=True))
        messages = await seen(manager)

        assert result.final_output == "From billing."
        assert [(m.point, m.agent["name"], m.name) for m in messages[3:8]] == [
            ("post_model_call", "front", None),
            ("pre_tool_call", "front", "transfer_to_billing"),
            ("post_tool_call", "front", "transfer_to_billing"),
            ("pre_model_call", "billing", None),
            ("post_model_call", "billing", None),
        ]
        assert [m.request_id for m in messages[4:6]] == ["call_1_1"] * 2

    async def test_a_denied_handoff_ends_the_run(self, manager: PluginManager) -> None:
        """There is no agent to go on with."""
        from agents import RunConfig

        billing = OpenAIAgents(["From billing."]).agent(name="billing")
        front = OpenAIAgents([[("transfer_to_billing", {})]]).agent(name="front", handoffs=[billing])
        manager.register_hook("pre_tool_call", lambda message: {"deny": "stay here"}, "veto")

        with pytest.raises(HookDenied, match="stay here"):
            await attach(front, manager).run("Hi", run_config=RunConfig(tracing_disabled=True))
        assert points(await seen(manager))[-1] == "agent_shutdown"

    async def test_a_model_of_the_run_is_asked_about_too(self, manager: PluginManager) -> None:
        """Whichever way the model is given: by the run's configuration, or by name through its provider."""
        from agents import Agent, ModelProvider, RunConfig
        from agents.testing import ScriptedModel

        other = OpenAIAgents(["One."]).agent().model

        class Provider(ModelProvider):
            def get_model(self, model_name: str | None) -> Any:
                return OpenAIAgents([f"{model_name}."]).agent().model

        agent = attach(Agent(name="agent", model=ScriptedModel([])), manager)
        named = attach(Agent(name="agent", model="Two"), manager)
        one = await agent.run("Hi", run_config=RunConfig(model=other, tracing_disabled=True))
        two = await named.run("Hi", run_config=RunConfig(model_provider=Provider(), tracing_disabled=True))
        said = [m.text for m in await seen(manager) if m.point == "post_model_call"]

        assert (one.final_output, two.final_output, sorted(said)) == ("One.", "Two.", ["One.", "Two."])

    async def test_a_failing_model_is_told(self, manager: PluginManager) -> None:
        """With the error's type, and the end of the run."""
        from agents import Agent, RunConfig
        from agents.testing import ScriptedModel

        agent = Agent(name="agent", model=ScriptedModel([OSError("no line")]))
        with pytest.raises(OSError, match="no line"):
            await attach(agent, manager).run("Hi", run_config=RunConfig(tracing_disabled=True))
        assert [m.error for m in (await seen(manager))[-2:]] == [{"type": "OSError"}] * 2

    def test_run_sync(self) -> None:
        """Outside a loop, as `Runner.run_sync`."""
        from agents import RunConfig

        manager = PluginManager()
        manager.register_hook("output", lambda message: [{"type": "text", "content": "Changed."}], "transform")
        agent = OpenAIAgents([[OSLO], "Well."], [weather]).agent()
        with asyncio.Runner() as runner:
            asyncio.set_event_loop(runner.get_loop())
            result = attach(agent, manager).run_sync("Hi", run_config=RunConfig(tracing_disabled=True))
            assert result.final_output == "Changed."
            runner.run(manager.close())


@pytest.mark.need("google-adk")
class TestGoogleADK:
    async def test_a_transfer_is_a_tool_call_and_goes_on(self, manager: PluginManager) -> None:
        """The agent that takes over is asked about too, under its own name."""
        front_driver = GoogleADK([[("transfer_to_agent", {"agent_name": "billing"})]])
        billing = GoogleADK(["From billing."]).agent(name="billing")
        front = front_driver.agent(name="front", sub_agents=[billing])
        await front_driver._run(manager, "Hi", agent=front)
        messages = await seen(manager)

        assert front_driver.done.answer == "From billing."
        assert [(m.point, m.agent["name"], m.name) for m in messages[3:8]] == [
            ("post_model_call", "front", None),
            ("pre_tool_call", "front", "transfer_to_agent"),
            ("post_tool_call", "front", "transfer_to_agent"),
            ("pre_model_call", "billing", None),
            ("post_model_call", "billing", None),
        ]

    async def test_a_runner_is_attached_to_once_and_an_agent_not_at_all(self, manager: PluginManager) -> None:
        """Both say what to do."""
        from google.adk.runners import InMemoryRunner

        agent = GoogleADK(["Well."]).agent()
        runner = InMemoryRunner(agent=agent, app_name="tests")
        assert attach(runner, manager) is runner
        with pytest.raises(ContractError, match="already"):
            attach(runner, manager)
        with pytest.raises(ContractError, match="attach to that"):
            attach(agent, manager)
        await runner.close()

    async def test_a_live_run_is_refused(self, manager: PluginManager) -> None:
        """What is said in it would go past the hooks."""
        from google.adk.agents.live_request_queue import LiveRequestQueue
        from google.adk.runners import InMemoryRunner

        runner = attach(InMemoryRunner(agent=GoogleADK(["Well."]).agent(), app_name="tests"), manager)
        session = await runner.session_service.create_session(app_name="tests", user_id="u")
        queue = LiveRequestQueue()
        events = [
            event async for event in runner.run_live(user_id="u", session_id=session.id, live_request_queue=queue)
        ]
        await runner.close()

        assert ["can't be asked about" in repr(event.content) for event in events] == [True]
        assert points(await seen(manager)) == ["agent_startup", "agent_shutdown"]

    async def test_closing_the_runner_ends_the_runs_that_were_cancelled(self, manager: PluginManager) -> None:
        """Those of a task that is done and those of the task that closes it, and no other: an app may have several
        runners, and their runs go on.
        """
        from google.adk.apps import App
        from google.adk.runners import InMemoryRunner
        from google.genai import types

        begun: asyncio.Queue[str] = asyncio.Queue()
        go_on = asyncio.Event()

        async def weather(city: str) -> str:
            """The weather in a city."""
            begun.put_nowait(city)
            await go_on.wait()
            return "rain"

        async def run(runner: Any) -> None:
            session = await runner.session_service.create_session(app_name="tests", user_id="u")
            prompt = types.Content(role="user", parts=[types.Part(text="Hi")])
            async for _ in runner.run_async(user_id="u", session_id=session.id, new_message=prompt):
                pass

        async def run_and_give_up(runner: Any) -> None:
            async def give_up() -> None:
                await begun.get()
                limit.reschedule(0)

            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
                group.create_task(give_up())
                await run(runner)

        def made(*script: Any) -> Any:
            app.root_agent = GoogleADK(list(script), [weather]).agent()
            return InMemoryRunner(app=app)

        app = App(name="tests", root_agent=GoogleADK([]).agent())
        attach(app, manager)
        goes_on = asyncio.create_task(run(made([OSLO], "It rains.")))
        await begun.get()
        cancelled = asyncio.create_task(run(runner := made([OSLO], [OSLO])))
        await begun.get()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        with pytest.raises(TimeoutError):
            await run_and_give_up(runner)
        assert [m for m in await seen(manager) if m.point == "agent_shutdown"] == []
        await runner.close()
        ends = [m.error for m in await seen(manager) if m.point == "agent_shutdown"]
        assert ends == [{"type": "CancelledError"}] * 2
        go_on.set()
        await goes_on
        ends = [m.error for m in await seen(manager) if m.point == "agent_shutdown"]  # by run, in no order of time
        assert (len(ends), ends.count({"type": "CancelledError"}), ends.count(None)) == (3, 2, 1)

    async def test_a_denied_input_is_not_remembered(self, manager: PluginManager) -> None:
        """What the session keeps of it is that it was withheld."""
        manager.register_hook("input", lambda message: {"deny": "secret"}, "veto")
        driver = GoogleADK(["Well."])
        done = await driver.run(manager, "my secret prompt")

        assert done.sent == []
        assert "my secret prompt" not in repr(done.events)


@pytest.mark.need("pydantic-ai")
class TestPydanticAI:
    async def test_a_retry_is_an_error_and_another_call(self, manager: PluginManager) -> None:
        """`ModelRetry` from a tool: told as such, and the model reads it."""
        from pydantic_ai import ModelRetry

        async def weather(city: str) -> str:
            """The weather in a city."""
            if city == "Oslo":
                raise ModelRetry("another city, please")
            return f"rain in {city}"

        done = await PydanticAI([[OSLO], [("weather", {"city": "Rome"})], "It rains."], [weather]).run(manager)
        tools = [m for m in await seen(manager) if m.point == "post_tool_call"]

        assert done.answer == "It rains."
        assert [m.error for m in tools] == [{"type": "ModelRetry"}, None]
        assert [m.request_id for m in tools] == ["call_1_1", "call_2_1"]

    async def test_arguments_that_stay_keep_their_type(self, manager: PluginManager) -> None:
        """A tool is called with what was validated, where no transform changed it."""
        called: list[Any] = []

        async def weather(city: str, day: date) -> str:
            """The weather in a city."""
            called.append((city, day))
            return "rain"

        def to_rome(message: Any) -> Any:
            part = message.parts[0]
            return [{**part, "arguments": {**part["arguments"], "city": "Rome"}}]

        manager.register_hook("pre_tool_call", to_rome, "transform")
        script = [[("weather", {"city": "Oslo", "day": "2026-01-31"})], "It rains."]
        done = await PydanticAI(script, [weather]).run(manager)

        assert (done.answer, called) == ("It rains.", [("Rome", date(2026, 1, 31))])

    async def test_an_output_that_is_no_text_is_shown(self, manager: PluginManager) -> None:
        """As a generic part; a transform can't change it, and is told so."""
        from pydantic import BaseModel
        from pydantic_ai import Agent
        from pydantic_ai.models.test import TestModel

        class City(BaseModel):
            name: str

        agent = attach(Agent(TestModel(custom_output_args={"name": "Oslo"}), output_type=City), manager)
        result = await agent.run("Which city?")
        assert result.output == City(name="Oslo")
        assert [m.parts for m in await seen(manager) if m.point == "output"] == [
            [{"type": "generic", "content": {"name": "Oslo"}}]
        ]
        manager.register_hook("output", lambda message: [{"type": "text", "content": "Rome"}], "transform")
        with pytest.raises(HookDenied, match="can't be carried back"):
            await agent.run("Which city?")

    async def test_run_stream_ends_in_a_denial(self, manager: PluginManager) -> None:
        """`post_model_call` comes when the stream is through, which for `run_stream` is where its block is left."""
        manager.register_hook("post_model_call", lambda message: {"deny": "not this"}, "veto")
        agent = PydanticAI(["It rains."])._agent(manager)

        with pytest.raises(HookDenied, match="not this"):
            async with agent.run_stream("Hi") as stream:
                assert await stream.get_output() == "It rains. "

    async def test_a_realtime_session_is_refused(self, manager: PluginManager) -> None:
        """What is said in it would go past the hooks."""
        with pytest.raises(ContractError, match="realtime"):
            PydanticAI(["Well."])._agent(manager).realtime("any")

    def test_run_sync(self) -> None:
        """Outside a loop."""
        manager = PluginManager()
        manager.register_hook("output", lambda message: [{"type": "text", "content": "Changed."}], "transform")
        with asyncio.Runner() as runner:
            asyncio.set_event_loop(runner.get_loop())
            assert PydanticAI(["It rains."])._agent(manager).run_sync("Hi").output == "Changed."
            runner.run(manager.close())


@pytest.mark.need("langchain")
class TestLangChain:
    async def test_invoke_is_asked_about_as_ainvoke_is(self, manager: PluginManager) -> None:
        """The same messages where nothing is a coroutine, here in a thread."""

        def weather(city: str) -> str:
            """The weather in a city."""
            return f"rain in {city}"

        manager.register_hook("output", lambda message: [{"type": "text", "content": "Changed."}], "transform")
        agent = LangChain([[OSLO], "It rains."], [weather])._agent(manager)
        state = await asyncio.to_thread(agent.invoke, {"messages": "Hi"})
        messages = await seen(manager)

        assert state["messages"][-1].content == "Changed."
        assert points(messages) == ALL

    async def test_a_compiled_agent_says_what_to_attach_to(self, manager: PluginManager) -> None:
        """Its middleware is fixed."""
        with pytest.raises(ContractError, match=r"attach\(create_agent, manager\)"):
            attach(LangChain(["Well."])._agent(None), manager)

    async def test_a_conversation_goes_on(self, manager: PluginManager) -> None:
        """With a checkpointer: the thread is the session, and the input is what is new."""
        from langchain.agents import create_agent
        from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
        from langgraph.checkpoint.memory import InMemorySaver

        model = GenericFakeChatModel(messages=iter(["One.", "Two."]))
        agent = attach(create_agent, manager)(model, checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t1"}}
        for prompt in ("first", "second"):
            await agent.ainvoke({"messages": prompt}, config)
        messages = [m for m in await seen(manager) if m.point == "input"]

        assert sorted(m.text for m in messages) == ["first", "second"]
        assert {m.session_id for m in messages} == {"t1"}


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, need: Callable[..., None]) -> type[Driver]:
    """A framework, if it is installed."""
    found = DRIVERS[request.param]
    if found.feature is not None:
        need(found.feature)
    return found


async def test_runs_at_the_same_time_keep_apart(driver: type[Driver], manager: PluginManager) -> None:
    """Each has numbers of its own, from the first message to the last."""
    runs = [driver([[OSLO], f"It rains {at}."], [weather]).run(manager) for at in range(3)]
    done = await asyncio.gather(*runs)
    by_run: dict[str, list[Any]] = {}
    for message in await seen(manager):
        by_run.setdefault(message.run_id, []).append(message)

    assert [d.answer for d in done] == ["It rains 0.", "It rains 1.", "It rains 2."]
    assert [[m.seq for m in messages] for messages in by_run.values()] == [list(range(1, 11))] * 3
    assert [points(messages) for messages in by_run.values()] == [ALL] * 3


async def test_a_cancelled_run_has_an_end(driver: type[Driver], manager: PluginManager) -> None:
    """At once, or as the runner is closed, which is when ADK says so."""
    begun = asyncio.Event()

    async def weather(city: str) -> str:
        """The weather in a city."""
        begun.set()
        await asyncio.Event().wait()
        return city

    task = asyncio.create_task(driver([[OSLO], "It rains."], [weather]).run(manager))
    await asyncio.wait_for(begun.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    last = (await seen(manager))[-1]

    assert (last.point, last.error) == ("agent_shutdown", {"type": "CancelledError"})


async def test_an_observer_that_raises_costs_nothing(driver: type[Driver], manager: PluginManager) -> None:
    """Nor one that is slow: nobody waits for it."""

    def broken(message: Any) -> None:
        raise RuntimeError("broken")

    for point in AGENT_POINTS:
        manager.register_hook(point, broken)
    done = await driver([[OSLO], "It rains."], [weather]).run(manager)

    assert (done.answer, done.error) == ("It rains.", None)


@pytest.mark.parametrize("thing", [object(), None, "agent", 3, len, int], ids=lambda thing: type(thing).__name__)
async def test_what_is_no_agent_is_refused(thing: Any, manager: PluginManager) -> None:
    """With the list of what can be attached to."""
    with pytest.raises(ContractError, match=r"pydantic-ai.*create_agent.*OpenAI.*ADK.*ScriptedAgent"):
        attach(thing, manager)
    with pytest.raises(ContractError, match=r"pydantic-ai.*create_agent.*OpenAI.*ADK.*ScriptedAgent"):
        detach(thing)


async def test_detach_gives_back_what_was_attached(driver: type[Driver], manager: PluginManager) -> None:
    """Once; then, and before, there is nothing to detach."""
    agent = unattached(driver)
    for _ in range(2):
        attached = attach(agent, manager)
        assert detach(attached) is agent
        with pytest.raises(ContractError, match="no manager is attached to this"):
            detach(agent)


def unattached(driver: type[Driver]) -> Any:
    """What is attached to in this framework."""
    made: Any = driver(["Well."])
    if driver is LangChain:
        from langchain.agents import create_agent

        return create_agent
    if driver is GoogleADK:
        from google.adk.apps import App

        return App(name="tests", root_agent=made.agent())
    return made.agent() if driver is OpenAIAgents else made._agent(None)


@pytest.mark.need("google-adk")
async def test_a_detached_runner_asks_no_hooks(manager: PluginManager) -> None:
    """The one framework where the attached object stays the same."""
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    async def ask() -> list[str]:
        session = await runner.session_service.create_session(app_name="tests", user_id="u")
        message = types.Content(role="user", parts=[types.Part(text="Hi")])
        events = runner.run_async(user_id="u", session_id=session.id, new_message=message)
        async for _ in events:
            pass
        return points(await seen(manager))

    runner = InMemoryRunner(agent=GoogleADK(["Well.", "Again."]).agent(), app_name="tests")  # type: ignore[attr-defined]
    try:
        assert detach(attach(runner, manager)) is runner
        assert await ask() == []
        attach(runner, manager)
        assert (await ask())[-1] == "agent_shutdown"
    finally:
        await runner.close()


@pytest.mark.need("langchain")
async def test_an_agent_that_is_made_keeps_its_middleware(manager: PluginManager) -> None:
    """So it can't be detached, and the error says what to do instead."""
    agent = LangChain(["Well."])._agent(manager)
    with pytest.raises(ContractError, match=r"make it anew with create_agent\(model"):
        detach(agent)


async def test_what_is_no_manager_is_refused(driver: type[Driver]) -> None:
    """Before anything runs."""
    done = await driver(["Well."]).run("no manager")  # type: ignore[arg-type]
    assert isinstance(done.error, ContractError)
    assert "PluginManager" in str(done.error)


def test_attach_imports_no_framework() -> None:
    """An unknown object is refused without a look at frameworks that nobody uses."""
    code = """
import json, sys
from agentplug.integrations import attach, detach
from agentplug.errors import ContractError
try:
    attach(object(), None)
except ContractError:
    pass
frameworks = {"pydantic_ai", "langchain", "langgraph", "agents", "google.adk"}
print(json.dumps(sorted(frameworks & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []


async def test_a_module_of_ones_own_by_a_framework_s_name(manager: PluginManager) -> None:
    """A class of a package that happens to be called `agents` is no agent of OpenAI's."""
    thing = type("Thing", (), {"__module__": "agents.mine"})()
    with pytest.raises(ContractError):
        attach(thing, manager)


class TestScriptedAgent:
    async def test_forgiving(self, manager: PluginManager) -> None:
        """A tool's error is a result for the model."""
        from agentplug.integrations.scripted import ScriptedAgent

        def broken() -> None:
            raise ValueError("no weather")

        heard: list[Any] = []
        script = [[("broken", {}), ("unknown", {})], lambda history: heard.extend(history) or "Sorry."]
        answer = await attach(ScriptedAgent(script, {"broken": broken}, forgiving=True), manager).run("Hi")

        assert answer == "Sorry."
        assert [part["response"] for part in heard if part["type"] == "tool_call_response"] == [
            "no weather",
            "no tool unknown; there are broken",
        ]

    async def test_bad_scripts(self) -> None:
        """Typed errors, and an end of the script that says so."""
        from agentplug.integrations.scripted import ScriptedAgent

        with pytest.raises(ContractError, match="script"):
            ScriptedAgent("It rains.")
        with pytest.raises(ContractError, match="tools"):
            ScriptedAgent([], {"weather": 3})  # type: ignore[dict-item]
        done = await Scripted([[OSLO]], [weather]).run(None)
        assert isinstance(done.error, IndexError)
