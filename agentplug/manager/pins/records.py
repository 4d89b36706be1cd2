"""One installed distribution, read and compared with its RECORD (host).

Every file that RECORD lists below site-packages is opened once and must have the digest in RECORD. Rows without a
digest are bytecode, which is never read, and RECORD itself; code without a digest is refused. Files elsewhere
(`../../bin/…`) can't be imported, so they are no part of a pin.

The digest of a RECORD is over its sorted paths and digests, without files that installers add, so that it is the same
for a wheel wherever it is installed.
"""

from __future__ import annotations

import base64
import csv
import errno
import functools
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser

from agentplug.contract.policy import format_size
from agentplug.contract.text import printable
from agentplug.core.sources.names import quoted, quoted_path
from agentplug.errors import PinMismatch, SpecError
from agentplug.manager.pins.pin import canonical, sha256

MAX_CLOSURE_BYTES = 1 << 30
_MAX_RECORD_BYTES = 32 << 20
_INSTALLERS = frozenset(
    "INSTALLER REQUESTED RECORD RECORD.jws RECORD.p7s direct_url.json uv_cache.json uv_build.json".split()
)
_ALGORITHMS = ("sha256", "sha384", "sha512")
_CODE = re.compile(r"\.(py|so(\.\d+)*)$")

_READERS = 4
_WORTH_THREADS = 200
Stamp = tuple[int, int]
"""A value that changes whenever a file's content does: nobody can set the time of change, utimensat(2)."""


@dataclass(slots=True)
class Distribution:
    """A distribution that was read. `files` maps paths below `site` to digests, `content` to bytes; `stamps` maps
    the absolute paths of all files read to their stamps, which show later changes."""

    name: str
    version: str
    site: str
    info: str
    record: str
    requires: list[str]
    files: dict[str, str] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return canonical(self.name)

    @property
    def closed(self) -> str:
        """The distribution's entry in the closure of a lock."""
        return f"{self.version} {self.record}"


def read_distribution(info: str) -> Distribution:
    """Read the distribution with the `.dist-info` directory `info`.

    Raises `PinMismatch` for a file that differs from RECORD, `SpecError` for a distribution that can't be pinned.
    """
    site, folder = os.path.split(info)
    stamps: dict[str, Stamp] = {}
    rows = dict(_rows(info, _read(os.path.join(info, "RECORD"), stamps, _MAX_RECORD_BYTES)))
    direct = os.path.join(info, "direct_url.json")
    if os.path.exists(direct) and re.search(rb'"editable"\s*:\s*true', _read(direct, stamps, 1 << 20)):
        raise SpecError(
            f"{quoted(folder.removesuffix('.dist-info'))} is an editable install, whose code no RECORD lists; "
            "install it as others are, or pin the plugin by its module or file"
        )
    distribution = Distribution("", "", site, folder, _record_digest(rows, folder), [], stamps=stamps)
    for path, listed in rows.items():
        if not listed and _CODE.search(path):
            raise SpecError(f"{quoted(folder)} lists {quoted(path)} without a digest; nobody can check it")
    wanted = [(path, listed) for path, listed in rows.items() if listed]
    # Threads help: reading and hashing release the GIL.
    slices = [wanted[n::_READERS] for n in range(_READERS)] if len(wanted) > _WORTH_THREADS else [wanted]
    with ThreadPoolExecutor(_READERS) as pool:
        parts = list(pool.map(functools.partial(_verify_files, distribution), slices))
    for contents in parts:
        distribution.content |= contents
    if sum(map(len, distribution.content.values())) > MAX_CLOSURE_BYTES:
        raise SpecError(f"{quoted(folder)} holds more than {format_size(MAX_CLOSURE_BYTES)}, the most that is pinned")
    metadata = distribution.content.get(f"{folder}/METADATA")
    if metadata is None:
        raise SpecError(f"{quoted(folder)} has no METADATA in its RECORD; install it again")
    headers = BytesHeaderParser().parsebytes(metadata)
    distribution.name, distribution.version = str(headers["Name"]), str(headers["Version"])
    distribution.requires = [str(text) for text in headers.get_all("Requires-Dist", [])]
    return distribution


def _verify_files(distribution: Distribution, rows: list[tuple[str, str]]) -> dict[str, bytes]:
    """Read these files' contents by path. Raises `PinMismatch` for a file whose digest isn't the listed one."""
    contents = {}
    name = quoted(distribution.info.removesuffix(".dist-info"))
    for path, listed in rows:
        content = _read(os.path.join(distribution.site, path), distribution.stamps, MAX_CLOSURE_BYTES)
        algorithm = listed.partition("=")[0]
        digest = hashlib.new(algorithm, content).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != listed.partition("=")[2]:
            raise PinMismatch(
                f"The distribution {name} was edited since it was installed:\n"
                f"- file {printable(path, 300)}: {_as_hex(listed)}\n"
                f"+ file {printable(path, 300)}: {algorithm}:{digest.hex()}\n"
                "Remedy: install it again, with --force-reinstall"
            )
        distribution.files[path] = f"sha256:{digest.hex()}" if algorithm == "sha256" else sha256(content)
        contents[path] = content
    return contents


def _rows(info: str, record: bytes) -> Iterator[tuple[str, str]]:
    """Yield path and digest (`sha256=…`, or '') of each row below site-packages."""
    seen: dict[str, str] = {}
    try:
        rows = list(csv.reader(record.decode("utf-8").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"the RECORD in {quoted_path(info)} can't be read ({error}); install it again") from None
    for row in rows:
        if len(row) < 2 or not row[0]:
            continue
        path, listed = row[0], row[1]
        if path.startswith(("/", "../")) or "/__pycache__/" in f"/{path}" or path.endswith(".pyc"):
            continue
        if os.path.normpath(path) != path or "\0" in path or seen.setdefault(path, listed) != listed:
            raise SpecError(
                f"the RECORD in {quoted_path(info)} has a strange row for {quoted(path)}; install it again"
            )
        if listed and listed.partition("=")[0] not in _ALGORITHMS:
            raise SpecError(f"the RECORD in {quoted_path(info)} has {quoted(listed)}, which is no SHA-2 digest")
        yield path, listed


def _record_digest(rows: dict[str, str], folder: str) -> str:
    installers = {f"{folder}/{name}" for name in _INSTALLERS}
    own = sorted(f"{path},{listed}\n" for path, listed in rows.items() if listed and path not in installers)
    return sha256("".join(own).encode())


def _as_hex(listed: str) -> str:
    algorithm, _, text = listed.partition("=")
    try:
        return f"{algorithm}:{base64.urlsafe_b64decode(text + '=' * (-len(text) % 4)).hex()}"
    except ValueError:
        return printable(listed, 100)


def _read(path: str, stamps: dict[str, Stamp], most: int) -> bytes:
    """Read the whole regular file `path`, opening it once."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SpecError(f"{quoted_path(path)} is no file; install its distribution again")
            stamps[path] = status.st_ino, status.st_ctime_ns
            chunks, left = [], most
            while chunk := os.read(descriptor, min(status.st_size + 1, 1 << 24)):
                chunks.append(chunk)
                left -= len(chunk)
                if left < 0:
                    raise SpecError(f"{quoted_path(path)} is more than the {format_size(most)} that is left to pin")
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise PinMismatch(
                f"{quoted_path(path)} is listed in its RECORD and isn't there. Remedy: install its distribution again"
            ) from None
        raise SpecError(f"{quoted_path(path)} can't be read ({error.strerror}); check its rights") from None
