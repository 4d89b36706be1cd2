"""Write tracebacks for people (worker side): each line of the plugin's own code, libraries folded, ours left out.

A plugin can make a stack, a chain or a group of exceptions as long as it likes, and its exceptions may raise while
they are described, so everything is bounded and guarded. Repeated lines (recursion) are counted.
"""

from __future__ import annotations

import itertools
import linecache
import os
import traceback
from collections import Counter
from collections.abc import Iterator
from types import FrameType, TracebackType

_MOST_STACK = 40_000
_MOST_LINES = 50
_MOST_LINE = 500
_MOST_NAME = 200
_MOST_REPEATS = 3
_MOST_CHAINED = 10
_MOST_IN_GROUP = 10
_MOST_DEPTH = 3

_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
# Stack frames that nobody looks for: of the worker, of the import system, of a debugger that found no terminal.
_HIDDEN = (
    __file__.rpartition("/worker/")[0],
    "<frozen ",
    *(_STANDARD_LIBRARY + name for name in (f"importlib{os.sep}", "bdb.py", "pdb.py")),
)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

_own_package = ""


def set_own_package(name: str) -> None:
    """Count the modules of this top-level package as the plugin's own, wherever they are installed."""
    global _own_package
    _own_package = name.partition(".")[0]


def traceback_text(error: BaseException) -> str:
    """Return the traceback of `error` and of those that led to it, as Python prints them, with libraries folded."""
    chain = _chain(error)
    parts = []
    if len(chain) > _MOST_CHAINED:
        parts.append(f"… {len(chain) - _MOST_CHAINED} exceptions before these\n\n")
        chain = chain[-_MOST_CHAINED:]
    for one, link in chain:
        parts.append(_one(one, 0))
        parts.append(link)
    return "".join(parts)


def _chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """Return the exceptions that led to `error`, oldest first, each with the words that lead to the next."""
    chain = [(error, "")]
    ids = {id(error)}
    while True:
        cause, context = _CAUSE_OF(error), _CONTEXT_OF(error)
        if cause is not None:
            earlier, link = cause, _CAUSE
        elif context is not None and not _SUPPRESSES(error):
            earlier, link = context, _CONTEXT
        else:
            break
        if id(earlier) in ids:
            break
        ids.add(id(earlier))
        chain.append((earlier, link))
        error = earlier
    return chain[::-1]


# A subclass may define members of these names, which lie or raise.
_CAUSE_OF = BaseException.__dict__["__cause__"].__get__
_CONTEXT_OF = BaseException.__dict__["__context__"].__get__
_SUPPRESSES = BaseException.__dict__["__suppress_context__"].__get__
_TRACEBACK_OF = BaseException.__dict__["__traceback__"].__get__
_MEMBERS_OF = BaseExceptionGroup.__dict__["exceptions"].__get__


def _one(error: BaseException, depth: int) -> str:
    stack = stack_text(_TRACEBACK_OF(error))
    head = "Traceback (most recent call last):\n" if stack else ""
    text = f"{head}{stack}{error_lines(error)}"
    if isinstance(error, BaseExceptionGroup):
        text += _members(error, depth)
    return text


def _members(group: BaseExceptionGroup[BaseException], depth: int) -> str:
    members = _MEMBERS_OF(group)
    if depth == _MOST_DEPTH:
        return f"  … {len(members)} exceptions\n"
    text = ""
    for number, member in enumerate(members[:_MOST_IN_GROUP], 1):
        inner = _one(member, depth + 1)
        text += f"  {number} of {len(members)}:\n" + "".join(f"    {line}\n" for line in inner[:-1].split("\n"))
    if len(members) > _MOST_IN_GROUP:
        text += f"  … {len(members) - _MOST_IN_GROUP} exceptions more\n"
    return text


def error_lines(error: BaseException) -> str:
    """Return the last lines of a traceback: the place of a syntax error, the exception's type and text, its notes."""
    try:
        lines = "".join(traceback.format_exception_only(error))
    except BaseException:  # its type's name, its text or its notes raise
        lines = f"{_NAME_OF(type(error))}\n"
    rows = lines.rstrip("\n").split("\n")
    more = [f"… {len(rows) - _MOST_LINES} lines more"] if len(rows) > _MOST_LINES else []
    return "".join(f"{_cut(row, _MOST_LINE)}\n" for row in rows[:_MOST_LINES] + more)


_NAME_OF = type.__dict__["__name__"].__get__


