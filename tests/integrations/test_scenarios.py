"""One suite of scenarios, run on every framework with its own offline model: the same messages, and a way back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.plugin import AGENT_POINTS
from agentplug.contract.policy import Policy
from agentplug.errors import HookDenied
from agentplug.manager.manager import PluginManager
from tests.integrations.drivers import DRIVERS, Done, Driver

PLUGINS = Path(__file__).with_name("plugins.py")
EVERYWHERE = tuple(AGENT_POINTS)
OSLO = ("weather", {"city": "Oslo"})
ROME = ("weather", {"city": "Rome"})
PROMPT = {"type": "text", "content": "How is Oslo?"}

pytestmark = pytest.mark.need("landlock", "seccomp")


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, need: Callable[..., None]) -> type[Driver]:
    """A framework, if it is installed."""
    found = DRIVERS[request.param]
    if found.feature is not None:
        need(found.feature)
    return found


@pytest.fixture
async def manager() -> AsyncIterator[PluginManager]:
    """A manager, and in a worker a plugin that observes everything, the frameworks' own dumps included."""
    async with PluginManager(Policy(memory="256M")) as made:
        await load(made, "RecorderPlugin", "observe native")
        yield made


async def load(
    manager: PluginManager, plugin: str, right: str, *points: str, memory: str = "256M", **config: Any
) -> None:
    """Load one of our plugins, with this right at these points (all, if none is named)."""
    policy = Policy(hooks=dict.fromkeys(points or EVERYWHERE, right), memory=memory)
    await manager.load(f"{PLUGINS}:{plugin}", policy=policy, config=config)


async def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


async def told(manager: PluginManager) -> list[dict[str, Any]]:
    """What the recorder was shown, in order of `seq`."""
    await manager.drain()
    seen = await manager.plugins["recorder"].process("seen")
    return sorted(seen, key=lambda message: message["seq"])


def neutral(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What has to be equal on all frameworks. Tools of a turn run at the same time: they are in the order of ids.

    Instructions are left out: ADK has some of its own.
    """

    def key(message: dict[str, Any]) -> tuple[Any, ...]:
        order = {"pre_model_call": 0, "post_model_call": 1, "pre_tool_call": 2, "post_tool_call": 2, "output": 3}
        of_tool = message["request_id"] or ""
        return message["turn"], order.get(message["point"], 4 * bool(message["turn"])), of_tool, message["seq"]

    return [
        (
            message["point"],
            message["turn"],
            message["name"],
            message["dispatch"]["allowed"],
            [part for part in message["parts"] if part.get("role") != "system"],
        )
        for message in sorted(messages, key=key)
    ]


def call(call_id: str, tool: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": tool[0], "arguments": tool[1], **more}


def response(call_id: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": call_id, "response": content, **more}


def said(content: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "content": content, **more}


def asked(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    """What the model is sent: the prompt, and then these, which are the assistant's or a tool's."""
    roles = {"tool_call": "assistant", "tool_call_response": "tool", "text": "assistant"}
    return [{**PROMPT, "role": "user"}, *({**part, "role": roles[part["type"]]} for part in parts)]


ONE_CALL = [
    ("agent_startup", 0, None, True, []),
    ("input", 0, None, True, [PROMPT]),
    ("pre_model_call", 1, None, True, asked()),
    ("post_model_call", 1, None, True, [call("call_1_1", OSLO)]),
    ("pre_tool_call", 1, "weather", True, [call("call_1_1", OSLO)]),
    ("post_tool_call", 1, "weather", True, [response("call_1_1", "rain in Oslo")]),
    ("pre_model_call", 2, None, True, asked(call("call_1_1", OSLO), response("call_1_1", "rain in Oslo"))),
    ("post_model_call", 2, None, True, [said("It rains.")]),
    ("output", 2, None, True, [said("It rains.")]),
    ("agent_shutdown", 2, None, True, []),
]


async def test_a_tool_call_gives_the_same_messages(driver: type[Driver], manager: PluginManager) -> None:
    """All eight points, in order, with one run's identity and numbers."""
    done = await driver([[OSLO], "It rains."], [weather]).run(manager)
    messages = await told(manager)

    assert (done.answer, done.error) == ("It rains.", None)
    assert neutral(messages) == ONE_CALL
    assert [message["seq"] for message in messages] == list(range(1, 11))
    assert {message["point"] for message in messages} == set(EVERYWHERE)
    assert len({message["run_id"] for message in messages}) == len({m["session_id"] for m in messages}) == 1
    assert {(m["agent"]["name"], m["agent"]["framework"]) for m in messages} == {("agent", driver.name)}
    assert not any(message["redactions"] or message["truncated"] for message in messages)


async def test_parallel_tools_share_a_group(driver: type[Driver], manager: PluginManager) -> None:
    """Two calls of one turn run at the same time, and their four messages say that they belong together."""
    both = asyncio.Event()
    started: list[str] = []

    async def weather(city: str) -> str:
        """The weather in a city."""
        started.append(city)
        if len(started) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 20)
        return f"rain in {city}"

    done = await driver([[OSLO, ROME], "It rains."], [weather]).run(manager)
    messages = await told(manager)
    tools = [message for message in messages if "tool" in message["point"]]

    assert (done.answer, done.error, sorted(started)) == ("It rains.", None, ["Oslo", "Rome"])
    assert neutral(tools) == [
        ("pre_tool_call", 1, "weather", True, [call("call_1_1", OSLO)]),
        ("post_tool_call", 1, "weather", True, [response("call_1_1", "rain in Oslo")]),
        ("pre_tool_call", 1, "weather", True, [call("call_1_2", ROME)]),
        ("post_tool_call", 1, "weather", True, [response("call_1_2", "rain in Rome")]),
    ]
    assert len({message["group"] for message in tools}) == 1
    assert neutral(messages)[-4] == (
        "pre_model_call",
        2,
        None,
        True,
        asked(
            call("call_1_1", OSLO),
            call("call_1_2", ROME),
            response("call_1_1", "rain in Oslo"),
            response("call_1_2", "rain in Rome"),
        ),
    )


