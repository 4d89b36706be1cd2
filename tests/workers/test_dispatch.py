"""`dispatch`: who is asked, in which order, what each kind may do, and what becomes of a hook that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentplug import AgentMessage, ContractError, HookDenied, PluginError, PluginManager, Policy, SandboxedPlugin
from agentplug.contract.grants import Grant, parse_grant
from agentplug.contract.plugin import AGENT_POINTS
from agentplug.manager.hooks import Dispatch, breaker, observers
from agentplug.manager.hooks.breaker import FAILURES, OPEN_S
from agentplug.manager.hooks.records import MAX_REASON
from agentplug.manager.hooks.replies import BadReply, denial, transformed
from tests.leftovers import _warmed, eventually, nothing_left  # noqa: F401


class HookPlugin:
    """Asks for what its subclass says, and answers as the message's text says."""

    name, version = "hook", "1"
    hooks: dict[str, str] = {}  # noqa: RUF012

    async def initialize(self, config: dict[str, Any]) -> None:
        self.seen: list[Any] = []
        self.config = config

    async def process(self, x: Any) -> Any:
        if x == "busy":
            await asyncio.sleep(1)
        return self.seen

    async def on_message(self, point: str, message: dict[str, Any]) -> Any:
        self.seen.append(message)
        match message["name"]:
            case "upper":
                return [{"type": "text", "content": message["parts"][0]["content"].upper()}]
            case "message":
                message["parts"][0]["content"] += "!"
                return message
            case "rename":
                message["role"] = "system"
                return message
            case "nonsense":
                return [{"type": "text"}]
            case "array":
                return {**message, "agent": numpy.arange(3)}
            case "number":
                return 5
            case "no":
                return False
            case "reason":
                return {"deny": "not today"}
            case "megabyte":
                return {"deny": "\x1b[31m" + "x" * 1_000_000}
            case "raise":
                raise LookupError("of its own")
            case "sleep":
                await asyncio.sleep(60)
            case "stubborn":
                while True:
                    with contextlib.suppress(BaseException):
                        time.sleep(60)  # noqa: ASYNC251  blocking is the point
            case "die":
                import os

                os.abort()
            case "memory":
                return len(bytearray(1 << 30))
            case "meet":
                return await self.meet()
        return None

    async def meet(self) -> bool:
        """Wait until the others are here too."""
        place = Path(self.config["place"])
        (place / self.config["me"]).touch()
        while len(list(place.iterdir())) < self.config["count"]:  # noqa: ASYNC110  other processes set no event
            await asyncio.sleep(0.005)
        return True


def plugin(policy: Policy | None = None, config: Any = None, name: str = "hook", **hooks: str) -> SandboxedPlugin:
    """A worker that asks for `hooks`, which are granted unless `policy` says otherwise."""
    kind = type("HookPlugin", (HookPlugin,), {"hooks": hooks, "name": name, "__module__": __name__})
    return SandboxedPlugin(kind, policy or Policy(hooks=hooks), config=config)


def message(name: str = "", point: str = "input", text: str = "hello") -> AgentMessage:
    return AgentMessage(id="m", point=point, name=name, parts=[{"type": "text", "content": text}])


def outcomes(dispatch: Dispatch) -> list[tuple[str, str]]:
    """Who said what."""
    return [(record.hook, record.outcome) for record in dispatch.records]


# ---------------------------------------------------------------------- what each kind may do


async def test_transforms_fold_then_vetoes_judge_then_observers_are_told() -> None:
    """The order is by kind, then by registration, callbacks and plugins side by side."""
    told: list[tuple[str, Dispatch]] = []
    async with PluginManager() as manager:
        manager.register_hook("input", lambda m, d: told.append((m.text, d)), "observe")
        manager.register_hook("input", lambda m: m.text == "HELLO?", "veto")
        await manager.register(plugin(input="transform"))
        manager.register_hook(
            "input", lambda m: m.replace(parts=[{"type": "text", "content": m.text + "?"}]), "transform"
        )
        dispatch = await manager.dispatch(message("upper"))
        assert (dispatch.allowed, dispatch.changed, dispatch.message.text) == (True, True, "HELLO?")
        assert dispatch.check() is dispatch.message
        assert [(r.by, r.kind, r.outcome, r.changed) for r in dispatch.records] == [
            ("plugin", "transform", "changed", True),
            ("host", "transform", "changed", True),
            ("host", "veto", "allowed", False),
            ("host", "observe", "queued", False),
        ]
        await manager.drain()
        text, seen = told[0]
        assert (text, seen.original.text, seen.allowed) == ("HELLO?", "hello", True)


