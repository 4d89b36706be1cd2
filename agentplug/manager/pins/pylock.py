"""The origin of a closure from a PEP 751 file (host): hashes of archives, and identities that attested them.

These can't be compared with the installed files, since installers don't keep archives. If the versions are the same,
they are copied into the lock, beside the digests that are compared.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping

from packaging.pylock import Package, Pylock, PylockValidationError
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from agentplug.contract.regular_file import read_regular
from agentplug.contract.text import printable
from agentplug.core.sources.names import quoted_path
from agentplug.errors import PinMismatch, SpecError
from agentplug.manager.pins.toml_shape import check_shape

_MAX_BYTES = 16 << 20
_MAX_ENTRIES = 100_000


def origins(path: str, wanted: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Read the origins of the distributions in `wanted` and `own`, names to versions, from a PEP 751 file.

    The result maps `NAME FILE` to a hash and `NAME attested N` to an identity. `own`, the plugin's own distribution,
    may be missing from the file. Raises `SpecError` for an invalid file, `PinMismatch` if a version differs or is
    missing.
    """
    packages = _packages(path)
    entries: dict[str, str] = {}
    lines = []
    listed_too = {name: version for name, version in own.items() if name in packages}
    for name, version in sorted({**wanted, **listed_too}.items()):
        here = [package for package in packages.get(name, ()) if str(package.version or "") == version]
        if not here:
            listed = ", ".join(str(package.version) for package in packages.get(name, ()))
            lines += [*([f"- dependency {name}: {listed}"] if listed else []), f"+ dependency {name}: {version}"]
            continue
        entries |= _entries_of(name, here[0])
    if lines:
        differences = printable("\n".join(lines), 4_000, lines=True)
        raise PinMismatch(
            f"What is installed (+) isn't what {quoted_path(path)} has (-):\n{differences}\n"
            "Remedy: install what it says, or lock anew with the tool that made it"
        )
    return entries


def _packages(path: str) -> dict[str, list[Package]]:
    try:
        data = read_regular(os.path.expanduser(path), _MAX_BYTES)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it is over {_MAX_BYTES >> 20} MiB, the most that is read")
        check_shape(text := data.decode("utf-8"), _MAX_ENTRIES)
        lock = Pylock.from_dict(tomllib.loads(text))
    except OSError as error:
        raise SpecError(f"{quoted_path(path)} can't be read ({error.strerror}); check its path") from None
    except (ValueError, RecursionError, PylockValidationError) as error:
        raise SpecError(f"{quoted_path(path)} is no lock as PEP 751 has it: {printable(str(error), 300)}") from None
    packages: dict[str, list[Package]] = {}
    for package in lock.packages:
        packages.setdefault(str(canonicalize_name(package.name)), []).append(package)
    return packages


def _entries_of(name: str, package: Package) -> dict[str, str]:
    """Return the entries for the wheel that fits this machine, or else the source archive, and for the identities."""
    archives = {wheel.filename: wheel.hashes for wheel in package.wheels or ()}
    fitting = _fitting_wheel(archives)
    if fitting is None and package.sdist is not None:
        fitting = package.sdist.filename
        archives[fitting] = package.sdist.hashes
    entries = {}
    if fitting is not None:
        algorithm = "sha256" if "sha256" in archives[fitting] else min(archives[fitting])
        entries[f"{name} {fitting}"] = f"{algorithm}:{archives[fitting][algorithm]}"
    for number, identity in enumerate(package.attestation_identities or (), 1):
        entries[f"{name} attested {number}"] = json.dumps(dict(identity), sort_keys=True, ensure_ascii=False)
    return entries


def _fitting_wheel(archives: Mapping[str, object]) -> str | None:
    order = {tag: place for place, tag in enumerate(sys_tags())}
    ranked = []
    for name in archives:
        try:
            tags = parse_wheel_filename(name)[3]
        except InvalidWheelFilename:
            continue
        ranked += [(order[tag], name) for tag in tags if tag in order]
    return min(ranked)[1] if ranked else None
