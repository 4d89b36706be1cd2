"""The frames between host and worker (both sides): their header, their kinds, their typed bodies.

A frame is a header of 16 bytes, a structure (MessagePack, at most 1 MiB) and blobs (raw bytes of arrays and
`bytes` values, which the structure refers to). The host takes nothing else from a worker. It decodes each body into
the one type that its kind allows, with every text and list bounded.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal, NamedTuple

import msgspec

from agentplug.contract.display import Kind
from agentplug.contract.limits import REFUSALS

PROTOCOL = 3
MAGIC = 0xA6
HEADER = struct.Struct("<BBHIII")  # magic, kind, flags, call, structure bytes, blob bytes

# host to worker
LOAD, CALL, SETTLE, CLOSE, DESCRIPTORS = 1, 2, 3, 4, 5
# worker to host
HELLO, LOADED, REPLY, ERROR, UNSERIALIZABLE, SETTLED, LISTENER, CLAIMS, PROFILE = 16, 17, 18, 19, 20, 21, 22, 23, 24
DISPLAY = 25
FROM_WORKER = frozenset((HELLO, LOADED, REPLY, ERROR, UNSERIALIZABLE, SETTLED, LISTENER, CLAIMS, PROFILE, DISPLAY))

# flags of CALL: which method, and whether the body is a pickle made by the host
PROCESS, INITIALIZE, ON_MESSAGE = 0, 1, 2
METHOD_MASK = 0x0F
PICKLED = 0x10

MAX_ERROR_TYPE, MAX_ERROR_MESSAGE, MAX_TRACEBACK = 200, 16_384, 65_536
MAX_NAME, MAX_VERSION = 200, 100
MAX_ASKED, MAX_RIGHT = 256, 4_096
MAX_CLAIMS, MAX_CLAIM, MAX_CLAIMS_BYTES = 100, 400, 1 << 16
MAX_STACKS, MAX_DEPTH, MAX_SITES, MAX_PROFILE_BYTES = 500, 64, 4_000, 1 << 18
MAX_FUNCTION, MAX_FILE, MAX_MISSING = 100, 200, 300
MAX_DISPLAY_ID = 64

_Text = Annotated[str, msgspec.Meta(max_length=2_000)]


class Frame(NamedTuple):
    """One whole frame as received."""

    kind: int
    flags: int
    call: int
    structure: bytes
    blobs: bytes | bytearray | memoryview


class BarrierReport(msgspec.Struct, frozen=True):
    """One barrier's effect in this worker. `status` is enforced, partial or unavailable; `lost` names the promises
    that it can't keep here (`files`, `network`, `host`, `disk`, `grants`); `remedy` says how to change that."""

    barrier: Annotated[str, msgspec.Meta(max_length=40)]
    protects: _Text
    status: Annotated[str, msgspec.Meta(pattern="^(enforced|partial|unavailable)$")]
    detail: _Text
    lost: Annotated[list[Annotated[str, msgspec.Meta(max_length=40)]], msgspec.Meta(max_length=16)] = []
    remedy: _Text = ""


class Hello(msgspec.Struct, frozen=True):
    """The greeting of a worker that has confined itself and waits for the plugin's bytes."""

    protocol: int
    barriers: Annotated[list[BarrierReport], msgspec.Meta(max_length=32)]


class ModuleBytes(msgspec.Struct, frozen=True, array_like=True):
    """One module that the worker imports from memory."""

    name: str
    path: str
    is_package: bool
    code: bytes


class PinnedFiles(msgspec.Struct, frozen=True):
    """Verified files in sealed memory, which comes as descriptors.

    `sites` are the directories that paths begin with. `files` are paths, with offset and size in the first
    descriptor's memory; `objects` are paths of shared objects, with the number of the descriptor. `tops` are the
    top-level modules of these files. `beside` are the modules of the worker itself, to be imported from disk.
    """

    sites: list[str]
    files: list[tuple[str, int, int]]
    objects: list[tuple[str, int]]
    tops: list[str]
    beside: list[str]


class Load(msgspec.Struct, frozen=True):
    """The plugin's bytes (modules and the entry, or a pickle made by the host) and the variables it may see.

    The variables come here and not with the plan: memory of a zygote keeps traces of all it reads, and every worker
    is a copy of it. `claims` asks the worker to report the plugin's calls, because no kernel does; it names the
    places that every plugin may read, where opened files aren't reported.
    """

    entry: str
    attribute: str
    modules: list[ModuleBytes]
    pickled: bytes
    env: dict[str, str] = {}
    claims: list[str] | None = None
    pinned: PinnedFiles | None = None


_Short = Annotated[str, msgspec.Meta(max_length=40)]
Asked = bool | int | str | list[int | str]
"""A right's value as a plugin asks for it: variables by name, ports and paths as a sorted list."""


