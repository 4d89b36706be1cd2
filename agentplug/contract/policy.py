"""`Policy`: a plugin's rights and limits, one frozen value, checked when it is made (host and worker).

Every field is a promise: it is enforced on this machine, or the plugin doesn't start (`best_effort` aside). A granted
path is held from the moment it is granted, see `granted_path`; a policy that is read back from a record has names.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from agentplug.contract.granted_path import GrantedPath, hold
from agentplug.contract.limits import FIELDS, Field, Kind
from agentplug.contract.text import is_utf8, printable
from agentplug.errors import PolicyError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])i?)?B?\s*", re.IGNORECASE)
_PYTHON_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def parse_size(value: object, name: str = "size") -> int:
    """Return the bytes of `value`: an int, or text like `"256M"`, `"1.5 GiB"` (K, M, G, T are powers of 1024)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise PolicyError(f"{name}={brief(value)}: a size is a number of bytes or text like '256M'")
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise PolicyError(f"{name}={brief(value)} isn't a size; write bytes, or text like '256M' or '1G'")
        value = float(match[1]) * _UNITS[(match[2] or "").upper()]
    if isinstance(value, float) and not value.is_integer():
        raise PolicyError(f"{name}={brief(value)}: a size is a whole, finite number of bytes")
    return int(value)


def brief(value: object) -> str:
    """Return `value` for a message: its repr, cut, or its type if that fails (an int of too many digits)."""
    try:
        return printable(repr(value), 200)
    except Exception:
        return f"<{type(value).__name__}>"


def format_size(size_bytes: float) -> str:
    """Format a size for people, in powers of 1024: `512 MiB`, `1.5 GiB`, `17 B`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.4g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.4g} TiB"


def format_amount(row: Field, amount: float) -> str:
    """Format a limit's amount for people: `512 MiB`, `10 s`, `64`."""
    if row.kind is Kind.SIZE:
        return format_size(amount)
    return f"{amount:g} {row.kind.unit}".rstrip()


def _keyword_errors(init: Callable[..., None]) -> Callable[..., None]:
    """Make `init` raise `PolicyError` for an unknown field, with the nearest right name."""
    signature = inspect.signature(init)
    known = [name for name in signature.parameters if name != "self"]

    @functools.wraps(init)
    def checked(self: object, *args: object, **values: object) -> None:
        if args:
            raise PolicyError(f"Policy takes fields by name, as in Policy({known[0]}={brief(args[0])})")
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(known)}"
                raise PolicyError(f"Policy has no field {brief(name)}; {hint}")
        init(self, **values)

    return checked


