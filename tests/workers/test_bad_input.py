"""Bad input to every public name: an error of `agentplug.errors` with fact and remedy; nothing is left of the try."""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentplug
from agentplug import (
    AgentplugError,
    BarrierUnavailable,
    ContractError,
    LimitExceeded,
    PluginError,
    PluginManager,
    PluginNotFound,
    Policy,
    PolicyError,
    SandboxedPlugin,
    SpecError,
    UnknownHook,
    Verdict,
    WorkerDied,
    load_plugin_from_module,
)
from tests.leftovers import QuietPlugin, _warmed, nothing_left, workers  # noqa: F401

PLUGIN = """
class {name}:
    name = {plugin_name!r}
    version = {version!r}
    async def initialize(self, config): {initialize}
    async def process(self, x): return x
"""


def plugin_code(
    name: str = "GoodPlugin", *, plugin_name: Any = "good", version: Any = "1", initialize: str = "pass"
) -> str:
    """The source of a plugin with one thing about it changed."""
    return PLUGIN.format(name=name, plugin_name=plugin_name, version=version, initialize=initialize)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------------- what names a plugin

BAD_SPECS: list[tuple[Any, type[Exception], str]] = [
    (None, SpecError, "can't be made from a value of type NoneType; name the plugin by a spec"),
    (5, SpecError, "can't be made from a value of type int"),
    (b"pkg.mod", SpecError, "can't be made from a value of type bytes"),
    ([], SpecError, "can't be made from a value of type list"),
    ({}, SpecError, "can't be made from a value of type dict"),
    (print, SpecError, "is no plugin; write a class around it"),
    (lambda x: x, SpecError, "is no plugin; write a class around it"),
    (re, SpecError, "pass its name, 're'"),
    ("", SpecError, "the spec is empty; write"),
    ("   ", SpecError, "the spec is empty; write"),
    ("\0", SpecError, "NUL"),
    ("x" * 10_000, SpecError, "has 10,000 characters, the most is 4,096"),
    ("no_such_module_at_all", PluginNotFound, "no_such_module_at_all"),
    ("no.such.module", PluginNotFound, "no"),
    (":Class", SpecError, "names no module before its colon"),
    ("json:not a name", SpecError, "not a name"),
    (".relative", SpecError, "is relative"),
    ("./missing.py", PluginNotFound, "missing.py"),
    ("/", SpecError, "directory"),
    ("https://example.org/plugin.py", SpecError, "plugins aren't downloaded; save the file and name it"),
    (Path("missing.py"), PluginNotFound, "missing.py"),
    (Path(), SpecError, "is a directory without .py files; a plugin is a .py file"),
    (object, ContractError, "isn't an agent plugin"),
    (object(), ContractError, "isn't an agent plugin"),
]


@pytest.mark.parametrize(
    ("spec", "error", "message"), BAD_SPECS, ids=[re.sub(" at 0x.*", "", repr(row[0]))[:30] for row in BAD_SPECS]
)
def test_bad_specs_are_refused_at_every_door(folder: Path, spec: Any, error: Any, message: str) -> None:
    """The class, the chapter's function and the manager refuse alike: type and text; nothing starts."""

    async def load() -> None:
        async with PluginManager() as manager:
            try:
                await manager.load(spec)
            finally:
                assert dict(manager.plugins) == {}

    doors: list[Callable[[], object]] = [
        lambda: SandboxedPlugin(spec).run_sync(None),
        lambda: load_plugin_from_module(spec),
        lambda: asyncio.run(load()),
    ]
    for door in doors:
        with pytest.raises(error, match=re.escape(message)) as caught:
            door()
        assert isinstance(caught.value, AgentplugError)
        assert len(str(caught.value)) > 20
        assert workers() == []


# ---------------------------------------------------------------------- what is in a file

