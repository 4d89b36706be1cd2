"""Hints of one sentence on what to do about a call (host): the end of its explanation.

A rule reads the exception, the refused calls and the policy. Type, text and traceback of an exception are claims:
they choose a hint, and decide nothing. Refused calls come first, for libraries make errors of their own of them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator

from agentplug.contract.display import Described
from agentplug.contract.limits import LIMITS
from agentplug.contract.record import DECIDING, RunRecord
from agentplug.contract.text import printable
from agentplug.report.refused_calls import RefusedCall, refused_calls

_MOST_NAME = 100
_CONNECTS = frozenset(("connect", "sendto", "sendmsg", "sendmmsg", "getaddrinfo"))
_BINDS = frozenset(("bind",))
_CONNECTION = re.compile("connection|not permitted", re.I)
_STARTS = frozenset(("clone", "clone3", "fork", "vfork", "execve", "execveat"))
_NO_NAMES = re.compile(
    r"name resolution|Name or service not known|nodename nor servname|Failed to resolve|getaddrinfo failed|"
    r"No address associated|Could not resolve|Could not contact DNS|Cannot connect to host|Network is unreachable"
)
_REFUSED_PATH = re.compile(r"\[Errno (?:1|13|30)\] [^'\"]*: (?:b?'([^']*)'|\"([^\"]*)\")")
_MISSING_PATH = re.compile(r"\[Errno 2\] [^'\"]*: (?:b?'([^']*)'|\"([^\"]*)\")")
_SYNTAX = re.compile(r"^\s*File \"[^\n]*\", line \d+\n\s*([^\n]*)\n", re.M)
_NOT_THE_NETWORKS = frozenset(("NameError", "SyntaxError", "ModuleNotFoundError", "ZeroDivisionError", "IndexError"))
_OF_PROCESSES = frozenset(("PermissionError", "BlockingIOError", "OSError", "RuntimeError", "BrokenProcessPool", ""))
_AWAIT = "a coroutine runs when it is awaited: write await before the call"
_MAGIC = re.compile(r"(?:\w+ *= *)?(!|%%?)\s*(\w*)")


def hint(run: RunRecord) -> str:
    """Return the hint for a run, a clause without capital and full stop, safe to print; or an empty text."""
    deciding = next((event for event in run.events if event.kind in DECIDING), None)
    if deciding is None:
        return ""
    match deciding.kind:
        case "reply":
            rules = _COMPLETED
        case "error" if not deciding.detail.get("limit"):
            rules = _RAISED
        case "error" | "limit":
            rules = _LIMITED
        case "unserializable":
            rules = _UNSERIALIZABLE
        case _:
            return ""
    facts = _Facts(run)
    return next((text for rule in rules if (text := rule(facts))), "")


class _Facts:
    """The parts of a run that rules read: its exception, its refused calls, its policy."""

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self.policy = run.policy
        self.type, self.message, self.traceback = "", "", ""
        if run.error is not None:
            self.type, self.message, self.traceback = run.error.type, run.error.message, run.error.traceback
        self.refused = refused_calls(run.events)

    def refused_call(self, syscalls: frozenset[str]) -> RefusedCall | None:
        """Return the first refused call of one of these system calls."""
        return next((call for call in self.refused if call.syscall in syscalls), None)

    def of(self, kind: str) -> Iterator[dict[str, object]]:
        """Yield the details of the events of a kind."""
        return (dict(event.detail) for event in self.run.events if event.kind == kind)


_Rule = Callable[[_Facts], str]


# ---------------------------------------------------------------------- names and syntax


def _unsent(facts: _Facts) -> str:
    """Speak of a name that the notebook has, which its session noted as an event."""
    detail = next(facts.of("unsent"), None)
    if detail is None:
        return ""
    name, module = (printable(str(detail.get(key, "")), _MOST_NAME) for key in ("name", "module"))
    if module:
        return f"a worker begins without the notebook's imports: write import {module} as {name} in this cell"
    return f"the notebook has a variable {name}: send it with -i {name}"


def _no_ipython(facts: _Facts) -> str:
    if facts.type == "NameError" and "'get_ipython'" in facts.message:
        return "a worker has no IPython: call it in a cell without %%sandbox"
    return ""


def _syntax(facts: _Facts) -> str:
    """Speak of IPython's own syntax, which a worker's plain Python doesn't have."""
    if facts.type != "SyntaxError":
        return ""
    if "'return' outside function" in facts.message:
        return "the value of a cell is its last expression: write that, without return"
    if "outside function" in facts.message:
        return "only functions can do that: put it into one, and call it"
    lines = _SYNTAX.findall(facts.traceback)
    line = lines[-1].strip() if lines else ""
    if (magic := _MAGIC.match(line)) is not None:
        return _ipython(magic[1], printable(magic[2], 40))
    if line.startswith("?") or re.fullmatch(r"[\w.]+\s*\?\??", line):
        return f"IPython's ? doesn't work in a worker: write help({printable(line.strip('? '), 60)})"
    return ""


