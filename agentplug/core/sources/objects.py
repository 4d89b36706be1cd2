"""A class or an instance, mostly from a notebook, as the source of a plugin (host).

The object is pickled by value, its class included, so the worker needs nothing of the user's directories. A reply is
never a pickle. cloudpickle marks classes with random numbers, so an object's digest is the same in one session only.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import pickle
import re
import sys
import threading
import types
from collections.abc import Iterator
from numbers import Number
from typing import Any

import cloudpickle

from agentplug.contract.policy import format_size
from agentplug.contract.text import printable
from agentplug.core.boundary.code_lines import WithLines
from agentplug.core.sources.digest import digest_of
from agentplug.core.sources.interpreter import installed_roots, is_under
from agentplug.core.sources.source import Source
from agentplug.errors import ContractError, SpecError

MAX_PICKLED_BYTES = 64 << 20

_CONTRACT = "a plugin has name and version (text), initialize(config) and process(input_data)"
_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CoroutineType,
    types.GeneratorType,
    types.AsyncGeneratorType,
    functools.partial,
)
_PLAIN = (type(None), Number, str, bytes, bytearray, memoryview, list, tuple, dict, set, frozenset)
_CANNOT = re.compile(r"cannot pickle '([^']{1,200})' object")
_registry = threading.RLock()  # cloudpickle's list of modules to pickle by value is global


def object_source(obj: object) -> Source:
    """Return the source of a plugin class or instance.

    Raises `SpecError` for other objects and those that can't be pickled into 64 MiB, and `ContractError` for a class
    or an instance without the members of `AgentPlugin`. Of a class this checks the methods alone: `__init__` may set
    name and version.
    """
    _refuse_other_things(obj)
    label = f"<class {_type_name(obj)}>" if isinstance(obj, type) else f"<{_type_name(type(obj))} object>"
    if lacking := _lacking(obj):
        raise ContractError(f"{label} isn't an agent plugin: {'; '.join(lacking)}. {_CONTRACT.capitalize()}")
    pickled = _pickled(obj, label)
    return Source(label, "object", digest_of([("pickled", pickled)]), pickled=pickled)


def _type_name(cls: type) -> str:
    return printable(cls.__name__, 60)


def _refuse_other_things(obj: object) -> None:
    remedy = "name the plugin by a spec like 'pkg.mod:Class' or './file.py', or pass its class or an instance"
    if isinstance(obj, types.ModuleType):
        name = printable(str(types.ModuleType.__getattribute__(obj, "__name__")), 120)
        raise SpecError(f"a module object can't be sent to a worker; pass its name, '{name}', or one of its classes")
    if isinstance(obj, _FUNCTIONS):
        raise SpecError(f"a {_type_name(type(obj))} is no plugin; write a class around it: {_CONTRACT}")
    if isinstance(obj, _PLAIN):
        raise SpecError(f"a plugin can't be made from a value of type {_type_name(type(obj))}; {remedy}")


def _lacking(obj: object) -> list[str]:
    """Return a phrase for each missing or wrong member of the class or instance."""
    lacking = []
    for method in ("initialize", "process"):
        member = _value(obj, method)
        if member is None:
            lacking.append(f"it has no method {method}")
        elif not callable(member):
            lacking.append(f"its {method} is no method")
    if isinstance(obj, type):
        if getattr(obj, "_is_protocol", False):
            lacking.append("it is a Protocol, a description; write a class that has these members")
        elif inspect.isabstract(obj):
            missing = ", ".join(sorted(getattr(obj, "__abstractmethods__", ())))
            lacking.append(f"it is abstract; implement {printable(missing, 200)}")
        return lacking
    for text in ("name", "version"):
        value = _value(obj, text)
        if value is None:
            lacking.append(f"it has no {text}")
        elif not isinstance(value, str):
            lacking.append(f"its {text} is of type {_type_name(type(value))}, not text")
    return lacking


def _value(obj: object, name: str) -> object:
    try:
        return getattr(obj, name, None)
    except Exception:  # a failing property of the user's own counts as a missing member
        return None


class _TooLarge(Exception):
    pass


class _BoundedFile:
    """A file for a pickle that raises at the limit, so that a larger pickle is never built."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size_bytes = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.size_bytes += size
        if self.size_bytes > MAX_PICKLED_BYTES:
            raise _TooLarge
        self.chunks.append(bytes(data))
        return size


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """cloudpickle's pickler, but it refuses an open text file: cloudpickle would silently send the content.

    It also sends the lines of the user's own functions, for tracebacks.
    """

    def __init__(self, file: _BoundedFile, value: object) -> None:
        super().__init__(file)
        self._with_lines = WithLines(value)

    def dump_with_lines(self) -> None:
        """Write the pickle of the value."""
        self.dump(self._with_lines)

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is types.CodeType:
            return self._code_reduced(obj)
        if isinstance(obj, io.TextIOWrapper) and obj not in (sys.stdout, sys.stderr):
            raise TypeError("cannot pickle '_io.TextIOWrapper' object")
        return super().reducer_override(obj)

    def _code_reduced(self, code: types.CodeType) -> Any:
        """Return cloudpickle's own reduction, which has no file's name, with the cell's or file's."""
        file = _file_name(code.co_filename)
        self._with_lines.add(code, file)
        make, arguments = self.dispatch_table[types.CodeType](code)
        return make, tuple(file if argument == "<dynamic-code>" else argument for argument in arguments)