BAD_FILES: list[tuple[str, bytes, type[Exception], str]] = [
    ("empty", b"", PluginNotFound, "No plugin class found in"),
    ("spaces", b" \n\n", PluginNotFound, "No plugin class found in"),
    ("text", b"this isn't Python", SpecError, "line 1 isn't Python"),
    ("binary", bytes(range(256)), SpecError, "isn't Python"),
    ("nul", b"x = 1\0", SpecError, "isn't Python"),
    ("encoding", b"# coding: no-such-codec\n", SpecError, "isn't Python"),
    ("undecodable", b"x = '\xff'\n", SpecError, "isn't Python"),
    ("indent", b"if True:\npass", SpecError, "line 2 isn't Python"),
    ("no_plugin", b"class Thing: pass", PluginNotFound, "it defines Thing"),
    ("two", (plugin_code("OnePlugin") + plugin_code("TwoPlugin")).encode(), PluginNotFound, "OnePlugin, TwoPlugin"),
    ("imports", b"import no_such_module_at_all", PluginError, "ModuleNotFoundError: No module named 'no_such"),
    ("raises", b"raise LookupError('at import')", PluginError, "raised LookupError: at import"),
    ("exits", b"import sys; sys.exit(3)", PluginError, "raised SystemExit: 3"),
    ("dies", b"import os; os._exit(3)", WorkerDied, "worker died: exit 3"),
    ("crashes", b"import ctypes; ctypes.string_at(0)", WorkerDied, "worker died: SIGSEGV"),
    ("no_name", plugin_code(plugin_name=5).encode(), ContractError, "name must be text of 1 to 200 characters"),
    ("empty_name", plugin_code(plugin_name="").encode(), ContractError, "name must be text of 1 to 200"),
    ("long_name", plugin_code(plugin_name="x" * 10_000).encode(), ContractError, "name must be text of 1 to 200"),
    ("no_version", plugin_code(version=None).encode(), ContractError, "version must be text"),
    ("long_version", plugin_code(version="1" * 101).encode(), ContractError, "version must be text of at most 100"),
    (
        "no_process",
        b"class APlugin:\n name = version = '1'\n def initialize(self, c): pass",
        ContractError,
        "isn't an agent plugin: process() is missing",
    ),
    (
        "no_initialize",
        b"class APlugin:\n name = version = '1'\n def process(self, c): pass",
        ContractError,
        "initialize() is missing",
    ),
    (
        "bad_hooks",
        b"class APlugin:\n name = version = '1'; hooks = ['input']\n initialize = process = lambda self, x: x",
        ContractError,
        "hooks must be a dict",
    ),
    (
        "needs_arguments",
        b"class APlugin:\n def __init__(self, x): pass",
        PluginError,
        "raised TypeError: ",
    ),
    (
        "raising_property",
        b"class APlugin:\n @property\n def name(self): raise LookupError('no name')",
        PluginError,
        "raised LookupError: no name",
    ),
]


@pytest.mark.parametrize(("name", "code", "error", "message"), BAD_FILES, ids=[row[0] for row in BAD_FILES])
async def test_bad_files_are_refused(
    folder: Path, name: str, code: bytes, error: type[Exception], message: str
) -> None:
    """What a file holds is found out in the worker; the error says what, and no worker or registration stays."""
    path = folder / f"{name}.py"
    path.write_bytes(code)
    for _ in range(2):
        async with PluginManager() as manager:
            with pytest.raises(error, match=re.escape(message)):
                await manager.load(path)
            assert dict(manager.plugins) == {}
            assert workers() == []
    plugin = SandboxedPlugin(path)
    with pytest.raises(error, match=re.escape(message)):
        await plugin.start()
    assert (plugin.state, plugin.pid) == ("failed", None)
    await plugin.close()


async def test_a_huge_file_is_refused(folder: Path) -> None:
    """A file beyond what a plugin may be is a `SpecError` with the limit; it isn't read whole."""
    path = folder / "huge.py"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SpecError, match=r"huge.py"):
        SandboxedPlugin(path)


def test_files_that_are_no_files(folder: Path) -> None:
    """A directory, a pipe, a device and a file without read permission are refused by name, without waiting."""
    import os

    (folder / "directory.py").mkdir()
    os.mkfifo(folder / "pipe.py")
    (folder / "loop.py").symlink_to("loop.py")
    for spec in ("./directory.py", "./pipe.py", "./loop.py", "/dev/zero", "/dev/null"):
        with pytest.raises(SpecError):
            SandboxedPlugin(spec)