def _ipython(sign: str, word: str) -> str:
    if word in ("pip", "conda", "mamba", "uv"):
        return "packages are installed in a cell without %%sandbox: a worker imports what is installed there"
    if sign == "!":
        return f"a worker has no shell: write !{word} in a cell without %%sandbox"
    if sign == "%%":
        return f"only a cell's first line can be a magic: write %%{word} above %%sandbox, or in a cell of its own"
    if word in ("time", "timeit", "prun"):
        return "IPython's magics don't work in a worker: _run.usage has the time of a cell, or write %%time above"
    if word == "matplotlib":
        return "figures of a worker are shown without it: leave that line out"
    return f"IPython's magics don't work in a worker: write %{word} in a cell without %%sandbox"


# ---------------------------------------------------------------------- people and screens


def _keyboard(facts: _Facts) -> str:
    if facts.type == "EOFError" and re.search(r"\b(?:input|getpass)\(", facts.traceback):
        return "nobody can type into a worker: send the answer along, with -i NAME or in the plugin's input"
    if facts.type == "BdbQuit" or facts.message.startswith("breakpoint()"):
        return "no debugger reaches into a worker: use print(), or debug the code in a cell without %%sandbox"
    return ""


def _screen(facts: _Facts) -> str:
    if facts.type in ("TclError", "ImportError", "ModuleNotFoundError") and re.search(
        r"tkinter|backend|no display|\bGtk|\bQt", facts.message
    ):
        return "a worker has no screen: leave matplotlib.use() out, and figures are shown in the notebook"
    return ""


def _exit(facts: _Facts) -> str:
    return "that ended the code alone, and the notebook goes on: leave it out" if facts.type == "SystemExit" else ""


def _awaiting(facts: _Facts) -> str:
    if "asyncio.run() cannot be called from a running event loop" in facts.message:
        return "the code runs in a loop already: write await in place of asyncio.run()"
    never = re.search(r"coroutine '(\w{1,100})[\w.<>]*' was never awaited", facts.run.stderr)
    if never is not None:
        return f"a coroutine runs when it is awaited: write await {never[1]}(…)"
    value = facts.run.value
    is_coroutine = isinstance(value, Described) and value.type == "coroutine"
    return _AWAIT if is_coroutine or "'coroutine'" in facts.message else ""


# ---------------------------------------------------------------------- what a policy grants


def _network(facts: _Facts) -> str:
    """Speak of the network, whatever a library made of a refused connection or look-up."""
    network = facts.policy.network
    if network is True:
        return ""
    call = None if facts.type in _NOT_THE_NETWORKS else facts.refused_call(_CONNECTS)
    if call is not None and (port := re.fullmatch(r"\S+:([1-9]\d{0,4})", call.argument)) is not None:
        return (
            f"it may not connect to {printable(call.argument, 100)}: grant the port with --network {port[1]}, in "
            f"code Policy(network=[{port[1]}])"
        )
    if facts.type == "gaierror" or _NO_NAMES.search(facts.message):
        return "it may look no names up in the network: grant it with --network yes, in code Policy(network=True)"
    if call is not None or (facts.refused_call(_BINDS) and _CONNECTION.search(facts.type + facts.message)):
        return "it has no such access to the network: grant it with --network yes, in code Policy(network=True)"
    return ""