async def test_a_tool_error_is_told_and_raised(driver: type[Driver], manager: PluginManager) -> None:
    """Observers get the error's type, and the end of the run; who runs the agent gets what the framework raises."""

    async def weather(city: str) -> str:
        """The weather in a city."""
        raise ValueError(f"no weather in {city}")

    done = await driver([[OSLO], "It rains."], [weather]).run(manager)
    messages = await told(manager)

    assert not done.answer
    assert "no weather in Oslo" in str(done.error)
    assert neutral(messages[:-1]) == [
        *ONE_CALL[:5],
        ("post_tool_call", 1, "weather", True, [response("call_1_1", "no weather in Oslo")]),
    ]
    assert [m["error"] for m in messages[:-1]] == [None] * 5 + [{"type": "ValueError"}]
    assert messages[-1]["point"] == "agent_shutdown"
    assert messages[-1]["error"] == {"type": type(done.error).__name__}


async def test_a_denied_tool_call_is_an_answer(driver: type[Driver], manager: PluginManager) -> None:
    """The tool isn't called; the model reads why; the run goes on, and says so as its framework does."""
    await load(manager, "DenierPlugin", "veto", "pre_tool_call")
    done = await driver([[OSLO], "No idea."], [_never]).run(manager)
    messages = await told(manager)
    reason = "denier denied the message at pre_tool_call: not here"

    assert (done.answer, done.error) == ("No idea.", None)
    assert neutral(messages) == [
        *ONE_CALL[:4],
        ("pre_tool_call", 1, "weather", False, [call("call_1_1", OSLO)]),
        ("pre_model_call", 2, None, True, asked(call("call_1_1", OSLO), response("call_1_1", reason))),
        ("post_model_call", 2, None, True, [said("No idea.")]),
        ("output", 2, None, True, [said("No idea.")]),
        ONE_CALL[-1],
    ]
    assert_denied_as_the_framework_does(driver, done, reason)


async def _never(city: str) -> str:
    """The weather in a city."""
    raise AssertionError("called, though it was denied")