@pytest.mark.parametrize(
    ("initialize", "error", "message"),
    [
        ("raise LookupError('no key')", PluginError, "Plugin good raised LookupError: no key"),
        ("import sys; sys.exit('bye')", PluginError, "Plugin good raised SystemExit: bye"),
        ("import os; os._exit(7)", WorkerDied, "worker died: exit 7"),
        ("import time; time.sleep(60)", LimitExceeded, "exceeded time limit"),
        ("await __import__('asyncio').Event().wait()", LimitExceeded, "exceeded time limit"),
        ("self.big = bytearray(b'x' * (500 << 20))", LimitExceeded, "exceeded memory limit"),
    ],
    ids=["raises", "exits", "dies", "hangs", "waits", "takes"],
)
async def test_an_initialize_that_goes_wrong(
    folder: Path, initialize: str, error: type[Exception], message: str
) -> None:
    """Whatever `initialize` does, it has a verdict and an error; nothing is registered, nothing runs on."""
    (folder / "good.py").write_text(plugin_code(initialize=initialize))
    policy = Policy(wall_s=0.5, memory="100M")
    async with PluginManager(policy) as manager:
        with pytest.raises(error, match=re.escape(message)):
            await manager.load("./good.py")
        with pytest.raises(error, match=re.escape(message)):
            await manager.register(SandboxedPlugin("./good.py", policy))
        assert dict(manager.plugins) == {}
        assert workers() == []
    plugin = SandboxedPlugin("./good.py", policy)
    run = await plugin.run(1)
    assert run.verdict.kind in ("failed", "died", "limited")
    await plugin.close()


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize("config", [5, "text", [1], ("a", 1), {1, 2}, object()])
def test_a_config_of_the_wrong_type(config: Any) -> None:
    """A configuration is a dict; anything else is a `ContractError` that says so."""
    for make in (
        lambda: SandboxedPlugin(QuietPlugin, config=config),
        lambda: PluginManager().register(QuietPlugin(), config),
        lambda: load_plugin_from_module("json", config=config),
        lambda: asyncio.run(PluginManager().load(QuietPlugin, config=config)),
    ):
        with pytest.raises(ContractError, match=r"config is a \w+; write a dict"):
            make()
    plugin = SandboxedPlugin(QuietPlugin)
    with pytest.raises(ContractError, match=r"config is a \w+; write a dict"):
        asyncio.run(plugin.initialize(config))


async def test_a_config_that_cannot_travel() -> None:
    """A configuration with something that can't be sent is named; nothing runs on."""
    plugin = SandboxedPlugin(QuietPlugin, config={"lock": (x for x in ())})
    with pytest.raises(ContractError, match=r"can't be sent to a worker: generator at value\['lock'\]"):
        await plugin.process(1)
    await plugin.close()


@pytest.mark.parametrize("policy", [5, "512M", {"memory": "1G"}, Policy, object()])
def test_a_policy_of_the_wrong_type(policy: Any) -> None:
    """A policy is a `Policy`; anything else is a `PolicyError` with the way to write one."""
    for make in (
        lambda: SandboxedPlugin(QuietPlugin, policy),
        lambda: load_plugin_from_module("json", policy),
        lambda: PluginManager(policy),
        lambda: asyncio.run(PluginManager().load(QuietPlugin, policy=policy)),
    ):
        with pytest.raises(PolicyError, match=r"Policy\(memory='256M'\)"):
            make()