class Loaded(msgspec.Struct, frozen=True):
    """A plugin's members, once it is loaded. All are its own claims. `asks` is None without such a member."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
    version: Annotated[str, msgspec.Meta(max_length=MAX_VERSION)]
    hooks: Annotated[dict[_Short, _Short], msgspec.Meta(max_length=32)] = {}
    asks: Annotated[dict[_Short, Asked], msgspec.Meta(max_length=32)] | None = None


class Failure(msgspec.Struct, frozen=True):
    """An exception as text. `reason` is raised, not_found, contract or syntax. `limit` names the limit that may be
    the cause, as verdicts do (a MemoryError: memory; EMFILE: files; ...), or is empty."""

    type: Annotated[str, msgspec.Meta(max_length=MAX_ERROR_TYPE)]
    message: Annotated[str, msgspec.Meta(max_length=MAX_ERROR_MESSAGE)]
    traceback: Annotated[str, msgspec.Meta(max_length=MAX_TRACEBACK)] = ""
    reason: Annotated[str, msgspec.Meta(pattern="^(raised|not_found|contract|syntax)$")] = "raised"
    limit: Annotated[str, msgspec.Meta(pattern=f"^(|{'|'.join(REFUSALS)})$")] = ""


class Misfit(msgspec.Struct, frozen=True):
    """A value in a reply that has no place on the wire: its type, and its place in the reply."""

    type: Annotated[str, msgspec.Meta(max_length=200)]
    where: Annotated[str, msgspec.Meta(max_length=1_000)]


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """A worker's claim of one refused or observed call: an event's kind; the system call, or the way a file was
    opened or an address used; the call's argument; how often."""

    kind: Annotated[str, msgspec.Meta(pattern="^(tried|opened|connected|bound|forked|ran)$")]
    how: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{0,40}$")]
    what: Annotated[str, msgspec.Meta(max_length=MAX_CLAIM)]
    count: Annotated[int, msgspec.Meta(ge=1, le=1 << 50)]


class Claims(msgspec.Struct, frozen=True):
    """The plugin's refused and observed calls since the last answer, in one frame before the next. `dropped` counts
    those that aren't listed."""

    calls: Annotated[list[Claim], msgspec.Meta(max_length=MAX_CLAIMS)]
    dropped: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)] = 0


_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class Site(msgspec.Struct, frozen=True, array_like=True):
    """A line of code in a profile, as the worker names it."""

    function: Annotated[str, msgspec.Meta(max_length=MAX_FUNCTION)]
    file: Annotated[str, msgspec.Meta(max_length=MAX_FILE)]
    line: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]


class Stack(msgspec.Struct, frozen=True, array_like=True):
    """The weight of one stack, in bytes or CPU nanoseconds, and the count of its allocations or samples. `sites` are
    indices into those of the profile, outermost call first."""

    weight: _Count
    count: _Count
    sites: Annotated[
        list[Annotated[int, msgspec.Meta(ge=0, lt=MAX_SITES)]], msgspec.Meta(min_length=1, max_length=MAX_DEPTH)
    ]


class Profile(msgspec.Struct, frozen=True):
    """The profile of one call's memory or CPU time, in one frame before its answer. `dropped` is the weight of stacks
    that aren't listed; `missing` is the reason for an empty profile."""

    kind: Annotated[str, msgspec.Meta(pattern="^(memory|cpu)$")]
    sites: Annotated[list[Site], msgspec.Meta(max_length=MAX_SITES)] = []
    stacks: Annotated[list[Stack], msgspec.Meta(max_length=MAX_STACKS)] = []
    dropped: _Count = 0
    missing: Annotated[str, msgspec.Meta(max_length=MAX_MISSING)] = ""


class DisplayBody(msgspec.Struct, frozen=True):
    """One display of a call, in a frame before its answer. `written` are the bytes that the worker had written to
    stdout and stderr before it, for the order in which a notebook shows both.

    `body` is UTF-8 (text, HTML, JSON), or the structure of a table whose blobs are the frame's; a picture's bytes are
    the frame's blobs alone. An `update` replaces the call's display of the same `id`. A frame without a `mime` only
    counts displays that were `dropped`.
    """

    mime: Kind | Literal[""]
    written: tuple[_Count, _Count]
    id: Annotated[str, msgspec.Meta(max_length=MAX_DISPLAY_ID)] = ""
    update: bool = False
    dropped: _Count = 0
    body: bytes = b""


encode_body = msgspec.msgpack.Encoder().encode
decode_hello = msgspec.msgpack.Decoder(Hello).decode
decode_load = msgspec.msgpack.Decoder(Load).decode
decode_loaded = msgspec.msgpack.Decoder(Loaded).decode
decode_failure = msgspec.msgpack.Decoder(Failure).decode
decode_claims = msgspec.msgpack.Decoder(Claims).decode
decode_profile = msgspec.msgpack.Decoder(Profile).decode
decode_display = msgspec.msgpack.Decoder(DisplayBody).decode
decode_misfit = msgspec.msgpack.Decoder(Misfit).decode


GRANTS = "grants"
"""The promise that is lost if a granted path has come to name another file, which `best_effort` doesn't accept."""


class Granted(msgspec.Struct, frozen=True, array_like=True):
    """A granted path, with the device and inode of what it has to name."""

    path: str
    device: int
    inode: int


class Plan(msgspec.Struct, frozen=True):
    """All that a worker needs to confine itself, before it reads a byte of the plugin.

    `installation` is what every worker may read. `scratch` is the text of its own directory's path: the worker begins
    in the folder around it.
    """

    memory_bytes: int
    cpu_s: float
    processes: int
    threads: int
    open_files: int
    disk_bytes: int
    reply_bytes: int
    network: bool | list[int]
    installation: list[str]
    read: list[Granted]
    write: list[Granted]
    variables: int
    observe: str = ""
    profile: str = ""
    cgroup: list[str] = []
    scratch: str = ""
    parent: int = 0


class SpawnRequest(msgspec.Struct, frozen=True):
    """The host's request to a zygote to fork one worker, which follows `plan`."""

    token: int
    plan: Plan


class ZygoteNews(msgspec.Struct, frozen=True):
    """A zygote's message to the host. `what` is ready, spawned (with a pidfd), refused, exited or wiped."""

    what: str
    token: int = 0
    pid: int = 0
    status: str = ""
    user_s: float = 0.0
    system_s: float = 0.0
    out_of_memory: bool = False