@pytest.mark.parametrize(
    ("name", "text", "outcome"),
    [("", "hello", "kept"), ("upper", "HELLO", "changed"), ("message", "hello!", "changed")],
)
async def test_what_a_transform_may_return(name: str, text: str, outcome: str) -> None:
    """Nothing, parts, or the message with other parts; all else of the message stays as it was, and the host says
    which parts were changed.
    """
    async with PluginManager() as manager:
        await manager.register(plugin(input="transform"))
        before = message(name)
        dispatch = await manager.dispatch(before)
        redactions = ["parts[0]: changed by hook"] if outcome == "changed" else []
        assert dispatch.message == before.replace(parts=[{"type": "text", "content": text}], redactions=redactions)
        assert outcomes(dispatch) == [("hook", outcome)]


@pytest.mark.parametrize("fails_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("rename", "invalid", "a transform changed role; it may change parts alone"),
        (
            "nonsense",
            "invalid",
            "a transform returned no parts: parts[0].content: None; a text part has a text there",
        ),
        ("array", "invalid", "a transform changed agent; it may change parts alone"),
        ("number", "invalid", "a transform returned a int; it may return None, parts, or the message"),
        ("raise", "failed:LookupError", "Plugin hook raised LookupError: of its own"),
        ("die", "died:SIGABRT", "Plugin hook"),
        ("memory", "limited:memory", "Plugin hook exceeded memory limit"),
    ],
)
async def test_a_transform_that_fails_denies_unless_it_was_granted_open(
    name: str, outcome: str, reason: str, fails_open: bool
) -> None:
    """Nonsense, an error, a limit or a death: recorded, the message as it was; denied, or let through by opt-in."""
    policy = Policy(hooks={"input": "transform open" if fails_open else "transform"}, memory="100M")
    async with PluginManager() as manager:
        await manager.register(plugin(policy, input="transform"))
        before = message(name)
        dispatch = await manager.dispatch(before)
        assert dispatch.message is before
        assert outcomes(dispatch) == [("hook", outcome)]
        assert reason in dispatch.records[0].reason
        assert (dispatch.allowed, dispatch.denied_by) == ((True, None) if fails_open else (False, "hook"))
        assert dispatch.reason == ("" if fails_open else f"{outcome}: {dispatch.records[0].reason}")