@pytest.mark.parametrize("limit", ["64", True, 0, -5, 0.5, float("nan"), float("inf"), 1 << 60, [64], b"1"])
def test_a_memory_limit_that_makes_no_sense(limit: Any) -> None:
    """`memory_limit_mb` is a sensible number of megabytes."""
    with pytest.raises(PolicyError, match="memory_limit_mb="):
        SandboxedPlugin(QuietPlugin, memory_limit_mb=limit)


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"memroy": 1}, "Policy has no field 'memroy'; did you mean 'memory'"),
    ({"qqq": 1}, "Policy has no field 'qqq'; the fields are memory"),
    ({"memory": "lots"}, "memory='lots' isn't a size"),
    ({"memory": None}, "memory=None"),
    ({"memory": 0}, "memory=0: between 1 MiB"),
    ({"memory": -1}, "memory=-1"),
    ({"memory": 1.5}, "memory=1.5"),
    ({"memory": float("inf")}, "memory=inf"),
    ({"memory": "9" * 400}, "memory"),
    ({"cpu_s": 0}, "cpu_s=0"),
    ({"cpu_s": "1"}, "cpu_s='1'"),
    ({"cpu_s": float("nan")}, "cpu_s=nan"),
    ({"wall_s": True}, "wall_s=True"),
    ({"wall_s": 1e300}, "wall_s=1e+300"),
    ({"processes": -1}, "processes=-1"),
    ({"processes": 1.0}, "processes=1.0"),
    ({"threads": 0}, "threads=0"),
    ({"open_files": 3}, "open_files=3"),
    ({"disk": "-1"}, "disk='-1'"),
    ({"output": {}}, "output={}"),
    ({"reply": 1}, "reply=1"),
    ({"reply": "2G"}, "reply=2147483648"),
    ({"network": "yes"}, "network='yes'"),
    ({"network": ()}, "network=()"),
    ({"network": (0,)}, "network: 0 isn't a TCP port"),
    ({"network": (70_000,)}, "network: 70000 isn't a TCP port"),
    ({"read": 5}, "read=5"),
    ({"read": ("",)}, "read: '' isn't a path"),
    ({"write": ("a\0b",)}, "write: 'a\\x00b' isn't a path"),
    ({"read": "/no/such/place"}, "read: '/no/such/place' isn't there; check the path, or make it first"),
    ({"write": ("/etc/passwd/x",)}, "write: '/etc/passwd/x' can't be there: a part of it is a file"),
    ({"env": "A=1"}, "env='A=1'"),
    ({"env": {"A=": "1"}}, "env: 'A=' isn't the name of a variable"),
    ({"env": {"A": 1}}, "env['A']=1"),
    ({"hooks": {"inputt": "veto"}}, "hooks: unknown point 'inputt'"),
    ({"hooks": {"input": "vote"}}, "hooks['input']='vote'"),
    ({"preload": ("a b",)}, "preload: 'a b' isn't a module name"),
    ({"preload": 3}, "preload=3"),
    ({"best_effort": "no"}, "best_effort='no'"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_FIELDS, ids=[str(row[0])[:30] for row in BAD_FIELDS])
def test_bad_policy_fields_are_named(fields: dict[str, Any], message: str) -> None:
    """Every impossible value and every unknown field is a `PolicyError` that names the field."""
    with pytest.raises(PolicyError, match=re.escape(message)):
        Policy(**fields)
    with pytest.raises(PolicyError, match=re.escape(message)):
        Policy().replace(**fields)


def test_policy_takes_fields_by_name() -> None:
    """A positional value has the remedy in its error."""
    with pytest.raises(PolicyError, match=r"Policy takes fields by name, as in Policy\(memory='1G'\)"):
        Policy("1G")  # type: ignore[misc]


async def test_an_environment_too_large_for_the_zygote_is_named() -> None:
    """What can't be handed over is refused with its size and the limit, and the zygote goes on."""
    plugin = SandboxedPlugin(QuietPlugin, Policy(env={"A": "x" * 1_000_000}))
    with pytest.raises((PolicyError, BarrierUnavailable), match=r"env|Argument|Message too long"):
        await plugin.process(1)
    await plugin.close()
    async with SandboxedPlugin(QuietPlugin) as good:
        assert await good.process(1) == 1


@pytest.mark.parametrize("name", ["", 5, b"x", ["x"], object()])
async def test_names_of_the_wrong_type(name: Any) -> None:
    """`load(name=...)` takes a text; asking the manager for odd names finds nothing."""
    async with PluginManager() as manager:
        with pytest.raises(ContractError, match=r"name=.*: write a text of at least one character"):
            await manager.load(QuietPlugin, name=name)
        for ask in (manager.unregister, manager.reload):
            with pytest.raises(PluginNotFound, match="is registered; there are: none"):
                await ask(name)
        assert dict(manager.plugins) == {}
    assert workers() == []