_never.__name__ = "weather"


def assert_denied_as_the_framework_does(driver: type[Driver], done: Done, reason: str) -> None:
    if driver.name == "pydantic-ai":
        assert [(p.content, p.outcome) for p in done.events[2].parts] == [(reason, "denied")]
    elif driver.name == "langchain":
        assert (done.events[2].content, done.events[2].status) == (reason, "error")
    elif driver.name == "openai-agents":
        assert done.events[2] == {"call_id": "call_1_1", "output": reason, "type": "function_call_output"}
    elif driver.name == "google-adk":
        assert done.events[1].content.parts[0].function_response.response == {"error": reason}


@pytest.mark.parametrize("point", ["agent_startup", "input", "pre_model_call", "post_model_call", "output"])
async def test_any_other_denial_ends_the_run(driver: type[Driver], manager: PluginManager, point: str) -> None:
    """In `HookDenied`, or as the framework has it; observers see the denial, and the end."""
    await load(manager, "DenierPlugin", "veto", point)
    done = await driver(["It rains."]).run(manager)
    messages = await told(manager)
    reason = f"denier denied the message at {point}: not here"

    assert [message["point"] for message in messages if not message["dispatch"]["allowed"]] == [point]
    assert messages[-1]["point"] == "agent_shutdown"
    if driver.name == "google-adk":
        assert (done.answer, done.error) == (reason, None)
        return
    assert done.answer is None
    assert isinstance(done.error, HookDenied)
    assert str(done.error) == reason
    assert messages[-1]["error"] == {"type": type(done.error).__name__}
    if driver.name == "openai-agents" and point in ("input", "output"):
        from agents import InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered

        tripped = InputGuardrailTripwireTriggered if point == "input" else OutputGuardrailTripwireTriggered
        assert isinstance(done.error, tripped)


async def test_a_denied_result_is_withheld(driver: type[Driver], manager: PluginManager) -> None:
    """The tool ran, and the model reads why it doesn't get the result."""
    await load(manager, "DenierPlugin", "veto", "post_tool_call")
    done = await driver([[OSLO], "No idea."], [weather]).run(manager)
    messages = neutral(await told(manager))
    reason = "denier denied the message at post_tool_call: not here"

    assert (done.answer, done.error) == ("No idea.", None)
    assert messages[5] == ("post_tool_call", 1, "weather", False, [response("call_1_1", "rain in Oslo")])
    assert messages[6][-1] == asked(call("call_1_1", OSLO), response("call_1_1", reason))
    assert "rain in Oslo" not in repr(done.sent)


@pytest.mark.parametrize(
    ("point", "words", "answer"),
    [
        ("input", {"Oslo": "Rome"}, "It rains."),
        ("pre_model_call", {"How is": "What about"}, "It rains."),
        ("post_model_call", {"It rains.": "It shines."}, "It shines."),
        ("pre_tool_call", {"Oslo": "Rome"}, "It rains."),
        ("post_tool_call", {"rain": "sun"}, "It rains."),
        ("output", {"rains": "shines"}, "It shines."),
    ],
)
async def test_a_transform_is_carried_back(
    driver: type[Driver], manager: PluginManager, point: str, words: dict[str, str], answer: str
) -> None:
    """What a plugin in a worker made of a message is what the agent goes on with, and what the model sees."""
    cities: list[str] = []

    async def weather(city: str) -> str:
        """The weather in a city."""
        cities.append(city)
        return f"rain in {city}"

    await load(manager, "ChangerPlugin", "transform", point, words=words)
    done = await driver([[OSLO], "It rains."], [weather]).run(manager)
    messages = await told(manager)
    changed = [message for message in messages if message["dispatch"]["original"] is not None]
    old, new = next(iter(words.items()))

    assert (done.answer, done.error) == (answer, None)
    assert {message["point"] for message in changed} == {point}
    assert all(old not in json.dumps(m["parts"]) for m in changed if point != "pre_model_call")
    assert cities == (["Rome"] if point == "pre_tool_call" else ["Oslo"])
    if point in ("input", "pre_model_call", "post_tool_call"):
        assert new in repr(done.sent[-1])
        assert old not in repr(done.sent[-1]).replace("'city': 'Oslo'", "").replace('"city": "Oslo"', "").replace(
            "rain in Oslo", ""
        )


