"""The one table of a policy's fields (host and worker): limits, rights, and what else a policy says.

All code that speaks of a field reads its row here: the checks and defaults of `Policy`, options with help and
completion, verdicts, sentences, cards, learning, pins, the errors of the kernel's limits, and docs/policy.md. Workers
import this module, so it must import next to nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

MAX_STRUCTURE_BYTES = 1 << 20
"""The most plain structure that a request or a reply may hold beside arrays and bytes."""


class Kind(Enum):
    """The kind of a field's value: the word for it in a command's help, its unit, and `many`, true if its option may
    be repeated."""

    SIZE = "SIZE", "bytes"
    SECONDS = "SECONDS", "s"
    COUNT = ("N",)
    PORTS = ("PORTS",)
    PATHS = "PATH", "", True
    VARIABLES = "NAME[=VALUE]", "", True
    GRANTS = "POINT=KIND", "", True
    MODULES = "MODULES", "", True
    WORD = ("KIND",)
    FLAG = ("",)

    def __init__(self, metavar: str, unit: str = "", many: bool = False) -> None:
        self.metavar, self.unit, self.many = metavar, unit, many


class Field(NamedTuple):
    """One field of a policy.

    name, default  as `Policy` has them
    kind           the kind of its value
    meaning        for Policy's docstring and docs/policy.md
    option, help   its option, without the dashes, on the command line and in magics
    least, most    the bounds of a number
    words          its possible values, beside ""
    is_right       true for a right, which a lock pins; limits depend on the machine and aren't pinned
    label          a limit's name in a list of limits; "" for other fields
    noun           a limit's name in a sentence, before the word limit
    by             the word in the verdict of a call that the limit ended; "" if it ends none
    remedy         the end of such a verdict's sentence
    errnos         the errors with which the kernel refuses more
    error          the text of Python's RuntimeError when there is no more
    """

    name: str
    default: Any
    kind: Kind
    meaning: str
    option: str
    help: str
    least: float = 0
    most: float = 0
    words: tuple[str, ...] = ()
    is_right: bool = False
    label: str = ""
    noun: str = ""
    by: str = ""
    remedy: str = ""
    errnos: tuple[int, ...] = ()
    error: str = ""

    @property
    def key(self) -> str:
        """The option's name in the result of an argument parser."""
        return self.option.replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """True if the option takes no value, because only one is possible."""
        return self.kind is Kind.FLAG or len(self.words) == 1

    @property
    def unit(self) -> str:
        """The unit of an event's figures; for a count, the name of the things counted."""
        return self.kind.unit or self.by


def _row(name: str, default: Any, kind: Kind, meaning: str, help: str, **more: Any) -> Field:
    """Make a row, with the usual option, bounds, noun and remedy unless `more` has others."""
    usual: dict[str, Any] = {"option": name.replace("_", "-")}
    if kind is Kind.SIZE:
        usual["most"] = 1 << 50
    if kind is Kind.SECONDS:
        usual |= {"least": 0.001, "most": 10_000_000}
    if "label" in more:
        option = more.get("option", usual["option"])
        usual |= {"noun": more["label"], "remedy": f"raise Policy({name}=…) or --{option} if it should have more."}
    return Field(name, default, kind, meaning, help=help, **usual | more)


# fmt: off
_ROWS = (
    _row("memory", "512M", Kind.SIZE,
         "what it may add to its worker's footprint, shared memory and the kernel's for it included",
         "memory that it may add, like 256M",
         least=1 << 20, label="memory", by="memory", errnos=(errno.ENOMEM,)),
    _row("cpu_s", 10.0, Kind.SECONDS, "CPU seconds a call", "CPU time a call",
         option="cpu", label="CPU", by="cpu"),
    _row("wall_s", 30.0, Kind.SECONDS, "elapsed seconds a call", "elapsed time a call",
         option="wall", label="wall", noun="time", by="wall",
         remedy="raise Policy(wall_s=…) or --wall if it may take longer."),
    _row("processes", 0, Kind.COUNT, "child processes", "child processes",
         most=4096, is_right=True, label="processes", noun="process", by="processes", errnos=(errno.EAGAIN,)),
    _row("threads", 64, Kind.COUNT, "threads, its first included", "threads, its first included",
         least=1, most=4096, label="threads", noun="thread", by="threads", error="can't start new thread"),
    _row("open_files", 64, Kind.COUNT, "open file descriptors", "open file descriptors",
         least=16, most=65536, label="open files", noun="open file", by="files", errnos=(errno.EMFILE,)),
    _row("disk", 0, Kind.SIZE, "bytes in a private scratch directory, its current one, wiped at the end",
         "its private scratch directory, like 10M",
         label="disk", by="disk", errnos=(errno.ENOSPC, errno.EFBIG, errno.EDQUOT)),
    _row("output", "1M", Kind.SIZE, "stdout and stderr kept a call; the rest is counted and dropped",
         "stdout and stderr that are kept a call",
         label="output"),
    _row("reply", "16M", Kind.SIZE, "the largest reply; at most 1 MiB of plain structure, the rest arrays and bytes",
         "its largest reply, like 64M",
         least=64, most=1 << 30, label="reply", by="reply",
         remedy="return less, or raise Policy(reply=…) or --reply."),
    _row("network", False, Kind.PORTS, "`False`, `True`, or the TCP ports that it may connect to",
         "TCP ports that it may connect to, like 443,8080; or yes, or no", is_right=True),
    _row("read", (), Kind.PATHS, "paths that it may read, beside the interpreter and its installed packages",
         "a path that it may read", is_right=True),
    _row("write", (), Kind.PATHS, "paths that it may read and write",
         "a path that it may read and write", is_right=True),
    _row("env", {}, Kind.VARIABLES, "all variables that it sees, beside `PATH`, `HOME` (its scratch) and `LANG`",
         "a variable that it sees; without a value, the one that is set here", is_right=True),
    _row("hooks", {}, Kind.GRANTS,
         "`{point: kind}` of `observe`, `transform`, `veto`; then `open` (its failure lets the message pass), "
         "`native` (it sees the framework's own dump)",
         "a hook that it may have, like pre_tool_call=veto", option="hook", is_right=True),
    _row("preload", (), Kind.MODULES,
         "modules imported once, before confinement, and shared by forking: trusted code only",
         "modules imported before it is confined, like numpy,pandas: trusted code only", is_right=True),
    _row("observe", "", Kind.WORD,
         '`"files"`: write down the files, addresses, processes and programs that it uses, for `learn`',
         "write down the files, addresses, processes and programs that it uses", words=("files",)),
    _row("profile", "", Kind.WORD,
         '`"memory"` or `"cpu"`: where that went, as the plugin\'s own process says, in `run.profile`',
         "where its memory or cpu went, as its own process says: memory or cpu", words=("memory", "cpu")),
    _row("best_effort", False, Kind.FLAG, "go on where this machine can't enforce a field, and show which",
         "start even where this machine can't enforce everything", is_right=True),
)
# fmt: on

FIELDS: Mapping[str, Field] = MappingProxyType({row.name: row for row in _ROWS})
"""Each field's row by its name, in the order of `Policy`."""

LIMITS: Mapping[str, Field] = MappingProxyType({row.by: row for row in _ROWS if row.by})
"""The rows of the limits that can end a call, by the word in its verdict."""

REFUSALS: Mapping[str, Field] = MappingProxyType({row.by: row for row in _ROWS if row.errnos or row.error})
"""The rows of the limits that a plugin meets as an error, because the kernel refuses it more."""