@pytest.mark.parametrize("point", ["", "x", 5, None, b"input", ["input"], "input " * 1000])
async def test_hook_points_of_the_wrong_kind(point: Any) -> None:
    """Whatever isn't a hook point is an `UnknownHook`, of bounded length."""
    manager = PluginManager()
    with pytest.raises(UnknownHook) as caught:
        manager.register_hook(point, print)
    assert len(str(caught.value)) < 200
    with pytest.raises(UnknownHook):
        await manager.run_hooks(point)


@pytest.mark.parametrize("callback", [None, 5, "print", []])
def test_callbacks_that_cannot_be_called(callback: Any) -> None:
    """A callback is a function; nothing is registered otherwise."""
    manager = PluginManager()
    with pytest.raises(ContractError, match=r"The callback for input is a \w+; pass a function"):
        manager.register_hook("input", callback)
    assert asyncio.run(manager.run_hooks("input", 1)) == []


# ---------------------------------------------------------------------- inputs and the rest


async def test_inputs_of_any_size_and_depth() -> None:
    """Empty, large and deep inputs come through, or are refused by name, and the worker lives."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)
    async with SandboxedPlugin(QuietPlugin, Policy(reply="64M")) as plugin:
        pid = plugin.pid
        for value in ("", [], {}, b"", "x" * 500_000, b"y" * 30_000_000):
            assert await plugin.process(value) == value
        with pytest.raises((ContractError, AgentplugError)):
            await plugin.process(deep)
        run = await plugin.run(cycle)
        assert str(run.verdict) == "broken:unserializable"
        assert await plugin.process(1) == 1
        assert plugin.pid == pid
    while deep:  # or its deallocation would recurse
        deep = deep.pop()


def test_a_verdict_that_is_none() -> None:
    """`Verdict.parse` reads what `str` wrote, and refuses unknown kinds."""
    assert Verdict.parse("limited:memory") == Verdict("limited", "memory")
    for text in ("", "fine", "limitedmemory", ":"):
        with pytest.raises(ValueError, match="unknown verdict"):
            Verdict.parse(text)


def test_plugins_are_made_without_starting_anything() -> None:
    """Making a plugin object, or failing to, starts no worker."""
    for _ in range(3):
        SandboxedPlugin(QuietPlugin)
    assert workers() == []


def test_errors_are_all_of_one_tree() -> None:
    """Every public error is an `AgentplugError`, with the built-in class that the chapter's reader catches."""
    errors = [value for name in agentplug.__all__ if isinstance(value := getattr(agentplug, name), type)]
    errors = [value for value in errors if issubclass(value, Exception)]
    assert len(errors) == 16
    assert all(issubclass(error, AgentplugError) for error in errors)
    assert {e.__name__ for e in errors if issubclass(e, ValueError)} == {
        "SpecError",
        "PluginNotFound",
        "DuplicatePlugin",
        "UnknownHook",
        "PolicyError",
    }
    assert {e.__name__ for e in errors if issubclass(e, RuntimeError)} == {"LimitExceeded"}


async def test_odd_objects_as_plugins() -> None:
    """Instances that lie about themselves are refused, or shipped and then told apart; the host is unharmed."""

    class RaisingPlugin:
        def __getattr__(self, name: str) -> Any:
            raise LookupError(name)

    class EndlessPlugin:
        name = version = "1"

        def __reduce__(self) -> Any:
            return (eval, ("1/0",))

        def initialize(self, config: Any) -> None: ...

        def process(self, x: Any) -> Any: ...

    for odd in (RaisingPlugin(), EndlessPlugin(), datetime.date(2026, 1, 1)):
        async with PluginManager() as manager:
            with pytest.raises(AgentplugError):
                await manager.register(odd)
            assert dict(manager.plugins) == {}
    assert workers() == []