@pytest.mark.parametrize(
    ("name", "allowed", "outcome", "reason"),
    [
        ("", True, "allowed", ""),
        ("no", False, "denied", ""),
        ("reason", False, "denied", "not today"),
        (
            "number",
            False,
            "invalid",
            "a veto returned a int; it may return None, True, False, or {'deny': 'the reason'}",
        ),
        ("upper", False, "invalid", "a veto returned a list"),
        ("raise", False, "failed:LookupError", "Plugin hook raised LookupError: of its own"),
        ("die", False, "died:SIGABRT", "Plugin hook"),
    ],
)
async def test_what_a_veto_may_return(name: str, allowed: bool, outcome: str, reason: str) -> None:
    """None and True allow, False and a reason deny; anything else, an error or a death denies too."""
    async with PluginManager() as manager:
        await manager.register(plugin(input="veto"))
        dispatch = await manager.dispatch(message(name))
        assert (dispatch.allowed, outcomes(dispatch)) == (allowed, [("hook", outcome)])
        assert dispatch.records[0].reason.startswith(reason)
        if allowed:
            dispatch.check()
        else:
            with pytest.raises(HookDenied, match=r"^hook denied the message at input: "):
                dispatch.check()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(numpy.arange(3)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
SHAPED = st.fixed_dictionaries(
    {},
    optional={"deny": VALUES, "parts": VALUES | st.lists(VALUES), "type": VALUES, "role": VALUES, "agent": VALUES},
)


@settings(deadline=None, database=None)
@given(VALUES | SHAPED | st.lists(SHAPED))
def test_whatever_a_plugin_returns_is_an_answer_or_a_bad_reply(reply: Any) -> None:
    """No reply raises anything else, and none changes what a kind may not."""
    before = message()
    for judged in (lambda: transformed(before, reply, before.view, "hook"), lambda: denial(reply)):
        try:
            answer = judged()
        except BadReply as bad:
            answer = str(bad)
        if isinstance(answer, AgentMessage):
            assert answer.replace(parts=before.parts, redactions=[]) == before
            assert answer is before or answer.redactions[0].endswith("by hook")
        else:
            assert answer is None or len(answer) < 2 * MAX_REASON


async def test_a_reason_of_a_megabyte_is_cut_and_harmless() -> None:
    """A hook's words are bounded and escaped before anybody is shown them."""
    async with PluginManager() as manager:
        await manager.register(plugin(input="veto"))
        dispatch = await manager.dispatch(message("megabyte"))
        assert dispatch.reason.startswith(r"\x1b[31mxxx")
        assert len(dispatch.reason) < MAX_REASON + 100
        assert len(json.dumps(dispatch.to_dict())) < 3_000


async def test_all_vetoes_run_and_the_first_registered_is_named() -> None:
    """Several denials: each is recorded, and the tie is settled by the order of registration."""
    async with PluginManager() as manager:
        manager.register_hook("input", lambda m: True, "veto")
        await manager.register(plugin(input="veto"))
        manager.register_hook("input", lambda m: {"deny": "second"}, "veto")
        for _ in range(5):
            dispatch = await manager.dispatch(message("reason"))
            assert [r.outcome for r in dispatch.records] == ["allowed", "denied", "denied"]
            assert (dispatch.reason, dispatch.denied_by) == ("not today", "hook")


async def test_vetoes_go_out_at_once(tmp_path: Path) -> None:
    """Three plugins that wait for one another all allow: none was asked only after another had answered."""
    policy = Policy(hooks={"input": "veto"}, read=(str(tmp_path),), write=(str(tmp_path),), disk="1M")
    async with PluginManager() as manager:
        for me in ("a", "b", "c"):
            config = {"place": str(tmp_path), "me": me, "count": 3}
            await manager.register(plugin(policy, config, me, input="veto"), config)
        dispatch = await manager.dispatch(message("meet"))
        assert outcomes(dispatch) == [("a", "allowed"), ("b", "allowed"), ("c", "allowed")]


@pytest.mark.parametrize("point", [p for p in AGENT_POINTS if p.startswith("pre_")])
async def test_a_denied_message_still_reaches_every_observer(point: str) -> None:
    """Observers, confined and of the host's own, see what was denied, by whom, and the original beside the final."""
    told: list[Dispatch] = []
    async with PluginManager() as manager:
        watch = plugin(name="watch", **{point: "observe"})
        await manager.register(watch)
        manager.register_hook(point, lambda m, d: told.append(d))
        manager.register_hook(point, lambda m: [{"type": "text", "content": "else"}], "transform")
        manager.register_hook(point, lambda m: {"deny": "no"}, "veto")
        dispatch = await manager.dispatch(message(point=point))
        assert not dispatch.allowed
        await manager.drain()
        (seen,) = await watch.process(None)
        assert seen.pop("dispatch") == {
            "allowed": False,
            "reason": "no",
            "denied_by": dispatch.denied_by,
            "evaluate_only": False,
            "original": [{"type": "text", "content": "hello"}],
        }
        assert seen == dispatch.message.for_plugin()
        assert [(d.allowed, d.original.text, d.message.text) for d in told] == [(False, "hello", "else")]


@pytest.mark.parametrize("name", ["upper", "no", "reason", "nonsense", "raise", "die", "megabyte"])
async def test_an_observer_changes_nothing_whatever_it_does(name: str) -> None:
    """Its reply is ignored, its failure is counted, and the dispatch went on without it."""
    async with PluginManager() as manager:
        await manager.register(plugin(input="observe"))
        before = message(name)
        dispatch = await manager.dispatch(before)
        assert (dispatch.message, dispatch.allowed, outcomes(dispatch)) == (before, True, [("hook", "queued")])
        await manager.drain()
        row = manager.hooks_frame().iloc[0]
        assert (row["calls"], row["failed"], row["denied"], row["changed"]) == (
            1,
            int(name in ("raise", "die")),
            0,
            0,
        )


async def test_a_callback_gets_a_copy() -> None:
    """Whatever a callback does to the message that it is shown, only what it returns counts."""

    def spoil(shown: AgentMessage) -> None:
        shown.parts[0]["content"] = "spoilt"

    async with PluginManager() as manager:
        for kind in ("transform", "veto", "observe"):
            manager.register_hook("input", spoil, kind)
        before = message()
        dispatch = await manager.dispatch(before)
        await manager.drain()
        assert dispatch.message is before
        assert before.text == "hello"


async def test_an_observing_callback_gets_a_copy_of_what_became_of_it() -> None:
    """The dispatch that it is shown is its own as well: whoever dispatched goes on with what vetoes have seen."""
    told: list[bool] = []

    def shout(shown: AgentMessage) -> AgentMessage:
        return shown.replace(parts=[{"type": "text", "content": shown.text.upper()}])

    def spoil(shown: AgentMessage, became: Dispatch) -> None:
        told.append(became.changed)
        for of in (became.original, became.proposed, became.message):
            of.parts[0]["content"] = "spoilt"

    async with PluginManager() as manager:
        manager.register_hook("input", spoil)
        before = message()
        plain = await manager.dispatch(before)
        await manager.drain()
        manager.register_hook("input", shout, "transform")
        changed = await manager.dispatch(before)
        await manager.drain()
        assert (plain.check().text, changed.check().text, before.text) == ("hello", "HELLO", "hello")
        assert told == [False, True]


async def test_redactions_say_who_changed_what() -> None:
    """One line a transform, in their order, beside what an adapter left out; all hooks that follow see them."""

    def all_but_one(shown: AgentMessage) -> list[Any]:
        return [*shown.payload[:1], *({**part, "content": "b"} for part in shown.payload[1:])]

    def shorter(shown: AgentMessage) -> list[Any]:
        return shown.payload[:1]

    seen: list[list[str]] = []
    parts = [{"type": "text", "content": "a"}] * 12
    async with PluginManager() as manager:
        manager.register_hook("input", all_but_one, "transform")
        manager.register_hook("input", shorter, "transform")
        manager.register_hook("input", lambda shown: seen.append(shown.redactions), "veto")
        given = message().replace(parts=parts, redactions=["native: left out"])
        found = (await manager.dispatch(given)).check().redactions
    named = ", ".join(f"parts[{i}]" for i in range(1, 9))
    name = test_redactions_say_who_changed_what.__name__ + ".<locals>."
    assert found == [
        "native: left out",
        f"{named} and 3 more: changed by {name}all_but_one",
        f"parts: 1 in place of 12, by {name}shorter",
    ]
    assert seen == [found]
    assert given.redactions == ["native: left out"]


async def test_evaluate_only_asks_everybody_and_changes_nothing() -> None:
    """What would have been changed and denied is told; the message goes on as it was."""
    async with PluginManager() as manager:
        await manager.register(plugin(input="transform"))
        manager.register_hook("input", lambda m: {"deny": f"no {m.text}"}, "veto")
        before = message("upper")
        dispatch = await manager.dispatch(before, evaluate_only=True)
        assert (dispatch.message is before, dispatch.check() is before, dispatch.allowed) == (True, True, True)
        assert (dispatch.proposed.text, dispatch.reason) == ("HELLO", "no HELLO")
        assert [record.outcome for record in dispatch.records] == ["changed", "denied"]


# ---------------------------------------------------------------------- grants


async def test_only_what_is_asked_for_and_granted_is_called() -> None:
    """A right that wasn't granted, of another kind, or of an unknown point: not called, and tables say why."""
    asks = {
        "input": "observe",
        "output": "veto",
        "pre_tool_call": "transform",
        "pre_process": "observe",
        "inptu": "veto",
        "post_tool_call": "vote",
    }
    async with PluginManager() as manager:
        policy = Policy(hooks={"input": "observe", "output": "observe", "agent_startup": "veto"})
        watch = plugin(policy, **asks)
        await manager.register(watch)
        for point in AGENT_POINTS:
            await manager.dispatch(message("raise", point))
        await manager.drain()
        assert [m["point"] for m in await watch.process(None)] == ["input"]
        frame = manager.hooks_frame()
        assert dict(zip(frame["point"], frame["granted"], strict=True)) == {p: p == "input" for p in asks}
        assert list(frame["detail"]) == [
            "",
            "the policy grants observe there",
            "not granted; Policy(hooks={'pre_tool_call': 'transform'}) would",
            "only callbacks of the host's own are called there",
            f"there is no such point; the points are pre_process, post_process, {', '.join(AGENT_POINTS)}",
            "there is no such kind; the kinds are transform, veto, observe",
        ]
        assert "pre_tool_call: transform (not granted)" in manager._inside.registry.rows()[0]["hooks"]
        assert "input: observe" in manager._repr_html_()


async def test_the_frameworks_own_dump_goes_to_who_was_granted_it() -> None:
    """`native` stays in the host unless the grant says so."""
    dump = {"framework": "f", "data": {"secret": 1}}
    async with PluginManager() as manager:
        for name, grant in (("without", "observe"), ("with", "observe native")):
            await manager.register(plugin(Policy(hooks={"input": grant}), name=name, input="observe"))
        await manager.dispatch(message().replace(native=dump))
        await manager.drain()
        seen = {name: (await p.process(None))[0]["native"] for name, p in manager.plugins.items()}
        assert seen == {"without": None, "with": dump}


def test_how_a_grant_is_written() -> None:
    """A kind, and after it `open` and `native` in any order."""
    assert parse_grant("veto") == Grant("veto", False, False)
    assert parse_grant("transform native open") == Grant("transform", True, True)
    assert parse_grant("observe") == Grant("observe", True, False)
    for wrong in ("", "vote", "veto opne", "open", "observe open", None, 5):
        with pytest.raises(ValueError, match=r"kinds are|observer"):
            parse_grant(wrong)


async def test_a_trusted_plugin_needs_a_grant_too() -> None:
    """It runs in the host, by the manager's policy."""
    calls: list[str] = []

    class Mine:
        name, version = "mine", "1"
        hooks = {"input": "veto", "output": "veto"}  # noqa: RUF012

        def initialize(self, config: Any) -> None: ...

        def process(self, x: Any) -> Any: ...

        def on_message(self, point: str, message: dict[str, Any]) -> dict[str, str]:
            calls.append(point)
            message.clear()
            return {"deny": "mine"}

    async with PluginManager(Policy(hooks={"input": "veto"})) as manager:
        await manager.register(Mine(), trusted=True)
        assert (await manager.dispatch(message())).reason == "mine"
        assert (await manager.dispatch(message(point="output"))).allowed
        assert calls == ["input"]


async def test_a_plugin_keeps_its_place_and_its_hooks_when_it_is_replaced() -> None:
    """A reload asks the new plugin, in the old one's place."""
    async with PluginManager() as manager:
        await manager.register(plugin(input="veto"))
        manager.register_hook("input", lambda m: {"deny": "later"}, "veto")
        await manager.reload("hook")
        assert outcomes(await manager.dispatch(message("no")))[0] == ("hook", "denied")
        await manager.unregister("hook")
        assert (await manager.dispatch(message("no"))).reason == "later"


async def test_a_veto_that_could_not_start_is_no_missing_veto() -> None:
    """`dispatch` waits for initializations, and raises the error of one that failed."""

    class NeverPlugin(HookPlugin):
        hooks = {"input": "veto"}  # noqa: RUF012

        async def initialize(self, config: Any) -> None:
            raise LookupError("no key")

    async with PluginManager() as manager:
        manager.register(SandboxedPlugin(NeverPlugin, Policy(hooks={"input": "veto"})))
        with pytest.raises(PluginError, match="no key"):
            await manager.dispatch(message())
        registration = manager.register(SandboxedPlugin(NeverPlugin, Policy(hooks={"input": "veto"})))
        with pytest.raises(PluginError, match="no key"):
            await registration
        assert (await manager.dispatch(message())).records == ()  # whoever awaited it knows


# ---------------------------------------------------------------------- time, breakers, queues


async def test_a_hook_has_a_time_of_its_own() -> None:
    """What doesn't answer in time is interrupted: denied, or recorded, and the worker lives on."""
    async with PluginManager() as manager:
        manager._inside.dispatching.dispatcher.hook_s = 0.2
        veto = plugin(input="veto")
        await manager.register(veto)
        dispatch = await manager.dispatch(message("sleep"))
        assert outcomes(dispatch) == [("hook", "timeout")]
        assert dispatch.reason == "timeout: no answer within 0.2 seconds"
        assert (await manager.dispatch(message())).allowed
        manager.register_hook("output", lambda m: asyncio.sleep(60), "veto")
        assert not (await manager.dispatch(message(point="output"))).allowed


@pytest.mark.parametrize(
    ("comes", "goes_on", "cancelled", "outcome"),
    [
        (True, False, False, "allowed"),
        (False, False, False, "timeout"),
        (True, True, False, "timeout"),
        (True, False, True, "cancelled"),
    ],
    ids=["it came", "it did not", "it came and did not end it", "who waits has gone"],
)
async def test_a_loop_that_was_held_up_finds_the_answer_and_no_timeout(
    comes: bool, goes_on: bool, cancelled: bool, outcome: str
) -> None:
    """What a hook waits for came in time; that nobody looked is not its fault."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    answer = loop.create_future()

    async def hook(shown: AgentMessage) -> None:
        asked.set()
        await answer
        if goes_on:
            await asyncio.Event().wait()

    async with PluginManager() as manager:
        manager.register_hook("input", hook, "veto")
        manager._inside.dispatching.dispatcher.hook_s = 0.05
        dispatching = asyncio.create_task(manager.dispatch(message()))
        await asked.wait()
        if comes:
            loop.call_soon(answer.set_result, None)
        if cancelled:
            loop.call_later(0.1, dispatching.cancel)  # after the limit, and before anybody has looked
        time.sleep(0.2)  # noqa: ASYNC251  blocking is the point
        if cancelled:
            with pytest.raises(asyncio.CancelledError):
                await dispatching
        else:
            (record,) = (await dispatching).records
            assert record.outcome == outcome
            assert record.duration_s >= 0.2


async def test_a_hook_that_wont_be_interrupted_is_killed() -> None:
    """What ignores the interrupt gets a second of grace; then its worker ends, and the next message has a new one."""
    async with PluginManager() as manager:
        manager._inside.dispatching.dispatcher.hook_s = 0.2
        veto = plugin(input="veto")
        await manager.register(veto)
        pid = veto.pid
        assert outcomes(await manager.dispatch(message("stubborn"))) == [("hook", "timeout")]
        manager._inside.dispatching.dispatcher.hook_s = 60
        assert (await manager.dispatch(message())).allowed
        assert veto.pid != pid


async def test_a_veto_that_is_busy_denies_in_time() -> None:
    """Waiting for a plugin that works on something else counts; what it works on isn't disturbed."""
    async with PluginManager() as manager:
        manager._inside.dispatching.dispatcher.hook_s = 0.2
        veto = plugin(input="veto")
        await manager.register(veto)
        working = asyncio.create_task(veto.run("busy"))
        assert await asyncio.to_thread(eventually, lambda: veto.state == "busy")
        assert outcomes(await manager.dispatch(message())) == [("hook", "timeout")]
        assert (await working).verdict.kind == "completed"


async def test_a_veto_that_is_quarantined_denies() -> None:
    """A plugin out of use is no reason to let a message pass. It isn't called, and no call is counted."""
    async with PluginManager() as manager:
        veto = plugin(input="veto")
        await manager.register(veto)
        veto._inside.quarantine()
        for _ in range(FAILURES + 1):
            dispatch = await manager.dispatch(message())
            assert outcomes(dispatch) == [("hook", "skipped")]
            assert dispatch.reason.startswith("skipped: Plugin hook was quarantined by hand; reload it")
        row = manager.hooks_frame().iloc[0]
        assert (row["calls"], row["failed"], row["breaker"]) == (0, FAILURES + 1, "closed")


async def test_what_a_callback_raises_is_recorded() -> None:
    """An error, a made-up cancellation and a made-up timeout are outcomes; the other hooks run."""

    def raises(error: BaseException) -> Any:
        def hook(shown: AgentMessage) -> None:
            raise error

        return hook

    async with PluginManager() as manager:
        for error in (KeyError("k"), asyncio.CancelledError(), TimeoutError()):
            manager.register_hook("input", raises(error), "veto", fail_open=True)
        manager.register_hook("input", raises(KeyError("k")), "veto")
        dispatch = await manager.dispatch(message())
        assert [record.outcome for record in dispatch.records] == [
            "failed:KeyError",
            "failed:CancelledError",
            "failed:TimeoutError",
            "failed:KeyError",
        ]
        assert dispatch.reason == "failed:KeyError: 'k'"


async def test_cancelling_a_dispatch_cancels_it() -> None:
    """Who waits for a dispatch can stop it, and it isn't the hook's failure."""
    asked = asyncio.Event()

    async def hook(shown: AgentMessage) -> None:
        asked.set()
        await asyncio.sleep(60)

    async with PluginManager() as manager:
        manager.register_hook("input", hook, "veto")
        task = asyncio.create_task(manager.dispatch(message()))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert manager.hooks_frame().iloc[0]["failed"] == 0


async def test_a_hook_that_keeps_failing_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three failures in a row open the breaker: a veto denies unasked. Later it is tried once, and may recover."""
    now_s = 100.0
    monkeypatch.setattr(breaker, "now_s", lambda: now_s)
    calls = 0
    fails = True

    def hook(shown: AgentMessage) -> None:
        nonlocal calls
        calls += 1
        if fails:
            raise LookupError

    async with PluginManager() as manager:
        manager.register_hook("input", hook, "veto")
        for _ in range(FAILURES + 2):
            assert not (await manager.dispatch(message())).allowed
        assert calls == FAILURES
        dispatch = await manager.dispatch(message())
        assert dispatch.records[0].outcome == "skipped"
        assert manager.hooks_frame().iloc[0][["breaker", "calls"]].to_list() == ["open", FAILURES]
        now_s += OPEN_S
        assert manager.hooks_frame().iloc[0]["breaker"] == "trying"
        await manager.dispatch(message())
        await manager.dispatch(message())
        assert calls == FAILURES + 1
        now_s += OPEN_S
        fails = False
        for _ in range(3):
            assert (await manager.dispatch(message())).allowed
        assert (calls, manager.hooks_frame().iloc[0]["breaker"]) == (FAILURES + 4, "closed")


async def test_an_observer_that_falls_behind_loses_messages_and_they_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The queue is bounded: what finds it full is dropped, recorded and counted; the rest comes in order."""
    monkeypatch.setattr(observers, "MAX_WAITING", 3)
    go, begun = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def watch(shown: AgentMessage) -> None:
        begun.set()
        await go.wait()
        seen.append(shown.seq)

    async with PluginManager() as manager:
        manager.register_hook("input", watch)
        await manager.dispatch(message().replace(seq=0))
        await begun.wait()
        for seq in range(1, 6):
            dispatch = await manager.dispatch(message().replace(seq=seq))
            assert dispatch.allowed
        assert dispatch.records[0].outcome == "dropped"
        assert manager.hooks_frame().iloc[0][["dropped", "waiting"]].to_list() == [2, 3]
        go.set()
        await manager.drain()
        assert seen == [0, 1, 2, 3]


async def test_large_messages_fill_a_queue_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded in bytes too."""
    monkeypatch.setattr(observers, "MAX_WAITING_BYTES", 250_000)
    async with PluginManager() as manager:
        manager.register_hook("input", lambda m: None)
        told = [(await manager.dispatch(message(text="x" * 100_000))).records[0].outcome for _ in range(3)]
        assert told == ["queued", "queued", "dropped"]


async def test_leaving_the_manager_lets_observers_see_what_waits() -> None:
    """Closing waits for them, before plugins are closed."""
    seen: list[int] = []
    async with PluginManager() as manager:
        watch = plugin(input="observe")
        await manager.register(watch)
        manager.register_hook("input", lambda m: seen.append(m.seq))
        for seq in range(20):
            await manager.dispatch(message().replace(seq=seq))
    assert seen == list(range(20))
    assert (watch._inside.calls, watch.state) == (20, "closed")


def test_observers_of_a_loop_that_ended_go_on_with_the_next() -> None:
    """Each `asyncio.run` has a loop of its own; what one left waiting, the next sees."""
    seen: list[int] = []

    async def watch(shown: AgentMessage) -> None:
        await asyncio.sleep(0)
        seen.append(shown.seq)

    manager = PluginManager()
    manager.register_hook("input", watch)
    for seq in range(3):
        asyncio.run(manager.dispatch(message().replace(seq=seq)))
    asyncio.run(manager.close())
    assert seen
    assert seen == sorted(seen)
    assert seen[-1] == 2


# ---------------------------------------------------------------------- the rest


async def test_a_hook_that_dispatches_to_its_own_manager_is_refused() -> None:
    """It would be asked again, and again: the inner dispatch is denied and recorded, the outer one goes on."""
    inner: list[Dispatch] = []
    manager, other = PluginManager(), PluginManager()

    async def hook(shown: AgentMessage) -> None:
        inner.append(await manager.dispatch(shown))
        inner.append(await other.dispatch(shown))

    manager.register_hook("input", hook, "veto")
    dispatch = await manager.dispatch(message())
    assert dispatch.allowed
    assert [(d.allowed, [r.outcome for r in d.records]) for d in inner] == [(False, ["refused"]), (True, [])]
    assert inner[0].reason == "a hook may not dispatch to the manager that asks it"


async def test_what_a_hook_leaves_running_may_dispatch_later() -> None:
    """Only while it is asked is a hook refused: a task that it started is free afterwards."""
    manager = PluginManager()
    go = asyncio.Event()
    later: list[asyncio.Task[Dispatch]] = []

    async def after() -> Dispatch:
        await go.wait()
        return await manager.dispatch(message(point="output"))

    handle = manager.register_hook("input", lambda m: later.append(asyncio.create_task(after())), "veto")
    await manager.dispatch(message())
    go.set()
    assert (await later[0]).allowed
    handle.remove()
    assert (await manager.dispatch(message())).records == ()


async def test_a_dispatch_is_told_to_the_audit_without_its_content(tmp_path: Path) -> None:
    """One line a dispatch and one an observer's call: digests, outcomes and reasons, and no content."""
    log = tmp_path / "audit.jsonl"
    async with PluginManager(audit=log) as manager:
        await manager.register(plugin(input="transform"))
        manager.register_hook("input", lambda m: None)
        dispatch = await manager.dispatch(message("upper", text="secret"))
    told = [json.loads(line) for line in log.read_text().splitlines()]
    (one,) = (line["fields"] for line in told if line["kind"] == "dispatch")
    (seen,) = (line["fields"] for line in told if line["kind"] == "hook")
    assert one == dispatch.to_dict()
    assert (seen["message"], seen["outcome"]) == ("m", "observed")
    assert "secret" not in log.read_text().lower()
    assert one["digest"] != one["proposed_digest"]


async def test_dispatch_sync_for_frameworks_without_coroutines() -> None:
    """It works inside a running loop too."""
    async with PluginManager() as manager:
        await manager.register(plugin(input="veto"))
        assert not manager._inside.dispatching.dispatch_sync(message("no")).allowed


async def test_messages_and_kinds_of_the_wrong_type() -> None:
    """A dict isn't a message, a vote isn't a kind, and the chapter's hooks have none."""
    manager = PluginManager()
    with pytest.raises(ContractError, match="a dict can't be dispatched; make an AgentMessage of it"):
        await manager.dispatch({"point": "input"})  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="the kinds are transform, veto, observe"):
        manager.register_hook("input", print, "vote")
    with pytest.raises(ContractError, match="callbacks at pre_process have none"):
        manager.register_hook("pre_process", print, "veto")


async def test_a_plugin_without_on_message_fails_where_it_asked_to_be_called() -> None:
    """Asking for a hook and having none is a failure like others: closed."""

    class LostPlugin:
        name, version = "lost", "1"
        hooks = {"input": "veto"}  # noqa: RUF012

        def initialize(self, config: Any) -> None: ...

        def process(self, x: Any) -> Any: ...

    async with PluginManager() as manager:
        await manager.register(SandboxedPlugin(LostPlugin, Policy(hooks={"input": "veto"})))
        assert outcomes(await manager.dispatch(message())) == [("lost", "failed:AttributeError")]


async def test_many_dispatches_at_once() -> None:
    """Concurrent dispatches through the same plugins each get their own answers."""
    async with PluginManager() as manager:
        await manager.register(plugin(input="transform", output="veto"))
        asked = [message("upper", text=f"t{i}") for i in range(40)] + [message("no", "output") for _ in range(40)]
        got = await asyncio.gather(*(manager.dispatch(m) for m in asked))
        assert [d.message.text for d in got[:40]] == [f"T{i}" for i in range(40)]
        assert not any(d.allowed for d in got[40:])
