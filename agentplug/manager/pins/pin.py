"""One plugin's pin: its files, its claims about itself, and its rights (host).

Kinds: `file` (one .py file), `cell` (a cell of a notebook), `tree` (all files of a package or module that isn't
installed), `distribution` (an installed distribution with its dependencies).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from agentplug.contract.limits import FIELDS, Kind
from agentplug.contract.options import policy_from_options
from agentplug.contract.policy import Policy
from agentplug.core.sources.names import quoted, shell_word
from agentplug.errors import PolicyError, SpecError

KINDS = ("file", "cell", "tree", "distribution")
RIGHTS = tuple(row.name for row in FIELDS.values() if row.is_right)
"""The fields of a policy that are rights. Limits aren't pinned, since they depend on the machine."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A plugin's claims, read from its code without running it: name, version, the hooks and rights that it asks for,
    and its reasons, by right or point."""

    name: str
    version: str
    hooks: Mapping[str, str] = field(default_factory=dict)
    asks: Mapping[str, Any] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pin:
    """The state of a plugin, when it was pinned or now.

    `files` maps relative paths to `sha256:…`, digests of the files' bytes. For a distribution, `record` is the digest
    of its RECORD, and `closure` maps each dependency to `VERSION sha256:…`, with the digest of its RECORD.
    """

    name: str
    spec: str
    kind: str
    entry: str
    digest: str
    version: str = ""
    specifier: str = ""
    distribution: str = ""
    record: str = ""
    python: str = ""
    platform: str = ""
    hooks: Mapping[str, str] = field(default_factory=dict)
    asks: Mapping[str, Any] = field(default_factory=dict)
    rights: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    closure: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def release(self) -> str:
        """The version that a specifier applies to: the distribution's, else the plugin's own."""
        return self.distribution.rpartition(" ")[2] or self.version

    @property
    def key(self) -> str:
        """The plugin's canonical name, its key in the lock."""
        return canonical(self.name)


def upgrade_command(key: str) -> str:
    """Return the shell command that pins the plugin `key` anew. The name isn't trusted, so it is quoted."""
    return f"agentplug lock --upgrade {shell_word(key)}"


def canonical(name: str) -> str:
    """Return `name` as package indices compare names: in lower case, with one `-` for runs of `-_.` and spaces."""
    return str(canonicalize_name("-".join(name.split())))


def sha256(content: bytes) -> str:
    """Return `sha256:` and the hex digest of `content`, as sha256sum(1) prints it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def split_specifier(text: str) -> tuple[str, str]:
    """Split a spec from its version specifier: `greeter>=1,<2` into `greeter` and `<2,>=1`. Raises `SpecError`."""
    at = min((i for i in (text.find(sign) for sign in ("==", "~=", "!=", "<", ">")) if i > 0), default=-1)
    if at < 0:
        return text, ""
    return text[:at].rstrip(), checked_specifier(text[at:])


def checked_specifier(text: str) -> str:
    """Return `text` in its normal form. Raises `SpecError` if it is no version specifier."""
    try:
        return ",".join(sorted(map(str, SpecifierSet(text))))
    except InvalidSpecifier:
        raise SpecError(f"{quoted(text)} is no version specifier; write one like '>=1.2,<2'") from None


def allows(specifier: str, version: str) -> bool:
    """Return True if `specifier` allows `version`; an empty one allows all."""
    try:
        return not specifier or SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def is_older(version: str, than: str) -> bool:
    """Return True if both texts are versions and `version` is the older one."""
    try:
        return Version(version) < Version(than)
    except InvalidVersion:
        return False


def rights_of(policy: Policy, home: str) -> dict[str, Any]:
    """Return the rights that `policy` grants as a lock in the folder `home` has them: paths relative, variables
    without values."""
    rights: dict[str, Any] = {}
    for name in RIGHTS:
        value, kind = getattr(policy, name), FIELDS[name].kind
        if kind is Kind.PATHS:
            value = sorted(portable(str(path), home) for path in value)
        elif kind is Kind.VARIABLES:
            value = sorted(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif kind is Kind.GRANTS:
            value = dict(sorted(value.items()))
        if value:
            rights[name] = value
    return rights


def rights_from_options(options: Mapping[str, Any], home: str) -> dict[str, Any] | None:
    """Read the rights in options as a lock in the folder `home` has them; None if there is no option.

    Raises `PolicyError`.
    """
    if not any(value not in (None, False, []) for value in options.values()):
        return None
    env = [text if "=" in text else f"{text}=" for text in options.get("env") or ()]
    return rights_of(policy_from_options({**options, "env": env}), home)


def checked_right(name: str, value: Any) -> Any:
    """Return `value` as a lock has the right `name`: one or more items as a sorted list, variables by name.

    Raises `PolicyError` for a value that no policy grants by that name.
    """
    if name == "env" and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        value = dict.fromkeys(value, "")
    if isinstance(value, (set, frozenset)):
        raise PolicyError(f"{name}: a set has no order; write a list")
    Policy.from_dict({name: value}, is_record=True)  # a wish: nothing is granted yet
    if name == "hooks":
        return dict(value)
    return sorted(value) if isinstance(value, (list, tuple, Mapping)) else listed_right(name, value)


def listed_right(name: str, value: Any) -> Any:
    """Return a single path, port or module as a list of one, as policies do; return other values unchanged."""
    several = name in FIELDS and FIELDS[name].kind in (Kind.PORTS, Kind.PATHS, Kind.MODULES)
    return [value] if several and isinstance(value, (str, int)) and not isinstance(value, bool) else value


def portable(path: str, home: str) -> str:
    """Return `path` relative to the lock's folder or to `~` if it lies below one of them, else unchanged."""
    for root, sign in ((home, "."), (os.path.realpath(os.path.expanduser("~")), "~")):
        if root != "/" and (path == root or path.startswith(f"{root}/")):
            return sign + path[len(root) :]
    return path


def exceeding(granted: Mapping[str, Any], pinned: Mapping[str, Any]) -> list[str]:
    """List the names of rights in `granted` that go beyond `pinned`. Fewer rights are always fine."""
    return [name for name, value in granted.items() if not _within(value, pinned.get(name))]


def _within(value: Any, pinned: Any) -> bool:
    if value == pinned or pinned is True:
        return True
    if isinstance(value, list):
        return isinstance(pinned, list) and set(value) <= set(pinned)
    if isinstance(value, Mapping):
        return isinstance(pinned, Mapping) and all(pinned.get(key) == kind for key, kind in value.items())
    if isinstance(value, bool):
        return not value
    return isinstance(value, int) and isinstance(pinned, int) and value <= pinned
