"""A function, or a tool of another framework, as a plugin: it is called as `process` (worker side).

`contract.plugin` says what is one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import inspect
import sys
from collections.abc import Callable
from typing import Any

from agentplug.contract.plugin import work_of


class CallablePlugin:
    """A plugin whose `process` calls `target`."""

    def __init__(self, target: Any) -> None:
        work = work_of(target)
        self._call: Callable[..., Any] = work or target
        named = target.func if isinstance(target, functools.partial) else target
        name = getattr(target, "name", "") if work else getattr(named, "__name__", "")
        self.name = str(name or type(target).__name__).strip("<>")
        self.version = _version_of(getattr(named, "__module__", None))
        self.__doc__ = inspect.getdoc(self._call)
        self._accepts = _signature(self._call)
        called = self._call if inspect.isroutine(self._call) else getattr(self._call, "__call__", self._call)  # noqa: B004
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            self.process = self._await
        else:
            self.process = self._process

    def initialize(self, config: dict[str, Any]) -> None:
        """Do nothing: a function has no configuration."""

    def _process(self, value: Any) -> Any:
        result = self._called(value)
        return list(result) if inspect.isgenerator(result) else result

    async def _await(self, value: Any) -> Any:
        result = self._called(value)
        if inspect.isasyncgen(result):
            return [item async for item in result]
        return await result

    def _called(self, value: Any) -> Any:
        """Call it with `value`: by names, if that is a dict of its arguments; else as its one argument."""
        if self._accepts is None:
            return self._call(value)
        parameters = self._accepts.parameters.values()
        required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        by_name = isinstance(value, dict) and all(isinstance(name, str) for name in value)
        if by_name and (value.keys() == {p.name for p in required} or (len(required) != 1 and self._fits(**value))):
            return self._call(**value)
        if not required and value is None:
            return self._call()
        if self._fits(value):
            return self._call(value)
        if by_name and self._fits(**value):
            return self._call(**value)
        fact = f"{self.name}{self._accepts} was called with a {type(value).__name__}"
        if not required:
            raise TypeError(f"{fact}, and takes no input; call it with None")
        raise TypeError(f"{fact}; write a dict of its arguments: {', '.join(p.name for p in required)}")

    def _fits(self, *values: Any, **named: Any) -> bool:
        assert self._accepts is not None
        try:
            self._accepts.bind(*values, **named)
        except TypeError:
            return False
        return True


def _signature(call: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(call)
    except (TypeError, ValueError):  # of a builtin
        return None


def _version_of(module: str | None) -> str:
    """Return the version of the distribution that a module came with, or "0"."""
    top = (module or "").partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    if "-packages/" in file:
        with contextlib.suppress(Exception):
            return importlib.metadata.version(top)
    return "0"