def _file_name(file: str) -> str:
    """Return the name of a file in tracebacks: for a notebook's cell IPython's, like `Cell In[3]`."""
    core = sys.modules.get("IPython.core.getipython")
    shell = core.get_ipython() if core is not None else None
    words = shell.compile.format_code_name(file) if shell is not None else None
    return " ".join(words) if words else file


def _pickled(obj: object, label: str) -> bytes:
    try:
        return pickled_by_value(obj)
    except _TooLarge:
        raise SpecError(
            f"{label} is over {format_size(MAX_PICKLED_BYTES)} when it is pickled for its worker; "
            "keep large data in a file granted with Policy(read=…), or send it as an input"
        ) from None
    except Exception as error:
        raise SpecError(_unpicklable_message(obj, label, error)) from error


@contextlib.contextmanager
def _local_modules_by_value() -> Iterator[None]:
    """Have cloudpickle send the code of modules that a worker can't import; restore its registry afterwards."""
    before = set(cloudpickle.list_registry_pickle_by_value())
    added = []
    try:
        for module in _local_modules(installed_roots()):
            if module.__name__ not in before:
                with contextlib.suppress(ValueError):  # gone from sys.modules meanwhile
                    cloudpickle.register_pickle_by_value(module)
                    added.append(module)
        yield
    finally:
        for module in added:
            with contextlib.suppress(ValueError):  # somebody else unregistered it meanwhile
                cloudpickle.unregister_pickle_by_value(module)


def _local_modules(roots: tuple[str, ...]) -> list[types.ModuleType]:
    """Return the modules of this process that come from a .py file which isn't installed."""
    local = []
    places: dict[str, bool] = {}
    for key, module in list(sys.modules.items()):
        # By its real type: a library that cffi loaded claims to be a module.
        if not issubclass(type(module), types.ModuleType) or key in ("__main__", "__mp_main__"):
            continue
        members = types.ModuleType.__getattribute__(module, "__dict__")  # wakes no lazily loaded module
        file = members.get("__file__")
        if members.get("__name__") != key or not isinstance(file, str) or not file.endswith(".py"):
            continue
        directory = os.path.dirname(file)
        if directory not in places:
            places[directory] = is_under(os.path.realpath(directory), roots)
        if not places[directory]:
            local.append(module)
    return local


def _unpicklable_message(obj: object, label: str, error: Exception) -> str:
    match = _CANNOT.search(str(error))
    if match is None:
        kind = "" if isinstance(error, pickle.PicklingError) else f"{_type_name(type(error))}: "
        what = f"{label} can't be pickled for its worker ({kind}{printable(str(error), 300)})"
    else:
        kind = printable(match[1], 120)
        what = f"{label} holds a '{kind}'{_attribute_of(obj, match[1])}, which can't leave this process"
    if isinstance(obj, type):
        return f"{what}; make it in initialize(), or put the class into a file of its own and name that"
    return f"{what}; pass the class instead, or make it in initialize()"


def _attribute_of(obj: object, kind: str) -> str:
    if isinstance(obj, type):
        return ""
    for name, value in getattr(obj, "__dict__", {}).items():
        if kind in (type(value).__name__, f"{type(value).__module__}.{type(value).__name__}"):
            return f" as self.{printable(str(name), 60)}"
    return ""


def pickled_by_value(value: object) -> bytes:
    """Return a pickle for a worker, the code of local classes included. Raises any error of pickling."""
    file = _BoundedFile()
    with _registry, _local_modules_by_value():
        _Pickler(file, value).dump_with_lines()
    return b"".join(file.chunks)