async def test_parts_may_be_taken_away_and_added(driver: type[Driver], manager: PluginManager) -> None:
    """The rest of the conversation stays the framework's own objects."""
    await load(manager, "ShapesPlugin", "transform", "pre_model_call")
    done = await driver([[OSLO], "It rains."], [weather]).run(manager)

    assert (done.answer, done.error) == ("It rains.", None)
    assert "added" in repr(done.sent[-1])
    assert "How is Oslo?" not in repr(done.sent[-1])
    assert "rain in Oslo" in repr(done.sent[-1])


@pytest.mark.parametrize("point", ["input", "pre_model_call", "post_model_call", "pre_tool_call", "output"])
async def test_what_cannot_be_carried_is_denied(driver: type[Driver], manager: PluginManager, point: str) -> None:
    """A part of no framework's: nothing goes on as if the plugin had been heeded."""
    await load(manager, "ShapesPlugin", "transform", point, uncarried=True)
    script = ["It rains."] if point == "output" else [[OSLO], "It rains."]
    done = await driver(script, [_never]).run(manager)

    if driver.name == "scripted" and "model" in point:  # a model that is a script takes and says any part
        assert "can't be carried" not in repr((done.error, done.answer, done.sent))
        assert ("nothing of the kind" in repr(done.sent)) == (point == "pre_model_call")
        return
    assert "can't be carried" in repr((done.error, done.answer, done.sent))
    if point == "pre_tool_call":  # the tool's call is denied, and the model reads why
        assert (done.answer, done.error) == ("It rains.", None)


async def test_streaming_gives_the_same_messages(driver: type[Driver], manager: PluginManager) -> None:
    """Text comes as it is said, and what hooks see is whole."""
    done = await driver([[OSLO], "It rains."], [weather]).run(manager, stream=True)
    messages = await told(manager)

    assert done.error is None
    assert "".join(done.streamed).split() == ["It", "rains."]
    assert [trimmed(message) for message in neutral(messages)] == ONE_CALL


def trimmed(message: tuple[Any, ...]) -> tuple[Any, ...]:
    """Words of a stream may end in a blank."""
    parts = [{**p, "content": p["content"].strip()} if p["type"] == "text" else p for p in message[-1]]
    return (*message[:-1], parts)


async def test_a_crashing_observer_costs_the_run_nothing(driver: type[Driver], manager: PluginManager) -> None:
    """Its process ends in the middle of the run, again and again; the run doesn't notice."""
    await load(manager, "CrashingObserverPlugin", "observe")
    done = await driver([[OSLO], "It rains."], [weather]).run(manager)
    messages = await told(manager)
    hooks = manager.hooks_frame().set_index("hook").loc["crasher"]

    assert (done.answer, done.error) == ("It rains.", None)
    assert neutral(messages) == ONE_CALL
    assert hooks["failed"].sum() >= 3


async def test_a_crashing_veto_denies(driver: type[Driver], manager: PluginManager) -> None:
    """Its process ends when it is asked about a tool: the tool isn't called, and the agent goes on."""
    await load(manager, "CrashingVetoPlugin", "veto", "pre_tool_call")
    done = await driver([[OSLO], "No idea."], [_never]).run(manager)
    messages = neutral(await told(manager))

    assert (done.answer, done.error) == ("No idea.", None)
    assert messages[4] == ("pre_tool_call", 1, "weather", False, [call("call_1_1", OSLO)])
    assert "died:exit 3" in messages[5][-1][-1]["response"]


