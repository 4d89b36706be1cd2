"""Classes and instances: by value with the code around them, checked, bounded, and cloudpickle left as it was."""

from __future__ import annotations

import abc
import importlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from agentplug.contract.plugin import AgentPlugin
from agentplug.core.sources import objects
from agentplug.core.sources.digest import digest_of
from agentplug.core.sources.objects import object_source
from agentplug.core.sources.resolve import resolve
from agentplug.errors import ContractError, SpecError
from tests.sources_project import write

IMPORTS = """
import localhelp
from localhelp import shout
"""

CODE = """
class Greeter:
    name = "greeter"
    version = "1.0"
    async def initialize(self, config): ...
    async def process(self, input_data):
        return shout(input_data) + localhelp.MARK
"""


class Greeter:
    """A plugin to ship; `state` is what an instance carries."""

    name = "greeter"
    version = "1.0"

    def __init__(self, state: object = None) -> None:
        self.state = state

    async def initialize(self, config: object) -> None: ...

    async def process(self, input_data: object) -> object:
        return [input_data, self.state]


@pytest.fixture
def local_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of the user's own directory, imported by the user, with a helper module beside it."""
    helper = "MARK = '!'\ndef shout(text):\n    return text.upper()\n"
    write(tmp_path, {"localgreet.py": IMPORTS + CODE, "localhelp.py": helper})
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield importlib.import_module("localgreet")
    for name in ("localgreet", "localhelp"):
        del sys.modules[name]


@pytest.mark.parametrize("of", [resolve, object_source])
def test_class_and_instance_are_sources(of: Callable[[object], Any]) -> None:
    """A class and an instance become a pickle, with its digest and a name for people."""
    for obj, spec in ((Greeter, "<class Greeter>"), (Greeter("s"), "<Greeter object>")):
        source = of(obj)
        assert (source.spec, source.kind, source.entry, source.modules) == (spec, "object", "", ())
        assert source.digest == digest_of([("pickled", source.pickled)])


def test_installed_classes_go_by_reference() -> None:
    """Code of installed packages isn't copied into the pickle: its class is there by name, without its methods."""
    pickled = object_source(Greeter(pytest.Item)).pickled
    assert b"_pytest.nodes" in pickled
    assert b"add_report_section" not in pickled
    assert b"Greeter.process" in pickled


def test_registry_of_cloudpickle_is_left_as_it_was(local_module: ModuleType) -> None:
    """Modules that the user registered stay registered and no others, also after a failure."""
    cloudpickle.register_pickle_by_value(local_module)
    try:
        object_source(Greeter)
        with pytest.raises(SpecError):
            object_source(Greeter(threading.Lock()))
        assert cloudpickle.list_registry_pickle_by_value() == {"localgreet"}
    finally:
        cloudpickle.unregister_pickle_by_value(local_module)


def test_threads_pickle_at_the_same_time(local_module: ModuleType) -> None:
    """Objects pickled by several threads at once are all by value, though the registry is one for all."""
    pickles: list[bytes] = []

    def work() -> None:
        for _ in range(10):
            pickles.append(object_source(local_module.Greeter).pickled)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pickles) == 80
    assert all(b"shout" in pickled and b"upper" in pickled for pickled in pickles)
    assert not cloudpickle.list_registry_pickle_by_value()


def test_state_that_cannot_travel_is_named(tmp_path: Path) -> None:
    """A lock, a generator, a socket or an open file is named with the attribute that holds it, and the way out."""
    with socket.socket() as sock, open(tmp_path / "w", "w") as writing, open(tmp_path / "w") as reading:
        for state, kind in (
            (threading.Lock(), "_thread.lock"),
            ((number for number in range(3)), "generator"),
            (sock, "socket"),
            (writing, "_io.TextIOWrapper"),
            (reading, "_io.TextIOWrapper"),
        ):
            with pytest.raises(SpecError) as caught:
                object_source(Greeter(state))
            assert str(caught.value) == (
                f"<Greeter object> holds a '{kind}' as self.state, which can't leave this process; "
                "pass the class instead, or make it in initialize()"
            )


def test_pickling_that_fails_says_why() -> None:
    """An error of the object's own is told, escaped; a class that can't travel has a remedy of its own."""

    class Moody(Greeter):
        def __reduce__(self) -> Any:
            raise LookupError("not \x1b[31mtoday")

    class Holding(Greeter):
        lock = threading.Lock()

    with pytest.raises(SpecError, match=r"<Moody object> can't be pickled .*LookupError: not \\x1b\[31mtoday"):
        object_source(Moody())
    with pytest.raises(SpecError, match=r"<class Holding> holds a '_thread.lock'.*put the class into a file"):
        object_source(Holding)


def test_largest_pickle() -> None:
    """State over 64 MiB is refused while it is written, and a little less is taken."""
    big = bytes(objects.MAX_PICKLED_BYTES - (1 << 16))
    assert len(object_source(Greeter(big)).pickled) > len(big)
    with pytest.raises(SpecError, match=r"over 64 MiB .* keep large data in a file"):
        object_source(Greeter([big, big + b"x"]))


class NoMethods:
    name = version = "x"


class NoName:
    version = 3

    async def initialize(self, config: object) -> None: ...

    process = 5


class Abstract(Greeter, abc.ABC):
    @abc.abstractmethod
    def needed(self) -> None: ...


class Failing:
    version = "1"

    async def initialize(self, config: object) -> None: ...

    async def process(self, input_data: object) -> None: ...

    @property
    def name(self) -> str:
        raise RuntimeError("no name today")


@pytest.mark.parametrize(
    ("obj", "lacking"),
    [
        (
            NoMethods,
            "<class NoMethods> isn't an agent plugin: it has no method initialize; it has no method process.",
        ),
        (
            NoMethods(),
            "<NoMethods object> isn't an agent plugin: it has no method initialize; it has no method process.",
        ),
        (NoName, "<class NoName> isn't an agent plugin: its process is no method."),
        (NoName(), "<NoName object> isn't an agent plugin: its process is no method; it has no name; its version is"),
        (Failing(), "<Failing object> isn't an agent plugin: it has no name."),
        (Abstract, "<class Abstract> isn't an agent plugin: it is abstract; implement needed."),
        (AgentPlugin, "<class AgentPlugin> isn't an agent plugin: it is a Protocol, a description; write a class"),
        (int, "<class int> isn't an agent plugin: it has no method initialize; it has no method process."),
        (
            object(),
            "<object object> isn't an agent plugin: it has no method initialize; it has no method process; it",
        ),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_object_that_is_no_plugin(obj: object, lacking: str) -> None:
    """What a class or an instance lacks of the contract is listed exactly, before anything is pickled."""
    with pytest.raises(ContractError) as caught:
        resolve(obj)
    assert str(caught.value).startswith(lacking)
    assert str(caught.value).endswith(
        "A plugin has name and version (text), initialize(config) and process(input_data)"
    )


class _Library:
    """What cffi puts into `sys.modules` for a library: no module, and yet it says so."""

    __class__ = ModuleType  # type: ignore[assignment]


def test_what_only_says_that_it_is_a_module_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library in `sys.modules` keeps no class from its worker."""
    assert isinstance(_Library(), ModuleType)
    monkeypatch.setitem(sys.modules, "some_package._library.lib", _Library())  # type: ignore[arg-type]

    class QuietPlugin:
        name, version = "quiet", "1"

        async def initialize(self, config: object) -> None: ...

        async def process(self, input_data: object) -> object:
            return input_data

    assert object_source(QuietPlugin).kind == "object"
