"""Load a plugin from bytes (worker side, after confinement): serve modules from memory, find the class, check it.

No file and no .pyc is read for a module that the host sent, so the verified bytes are what runs.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import cloudpickle

from agentplug.core.boundary.frames import (
    MAX_ASKED,
    MAX_NAME,
    MAX_RIGHT,
    MAX_VERSION,
    Asked,
    Load,
    Loaded,
    ModuleBytes,
)
from agentplug.core.worker import import_hooks
from agentplug.core.worker.tracebacks import set_own_package


class CannotLoad(Exception):
    """The bytes hold no plugin. `reason` is not_found, contract or syntax."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message[:4_000])
        self.reason = reason


class _MemoryLoader(importlib.abc.InspectLoader):
    """Imports modules from the bytes that came with the plugin."""

    def __init__(self, modules: list[ModuleBytes]) -> None:
        self._modules = {module.name: module for module in modules}

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        module = self._modules.get(name)
        if module is None:
            return None
        spec = importlib.machinery.ModuleSpec(name, self, origin=module.path, is_package=module.is_package)
        spec.has_location = False
        return spec

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._modules[fullname].code)

    def get_code(self, fullname: str) -> Any:
        module = self._modules[fullname]
        try:
            source = self.get_source(fullname)
            lines = source.splitlines(keepends=True)
            linecache.cache[module.path] = (len(source), None, lines, module.path)
            return compile(module.code, module.path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, UnicodeError) as error:
            at = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            text = error.msg if isinstance(error, SyntaxError) else str(error)
            raise CannotLoad("syntax", f"{module.path}{at} isn't Python: {text}") from error

    def create_module(self, spec: Any) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__file__ = self._modules[module.__spec__.name].path
        exec(self.get_code(module.__spec__.name), module.__dict__)


def load(request: Load, descriptors: Sequence[int] = ()) -> tuple[Any, Loaded]:
    """Return the plugin and its description. Raises `CannotLoad`, and any error of the plugin's own code.

    `descriptors` are the sealed memory of pinned files.
    """
    os.environ.update(request.env)
    if request.pickled:
        import_hooks.install()
        plugin = cloudpickle.loads(request.pickled)  # made by the host from an object of the user's
        plugin = plugin() if isinstance(plugin, type) else plugin
    else:
        for sent in request.modules:
            sys.modules.pop(sent.name, None)  # a preloaded module of that name wasn't verified
        if request.pinned is not None:
            from agentplug.core.worker.pinned_imports import PinnedFinder

            sys.meta_path.insert(0, PinnedFinder(request.pinned, descriptors))
        sys.meta_path.insert(0, _MemoryLoader(request.modules))
        set_own_package(request.entry)
        import_hooks.install()
        module = importlib.import_module(request.entry)
        plugin = _plugin_class(module, request.attribute)()
    return plugin, check_contract(plugin)


def _plugin_class(module: ModuleType, attribute: str) -> type:
    if attribute:
        value = module.__dict__.get(attribute)
        if isinstance(value, type):
            return value
        raise CannotLoad(
            "not_found",
            f"module {module.__name__} has no class {attribute!r}; it defines {_listed(_classes(module))}",
        )
    candidates = [cls for cls in _classes(module) if cls.__name__.endswith("Plugin")]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise CannotLoad(
            "not_found",
            f"module {module.__name__} defines {len(candidates)} plugin classes, {_listed(candidates)}; "
            f"say which, as in {module.__name__}:{candidates[0].__name__}",
        )
    raise CannotLoad(
        "not_found",
        f"No plugin class found in {module.__name__}: it needs one concrete class whose name ends in 'Plugin' "
        f"(it defines {_listed(_classes(module))})",
    )


def _classes(module: ModuleType) -> list[type]:
    """Return the concrete classes that the module itself defines."""
    return [
        value
        for value in list(module.__dict__.values())
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
        and not getattr(value, "_is_protocol", False)
        and not issubclass(value, BaseException)
    ]


def _listed(classes: list[type]) -> str:
    return ", ".join(cls.__name__ for cls in classes[:10]) or "no class"


def check_contract(plugin: Any) -> Loaded:
    """Check `plugin` against the contract of `AgentPlugin`, and return its description. Raises `CannotLoad`."""
    problems = []
    name, version = getattr(plugin, "name", None), getattr(plugin, "version", None)
    if not isinstance(name, str) or not name or len(name) > MAX_NAME:
        problems.append(f"name must be text of 1 to {MAX_NAME} characters")
    if not isinstance(version, str) or len(version) > MAX_VERSION:
        problems.append(f"version must be text of at most {MAX_VERSION} characters")
    problems += [
        f"{method}() is missing"
        for method in ("initialize", "process")
        if not callable(getattr(plugin, method, None))
    ]
    hooks = getattr(plugin, "hooks", {})
    if not isinstance(hooks, dict) or not all(isinstance(x, str) for pair in hooks.items() for x in pair):
        problems.append("hooks must be a dict of hook points and kinds")
    asks = getattr(plugin, "asks", None)
    if asks is not None and not isinstance(asks, dict):
        problems.append("asks must be a dict of rights")
    if problems:
        raise CannotLoad("contract", f"{type(plugin).__name__} isn't an agent plugin: {'; '.join(problems)}")
    hook_kinds = {str(k)[:40]: str(v)[:40] for k, v in list(hooks.items())[:32]}
    asked = None if asks is None else {str(k)[:40]: _asked(v) for k, v in list(asks.items())[:32]}
    return Loaded(str(name), str(version), hook_kinds, asked)


def _asked(value: Any) -> Asked:
    """Convert a right's value to its form in pins."""
    if isinstance(value, (list, tuple, dict)):
        return sorted(map(_item, list(value)[:MAX_ASKED]), key=lambda item: (isinstance(item, str), item))
    return _item(value)


def _item(value: Any) -> int | str:
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else hex(value)[:MAX_RIGHT]  # too large for a right, and for a frame
    return str(value)[:MAX_RIGHT]