@pytest.mark.parametrize("right", ["transform", "transform open"])
async def test_a_plugin_over_its_limits(driver: type[Driver], manager: PluginManager, right: str) -> None:
    """It takes more memory than it may: what it should have looked at is denied, unless its right says open."""
    await load(manager, "HungryPlugin", right, "pre_tool_call", memory="64M")
    done = await driver([[OSLO], "It rains."], [weather if "open" in right else _never]).run(manager)
    messages = neutral(await told(manager))

    assert (done.answer, done.error) == ("It rains.", None)
    if "open" in right:
        assert messages == ONE_CALL
    else:
        assert messages[4][3] is False
        assert "limited:memory" in messages[5][-1][-1]["response"]


async def test_the_way_back_is_lossless(driver: type[Driver], manager: PluginManager) -> None:
    """By its `native` a message is the framework's own objects again: what the model was sent, and what it said."""
    if driver.name == "scripted":
        pytest.skip("a message of a ScriptedAgent is made of parts already")
    await load(manager, "ChangerPlugin", "transform")  # returns all as it was
    done = await driver([[OSLO], "It rains."], [weather]).run(manager)
    messages = [AgentMessage.from_dict({k: v for k, v in m.items() if k != "dispatch"}) for m in await told(manager)]
    sent = [driver.restore(m) for m in messages if m.point == "pre_model_call"]
    answers = [driver.restore(m) for m in messages if m.point == "post_model_call"]

    assert (done.answer, done.error) == ("It rains.", None)
    assert not any(m.redactions for m in messages)
    if driver.name == "openai-agents":
        assert sent == done.sent
        assert answers == done.said
    elif driver.name == "langchain":
        assert sent == done.sent
        assert [(a.content, a.tool_calls) for (a,) in answers] == [(a.content, a.tool_calls) for a in done.said]
    elif driver.name == "google-adk":
        assert sent == done.sent
        assert [a for (a,) in answers] == done.said
    else:
        assert [[m.parts for m in given] for given in sent] == [[m.parts for m in given] for given in done.sent]
        assert [a.parts for (a,) in answers] == [a.parts for a in done.said]
    tool = next(m for m in messages if m.point == "pre_tool_call")
    assert "Oslo" in repr(driver.restore(tool))
    assert driver.restore(messages[0]) is None


async def test_an_attached_agent_does_what_it_did(driver: type[Driver], manager: PluginManager) -> None:
    """With hooks that change nothing a run is the same as without."""
    await load(manager, "ChangerPlugin", "transform")
    attached = await driver([[OSLO, ROME], "It rains."], [weather]).run(manager)
    alone = await driver([[OSLO, ROME], "It rains."], [weather]).run(None)

    assert (attached.answer, attached.error) == (alone.answer, alone.error) == ("It rains.", None)
    assert plain(attached.sent) == plain(alone.sent)


def plain(sent: list[Any]) -> Any:
    """Without what differs from run to run: ids and times."""
    dropped = ("id", "timestamp", "run_id", "conversation_id", "instructions")

    def clean(value: Any) -> Any:
        if hasattr(value, "model_dump"):
            value = value.model_dump()
        if hasattr(value, "__dataclass_fields__"):
            value = vars(value)
        if isinstance(value, dict):
            return {name: clean(item) for name, item in value.items() if name not in dropped}
        return [clean(item) for item in value] if isinstance(value, (list, tuple)) else value

    return clean(sent)


async def test_what_was_cut_is_not_carried_back(driver: type[Driver], manager: PluginManager) -> None:
    """A result too large to be shown whole goes through whole if nothing changed it; if something did, not at all."""

    async def weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}" + "." * 2_000_000

    cut: list[bool] = []
    manager.register_hook("post_tool_call", lambda message: cut.append(message.truncated))
    await load(manager, "ChangerPlugin", "transform", "post_tool_call")
    whole = await driver([[OSLO], "It rains."], [weather]).run(manager)
    await load(manager, "ChangerPlugin", "transform", "post_tool_call", words={"rain": "sun"})
    changed = await driver([[OSLO], "It rains."], [weather]).run(manager)
    await manager.drain()

    assert cut == [True, True]
    assert "." * 2_000_000 in repr(whole.sent[-1])
    assert "too large to be shown whole" in repr((changed.error, changed.sent))
    assert "sun in Oslo" not in repr(changed.sent)