def stack_text(trace: TracebackType | None) -> str:
    """Return the stack frames from the plugin's first on, libraries and repetitions folded; without any, the last."""
    summary = traceback.StackSummary()
    blocks: list[str] = []
    counts: Counter[object] = Counter()
    repeated = 0
    for key, value in _pieces(trace):
        counts[key] += 1
        if counts[key] > _MOST_REPEATS:
            repeated += 1
            continue
        if repeated:
            blocks.append(_repeated(repeated))
            repeated = 0
        blocks.append(value if isinstance(value, str) else _labelled(summary.format_frame_summary(value), value))
    if repeated:
        blocks.append(_repeated(repeated))
    return "".join(_without_middle(blocks))


def _pieces(trace: TracebackType | None) -> Iterator[tuple[object, str | traceback.FrameSummary]]:
    """Yield the plugin's stack frames, and a line for each stretch of libraries' frames, each with its place in code.

    The libraries before the plugin's first frame called it: they are left out, unless there is none of the plugin's.
    """
    stretch: list[tuple[FrameType, int]] = []
    begun = False
    for frame, lineno, lasti in _frames(trace):
        if not _is_plugins(frame):
            stretch.append((frame, lineno))
            continue
        if stretch and begun:
            yield _folded(stretch)
        begun, stretch = True, []
        code = frame.f_code
        yield (code.co_filename, lineno, code.co_name), _summary(frame, lineno, lasti)
    if stretch:
        yield _folded(stretch)


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int, int]]:
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_HIDDEN):
            yield trace.tb_frame, trace.tb_lineno, trace.tb_lasti
        trace = trace.tb_next


def _is_plugins(frame: FrameType) -> bool:
    """True for code of the plugin's; code without a file (`<string>`) is that of the plugin, or of its module."""
    if _own_package and _top_package(frame) == _own_package:
        return True
    file = frame.f_code.co_filename
    if file.startswith("<") and file not in linecache.cache:
        file = _file_of_module(frame)
    return not (file.startswith(_STANDARD_LIBRARY) or any(part in file for part in _INSTALLED))


def _file_of_module(frame: FrameType) -> str:
    file = frame.f_globals.get("__file__")
    return file if type(file) is str else ""


def _top_package(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name.partition(".")[0] if type(name) is str else ""


def _summary(frame: FrameType, lineno: int, lasti: int) -> traceback.FrameSummary:
    code = frame.f_code
    positions = next(itertools.islice(code.co_positions(), lasti // 2, None), (None,) * 4)
    _, end_lineno, column, end_column = positions
    file, name = _cut(code.co_filename, _MOST_LINE), _cut(code.co_name, _MOST_NAME)
    line = linecache.getline(code.co_filename, lineno, frame.f_globals)
    if len(line) > _MOST_LINE:
        return traceback.FrameSummary(file, lineno, name, line=f"{line[:_MOST_LINE].strip()}…")
    return traceback.FrameSummary(file, lineno, name, end_lineno=end_lineno, colno=column, end_colno=end_column)


def _folded(stretch: list[tuple[FrameType, int]]) -> tuple[object, str]:
    """Return the place and the line of a stretch of libraries' stack frames: their number and packages, the last."""
    packages = list(dict.fromkeys(_cut(_top_package(frame), _MOST_NAME) or "a library" for frame, _ in stretch))
    names = ", ".join(packages[:3]) + (", …" if len(packages) > 3 else "")
    frame, lineno = stretch[-1]
    count = f"{len(stretch)} frames" if len(stretch) > 1 else "1 frame"
    code = frame.f_code
    place = f"{_cut(code.co_filename, _MOST_LINE)}, line {lineno}, in {_cut(code.co_name, _MOST_NAME)}"
    return (code.co_filename, lineno, names), f"  … {count} of {names}: {place}\n"


def _labelled(text: str, frame: traceback.FrameSummary) -> str:
    """Return a stack frame's text with the name of its notebook's cell in place of a file, as IPython writes it."""
    name = frame.filename
    return text.replace(f'File "{name}"', name, 1) if name.startswith("Cell In[") else text


def _repeated(count: int) -> str:
    return f"  … {count} more of the lines above\n"


def _without_middle(blocks: list[str]) -> list[str]:
    """Return the first and the last blocks, if together they are too long."""
    room, head, tail = _MOST_STACK // 2, 0, 0
    if sum(map(len, blocks)) <= _MOST_STACK:
        return blocks
    used = 0
    while used + len(blocks[head]) <= room:
        used += len(blocks[head])
        head += 1
    used = 0
    while used + len(blocks[-1 - tail]) <= room:
        used += len(blocks[-1 - tail])
        tail += 1
    middle = len(blocks) - head - tail
    return [*blocks[:head], f"  … {middle} frames more\n", *blocks[len(blocks) - tail :]]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} characters more)"
