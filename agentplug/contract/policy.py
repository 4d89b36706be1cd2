"""What a plugin may do and use (host and worker): one frozen value, checked when it is made.

Every field is a promise: it is enforced on this machine, or the plugin doesn't start (`best_effort` aside).
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

from agentplug.contract.grants import parse_grant
from agentplug.contract.plugin import HOOK_POINTS
from agentplug.contract.text import printable
from agentplug.errors import PolicyError

PROFILES = ("memory", "cpu")
MAX_REPLY_BYTES = 1 << 30
MAX_STRUCTURE_BYTES = 1 << 20

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
_PYTHON_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def parse_size(value: object, name: str = "size") -> int:
    """Bytes of `value`: an int, or text like `"256M"`, `"1.5 GiB"` (K, M, G, T are powers of 1024)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise PolicyError(f"{name}={shown(value)}: a size is a number of bytes or text like '256M'")
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise PolicyError(f"{name}={shown(value)} isn't a size; write bytes, or text like '256M' or '1G'")
        value = float(match[1]) * _UNITS[match[2].upper()]
    if isinstance(value, float) and not value.is_integer():
        raise PolicyError(f"{name}={shown(value)}: a size is a whole, finite number of bytes")
    return int(value)


def shown(value: object) -> str:
    """`value` for a message: its repr, cut; of what has none, such as an int of too many digits, its type."""
    try:
        return printable(repr(value), 200)
    except Exception:
        return f"<{type(value).__name__}>"


def format_size(size_bytes: float) -> str:
    """`size_bytes` for people, in powers of 1024: `512 MiB`, `1.5 GiB`, `17 B`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.4g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.4g} TiB"


def _keyword_errors(init: Callable[..., None]) -> Callable[..., None]:
    """Turn the TypeError of an unknown field into a PolicyError that names it and the nearest right one."""
    signature = inspect.signature(init)
    known = [name for name in signature.parameters if name != "self"]

    @functools.wraps(init)
    def checked(self: object, *args: object, **values: object) -> None:
        if args:
            raise PolicyError(f"Policy takes fields by name, as in Policy({known[0]}={shown(args[0])})")
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(known)}"
                raise PolicyError(f"Policy has no field {shown(name)}; {hint}")
        init(self, **values)

    return checked


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rights and limits of a plugin. Sizes take bytes or `"256M"`, times are seconds.

    memory       what the plugin may add to its worker's footprint, in bytes
    cpu_s        CPU seconds a call
    wall_s       elapsed seconds a call
    processes    child processes
    threads      threads, the worker's own included
    open_files   open file descriptors
    disk         bytes in its private scratch directory, wiped at the end
    output       bytes of stdout and stderr kept a call; the rest is counted and dropped
    reply        bytes of the largest reply
    network      False, True, or the TCP ports it may connect to
    read, write  paths granted beside the interpreter and its installed packages (these are read-only)
    env          environment variables it sees beside PATH, HOME and LANG
    hooks        granted rights, `{point: kind}`, such as `{"pre_tool_call": "veto"}`; after the kind may stand `open`
                 (its failure lets the message pass) and `native` (it sees the framework's own dump)
    preload      modules imported once, before confinement, and shared by forking: trusted code only
    observe      "files": write down which files, addresses and programs it uses, for `learn`; "" for nothing more
    profile      "memory" or "cpu": a profiler in its own process says where that went, see `Run.profile`; "" for none
    best_effort  go on where this machine can't enforce a field, and show which

    Raises `PolicyError`, naming the field.
    """

    memory: int | str = "512M"
    cpu_s: float = 10.0
    wall_s: float = 30.0
    processes: int = 0
    threads: int = 64
    open_files: int = 64
    disk: int | str = 0
    output: int | str = "1M"
    reply: int | str = "16M"
    network: bool | tuple[int, ...] = False
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    hooks: Mapping[str, str] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    observe: str = ""
    profile: str = ""
    best_effort: bool = False

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("memory", _size(self, "memory", least=1 << 20))
        put("disk", _size(self, "disk", least=0))
        put("output", _size(self, "output", least=0))
        put("reply", _size(self, "reply", least=64, most=MAX_REPLY_BYTES))
        put("cpu_s", _seconds(self, "cpu_s"))
        put("wall_s", _seconds(self, "wall_s"))
        put("processes", _count(self, "processes", least=0, most=4096))
        put("threads", _count(self, "threads", least=1, most=4096))
        put("open_files", _count(self, "open_files", least=16, most=65536))
        put("network", _network(self.network))
        put("read", _paths(self, "read"))
        put("write", _paths(self, "write"))
        put("env", _env(self.env))
        put("hooks", _hooks(self.hooks))
        put("preload", _modules(self.preload))
        if self.observe not in ("", "files"):
            raise PolicyError(f'observe={shown(self.observe)}: write "files", or "" for nothing')
        if self.profile not in ("", *PROFILES):
            raise PolicyError(f'profile={shown(self.profile)}: write "memory" or "cpu", or "" for none')
        if self.profile and self.observe:
            raise PolicyError(
                f"profile={shown(self.profile)} with observe={shown(self.observe)}: what the profiler uses would be "
                "taken for the plugin's own; ask for one at a time"
            )
        if not isinstance(self.best_effort, bool):
            raise PolicyError(f"best_effort={shown(self.best_effort)}: write True or False")

    def replace(self, **changes: Any) -> Policy:
        """A copy with these fields changed."""
        unknown = [name for name in changes if name not in {f.name for f in fields(self)}]
        return Policy(**changes) if unknown else replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-safe values."""
        values = asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Policy:
        """The policy that `to_dict` wrote."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**fields)

    learner: ClassVar[Callable[[Any], Any] | None] = None  # set by `core.run`, which stands above this module

    @classmethod
    def learn(cls, runs: Any) -> Any:
        """Propose the least policy under which these runs of one plugin would have completed: `agentplug.learn`."""
        if cls.learner is None:  # no `Run` was ever made
            raise PolicyError(f"learn: {shown(runs)} holds no Run; give it runs, as in Policy.learn(plugin.runs)")
        return cls.learner(runs)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        default = _DEFAULT.get("policy")
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if default is None or getattr(self, f.name) != getattr(default, f.name)
        ]
        return f"Policy({', '.join(shown)})"