def _file(facts: _Facts) -> str:
    """Speak of a refused path."""
    if (refused := _REFUSED_PATH.search(facts.message)) is not None:
        path = refused[1] or refused[2]
        word, quoted = printable(shlex.quote(path), 200), printable(repr(path), 200)
        if any(path == root or path.startswith(f"{root.rstrip('/')}/") for root in facts.policy.read):
            return f"it may read that alone: grant more with --write {word}, in code Policy(write=[{quoted}])"
        return f"grant it with --read {word} (--write, if it is to change it), in code Policy(read=[{quoted}])"
    if facts.type == "OperationalError" and re.search(r"unable to open|readonly", facts.message):
        return "SQLite may need to write beside its file: grant that folder with --write, in code Policy(write=…)"
    missing = _MISSING_PATH.search(facts.message)
    if facts.type == "FileNotFoundError" and missing is not None and not (missing[1] or missing[2]).startswith("/"):
        return "a worker's current folder is its own: write the file's whole path, and grant it with --read"
    return ""


def _disk(facts: _Facts) -> str:
    full = r"No usable temporary directory|disk I/O error|database or disk is full"
    if re.search(full, facts.message) and int(facts.policy.disk) < 1 << 20:
        return "it has no room in its folder: give it some with --disk 16M, in code Policy(disk='16M')"
    return ""


def _processes(facts: _Facts) -> str:
    if facts.policy.processes or facts.type not in _OF_PROCESSES:
        return ""
    if facts.refused_call(_STARTS) or (facts.type == "PermissionError" and "multiprocessing" in facts.traceback):
        return "it may start no processes: grant some with --processes 4, in code Policy(processes=4)"
    return ""


def _variable(facts: _Facts) -> str:
    if facts.type == "KeyError" and "environ[" in facts.traceback:
        name = printable(facts.message.strip("'\""), _MOST_NAME)
        return f"a worker sees none of your variables: pass it with --env {name}, in code Policy(env={{…}})"
    return ""


def _module(facts: _Facts) -> str:
    name = re.fullmatch(r"No module named '([\w.]{1,100})'", facts.message)
    if facts.type != "ModuleNotFoundError" or name is None:
        return ""
    return (
        f"a worker imports what is installed here: install {name[1].partition('.')[0]}, if it is no module of yours"
    )


def _limit_unseen(facts: _Facts) -> str:
    claim = next((detail.get("claims") for detail in facts.of("error")), None)
    row = LIMITS.get(str(claim))
    if row is None:
        return ""
    return f"such an error may come from {row.noun} limit, but nothing was seen near it: {row.remedy.rstrip('.')}"


def _no_right(facts: _Facts) -> str:
    if facts.type != "PermissionError":
        return ""
    if facts.refused:
        return f"no policy grants {printable(facts.refused[0].syscall, 40)}, which it tried"
    return "grant paths with --read and --write, the network with --network; in code Policy(read=…, network=…)"


# ---------------------------------------------------------------------- what ended otherwise


def _imports(facts: _Facts) -> str:
    """Speak of large modules that the code imports, which its session noted as an event."""
    names = next((detail["modules"] for detail in facts.of("imports")), ())
    modules = [printable(str(name), 40) for name in names] if isinstance(names, (list, tuple)) else []
    if not modules:
        return ""
    return (
        f"importing {' and '.join(modules)} counts too: give it more, or import it before the limit counts, with "
        f"--preload {','.join(modules)}, in code Policy(preload={modules})"
    )


def _lost_write(facts: _Facts) -> str:
    if "A write failed, or the next one will: the scratch directory holds" in facts.run.stderr:
        return "give it more room with --disk, in code Policy(disk=…)"
    return ""


def _misfit(facts: _Facts) -> str:
    kind = next((str(detail.get("type")) for detail in facts.of("unserializable")), "")
    if kind == "coroutine":
        return _awaiting(facts) or _AWAIT
    if kind in ("Figure", "Axes", "Axes3D"):
        return "show a figure with display(figure), and return figures' data"
    return ""


_RAISED: tuple[_Rule, ...] = (
    _unsent,
    _no_ipython,
    _syntax,
    _keyboard,
    _screen,
    _exit,
    _file,
    _network,
    _disk,
    _processes,
    _variable,
    _module,
    _awaiting,
    _limit_unseen,
    _no_right,
)
_LIMITED: tuple[_Rule, ...] = (_imports,)
_COMPLETED: tuple[_Rule, ...] = (_lost_write, _awaiting, _processes)
_UNSERIALIZABLE: tuple[_Rule, ...] = (_misfit,)