def _field(name: str) -> Any:
    """Make a dataclass field with the default of `FIELDS`."""
    default = FIELDS[name].default
    return field(default_factory=dict) if isinstance(default, dict) else field(default=default)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rights and limits of a plugin. Sizes take bytes or `"256M"`, times are seconds."""

    memory: int | str = _field("memory")
    cpu_s: float = _field("cpu_s")
    wall_s: float = _field("wall_s")
    processes: int = _field("processes")
    threads: int = _field("threads")
    open_files: int = _field("open_files")
    disk: int | str = _field("disk")
    output: int | str = _field("output")
    reply: int | str = _field("reply")
    network: bool | tuple[int, ...] = _field("network")
    read: tuple[str, ...] = _field("read")
    write: tuple[str, ...] = _field("write")
    env: Mapping[str, str] = _field("env")
    hooks: Mapping[str, str] = _field("hooks")
    preload: tuple[str, ...] = _field("preload")
    observe: str = _field("observe")
    profile: str = _field("profile")
    best_effort: bool = _field("best_effort")

    def __post_init__(self) -> None:
        for row in FIELDS.values():
            object.__setattr__(self, row.name, _CHECKS[row.kind](row, getattr(self, row.name)))
        if self.profile and self.observe:
            raise PolicyError(
                f"profile={brief(self.profile)} with observe={brief(self.observe)}: what the profiler uses would be "
                "taken for the plugin's own; ask for one at a time"
            )

    def replace(self, **changes: Any) -> Policy:
        """Return a copy with these fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-safe values."""
        values = asdict(self)
        for name, value in values.items():
            if isinstance(value, tuple):
                values[name] = [str(item) if isinstance(item, GrantedPath) else item for item in value]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, is_record: bool = False) -> Policy:
        """Read the policy that `to_dict` wrote. Raises `PolicyError`.

        The paths of a record stay names, which may be of another time or machine, until the policy is used.
        """
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise PolicyError(f"{brief(values)} isn't a policy; write a dict of fields and values")
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        for row in FIELDS.values() if is_record else ():
            if row.kind is Kind.PATHS and isinstance(paths := fields.get(row.name), (tuple, str)):
                paths = (paths,) if isinstance(paths, str) else paths
                fields[row.name] = tuple(GrantedPath(path) if isinstance(path, str) else path for path in paths)
        return cls(**fields)

    def hold(self) -> Policy:
        """Return this policy with all its paths held, to be enforced; usually they are, and it is returned itself.

        Raises `PolicyError` if one isn't there, or isn't what was recorded.
        """
        changes = {}
        for row in FIELDS.values():
            paths = getattr(self, row.name)
            if row.kind is Kind.PATHS and any(path.descriptor < 0 for path in paths):
                changes[row.name] = tuple(path if path.descriptor >= 0 else hold(row.name, path) for path in paths)
        return self.replace(**changes) if changes else self

    learner: ClassVar[Callable[[Any], Any] | None] = None  # set by `core.run`, because this module must not import it

    @classmethod
    def learn(cls, runs: Any) -> Any:
        """Propose the least policy under which these runs of one plugin would have completed: `agentplug.learn`."""
        if cls.learner is None:  # no `Run` was ever made
            raise PolicyError(f"learn: {brief(runs)} holds no Run; give it runs, as in Policy.learn(plugin.runs)")
        return cls.learner(runs)

    to_html: ClassVar[Callable[[Policy], str] | None] = None  # set by `core.run` too

    def _repr_html_(self) -> str | None:
        return None if self.to_html is None else type(self).to_html(self)  # type: ignore[misc]

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        changes = [f"{name}={value!r}" for name, value in vars(self).items() if value != getattr(_DEFAULT, name)]
        return f"Policy({', '.join(changes)})"


def _size(row: Field, value: object) -> int:
    size = parse_size(value, row.name)
    if not row.least <= size <= row.most:
        bounds = f"between {format_size(row.least)} and {format_size(row.most)}"
        raise PolicyError(f"{row.name}={brief(size)}: {bounds}, please")
    return size


def _seconds(row: Field, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PolicyError(f"{row.name}={brief(value)}: write seconds as a number")
    if not row.least <= value <= row.most:
        raise PolicyError(f"{row.name}={brief(value)}: between {row.least:,} and {row.most:,} seconds, please")
    return float(value)


def _count(row: Field, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise PolicyError(f"{row.name}={brief(value)}: write a whole number")
    if not row.least <= value <= row.most:
        raise PolicyError(f"{row.name}={brief(value)}: between {row.least} and {row.most}, please")
    return value


def _network(row: Field, value: object) -> bool | tuple[int, ...]:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        value = (value,)
    if not isinstance(value, (tuple, list, set, frozenset)) or not value:
        raise PolicyError(f"{row.name}={brief(value)}: write False, True, or a tuple of TCP ports like (443,)")
    for port in value:
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            raise PolicyError(f"{row.name}: {brief(port)} isn't a TCP port (1 to 65535)")
    return tuple(sorted(set(value)))


def _paths(row: Field, value: object) -> tuple[str, ...]:
    if isinstance(value, (str, os.PathLike)):
        value = (value,)
    if not isinstance(value, (tuple, list)):
        raise PolicyError(f"{row.name}={brief(value)}: write a path or a tuple of paths")
    paths: list[str] = []
    for path in value:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or "\0" in os.fsdecode(path):
            raise PolicyError(f"{row.name}: {brief(path)} isn't a path")
        if not is_utf8(os.fsdecode(path)):
            raise PolicyError(f"{row.name}: {brief(path)} is no UTF-8, which a path has to be to be granted")
        if not isinstance(path, GrantedPath):  # else it is of the policy from which this one was made
            path = hold(row.name, os.path.expanduser(os.fsdecode(path)))
        paths.append(path)
    return tuple(dict.fromkeys(paths))


def _env(row: Field, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"{row.name}={brief(value)}: write a dict of names and texts")
    for key, text in value.items():
        if not isinstance(key, str) or not key or "=" in key or "\0" in key or not is_utf8(key):
            raise PolicyError(f"{row.name}: {brief(key)} isn't the name of a variable")
        if not isinstance(text, str) or "\0" in text or not is_utf8(text):
            raise PolicyError(
                f"{row.name}[{brief(key)}]={brief(text)}: the value of a variable is UTF-8 text without NUL"
            )
    return dict(value)


def _hooks(row: Field, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"{row.name}={brief(value)}: write a dict of hook points and kinds")
    if not value:
        return {}
    from agentplug.contract.grants import parse_grant
    from agentplug.contract.plugin import HOOK_POINTS

    for point, kind in value.items():
        if point not in HOOK_POINTS:
            raise PolicyError(f"{row.name}: unknown point {brief(point)}; the points are {', '.join(HOOK_POINTS)}")
        try:
            parse_grant(kind)
        except ValueError as error:
            raise PolicyError(f"{row.name}[{brief(point)}]={brief(kind)}: {error}") from None
    return dict(value)


def _modules(row: Field, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (tuple, list)):
        raise PolicyError(f"{row.name}={brief(value)}: write a tuple of module names")
    for name in value:
        if not isinstance(name, str) or not _PYTHON_NAME.fullmatch(name):
            raise PolicyError(f"{row.name}: {brief(name)} isn't a module name")
    return tuple(sorted(set(value)))


def _word(row: Field, value: object) -> str:
    if not isinstance(value, str) or value not in ("", *row.words):
        words, nothing = " or ".join(f'"{word}"' for word in row.words), "nothing" if row.is_switch else "none"
        raise PolicyError(f'{row.name}={brief(value)}: write {words}, or "" for {nothing}')
    return value


def _flag(row: Field, value: object) -> bool:
    if not isinstance(value, bool):
        raise PolicyError(f"{row.name}={brief(value)}: write True or False")
    return value


_CHECKS: dict[Kind, Callable[[Field, object], object]] = {
    Kind.SIZE: _size,
    Kind.SECONDS: _seconds,
    Kind.COUNT: _count,
    Kind.PORTS: _network,
    Kind.PATHS: _paths,
    Kind.VARIABLES: _env,
    Kind.GRANTS: _hooks,
    Kind.MODULES: _modules,
    Kind.WORD: _word,
    Kind.FLAG: _flag,
}
Policy.__init__ = _keyword_errors(Policy.__init__)  # type: ignore[method-assign]
_DEFAULT = Policy()
Policy.__doc__ = "\n".join(
    [
        f"{Policy.__doc__}\n",
        *(f"    {row.name:<12} {row.meaning}" for row in FIELDS.values()),
        "\n    Raises `PolicyError`, naming the field.\n    ",
    ]
)