def _size(policy: Policy, name: str, *, least: int, most: int = 1 << 50) -> int:
    size = parse_size(getattr(policy, name), name)
    if not least <= size <= most:
        raise PolicyError(f"{name}={shown(size)}: between {format_size(least)} and {format_size(most)}, please")
    return size


def _seconds(policy: Policy, name: str) -> float:
    value = getattr(policy, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PolicyError(f"{name}={shown(value)}: write seconds as a number")
    if not 0.001 <= value <= 10_000_000:
        raise PolicyError(f"{name}={shown(value)}: between 0.001 and 10,000,000 seconds, please")
    return float(value)


def _count(policy: Policy, name: str, *, least: int, most: int) -> int:
    value = getattr(policy, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise PolicyError(f"{name}={shown(value)}: write a whole number")
    if not least <= value <= most:
        raise PolicyError(f"{name}={shown(value)}: between {least} and {most}, please")
    return value


def _network(value: object) -> bool | tuple[int, ...]:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        value = (value,)
    if not isinstance(value, (tuple, list, set, frozenset)) or not value:
        raise PolicyError(f"network={shown(value)}: write False, True, or a tuple of TCP ports like (443,)")
    for port in value:
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            raise PolicyError(f"network: {shown(port)} isn't a TCP port (1 to 65535)")
    return tuple(sorted(set(value)))


def _paths(policy: Policy, name: str) -> tuple[str, ...]:
    value = getattr(policy, name)
    if isinstance(value, (str, os.PathLike)):
        value = (value,)
    if not isinstance(value, (tuple, list)):
        raise PolicyError(f"{name}={shown(value)}: write a path or a tuple of paths")
    paths = []
    for path in value:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or "\0" in os.fsdecode(path):
            raise PolicyError(f"{name}: {shown(path)} isn't a path")
        if not _encodable(os.fsdecode(path)):
            raise PolicyError(f"{name}: {shown(path)} is no UTF-8, which a path has to be to be granted")
        paths.append(os.path.realpath(os.path.expanduser(os.fsdecode(path))))
    return tuple(dict.fromkeys(paths))


def _encodable(text: str) -> bool:
    """Whether `text` can be sent: a name or a value that isn't UTF-8 holds lone surrogates here."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"env={shown(value)}: write a dict of names and texts")
    for key, text in value.items():
        if not isinstance(key, str) or not key or "=" in key or "\0" in key or not _encodable(key):
            raise PolicyError(f"env: {shown(key)} isn't the name of a variable")
        if not isinstance(text, str) or "\0" in text or not _encodable(text):
            raise PolicyError(f"env[{shown(key)}]={shown(text)}: the value of a variable is UTF-8 text without NUL")
    return dict(value)


def _hooks(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"hooks={shown(value)}: write a dict of hook points and kinds")
    for point, kind in value.items():
        if point not in HOOK_POINTS:
            raise PolicyError(f"hooks: unknown point {shown(point)}; the points are {', '.join(HOOK_POINTS)}")
        try:
            parse_grant(kind)
        except ValueError as error:
            raise PolicyError(f"hooks[{shown(point)}]={shown(kind)}: {error}") from None
    return dict(value)


def _modules(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (tuple, list)):
        raise PolicyError(f"preload={shown(value)}: write a tuple of module names")
    for name in value:
        if not isinstance(name, str) or not _PYTHON_NAME.fullmatch(name):
            raise PolicyError(f"preload: {shown(name)} isn't a module name")
    return tuple(sorted(set(value)))


_DEFAULT: dict[str, Policy] = {}
Policy.__init__ = _keyword_errors(Policy.__init__)  # type: ignore[method-assign]
_DEFAULT["policy"] = Policy()
