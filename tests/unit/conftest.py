"""Unit tests start no process: this file sees to it, so that they stay a matter of seconds."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import Any, NoReturn

import matplotlib.font_manager  # noqa: F401  the first import of all asks fc-list for fonts, before any test
import pytest

from agentplug.core.host.launcher import Zygote
from agentplug.jupyter import extension
from tests.shells import ip, shell, state_home  # noqa: F401

STARTS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}
watching = False


def refuse(what: str) -> NoReturn:
    """Fail the test with an exception that `except Exception` doesn't catch."""
    pytest.fail(f"a unit test starts no process, and this one did ({what}): move it to tests/workers", pytrace=False)


def watch(event: str, _: object) -> None:
    """Refuse whatever starts a process, as the interpreter announces it."""
    if watching and event in STARTS:
        refuse(event)


sys.addaudithook(watch)


@pytest.fixture(autouse=True, scope="package")
def no_warm_up() -> Iterator[None]:
    """Have `%load_ext agentplug` start no zygote ahead, in a thread that may come to it after the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extension, "_warm_up", lambda: None)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    return (yield from guarded())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    return (yield from guarded())


def guarded() -> Generator[None, Any, Any]:
    """Refuse processes until the test's own part is over. A zygote may run already, for tests of other folders."""
    global watching
    watching = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Zygote, "spawn", lambda *_: refuse("Zygote.spawn"))
        try:
            return (yield)
        finally:
            watching = False
