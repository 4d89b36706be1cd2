"""Describe an exception as bounded text, with the limit that may have caused it (worker side).

The plugin's own `__str__` runs here. It may raise, lie or hang, but it runs inside the call, under its limits.
"""

from __future__ import annotations

from agentplug.contract.limits import REFUSALS
from agentplug.core.boundary.frames import MAX_ERROR_MESSAGE, MAX_ERROR_TYPE, MAX_TRACEBACK, Failure
from agentplug.core.worker.tracebacks import error_lines, stack_text, traceback_text

_LIMIT_OF_ERRNO = {number: row.by for row in REFUSALS.values() for number in row.errnos}
_LIMIT_OF_TEXT = {(row.error,): row.by for row in REFUSALS.values() if row.error}


def failure(error: BaseException) -> Failure:
    """Describe `error` for the host."""
    return Failure(
        _clip(_name(error), MAX_ERROR_TYPE),
        _clip(_message(error), MAX_ERROR_MESSAGE),
        bounded_traceback(error),
        "raised",
        limit_of(error),
    )


def load_traceback(problem: Exception) -> str:
    """Return the way to the text that isn't Python, the imports of the plugin's own, and its line; else nothing."""
    if problem.__cause__ is None:
        return ""
    stack = stack_text(problem.__traceback__)
    return _utf8(f"{stack}{error_lines(problem.__cause__)}")[:MAX_TRACEBACK]


def limit_of(error: BaseException) -> str:
    """Return the limit that leads to such an error, named as in verdicts, or "". The host looks for evidence."""
    if isinstance(error, MemoryError):
        return "memory"
    try:
        if type(error) is RuntimeError:
            return _LIMIT_OF_TEXT.get(error.args, "")
    except BaseException:  # the plugin's own arguments may raise
        return ""
    return _LIMIT_OF_ERRNO.get(_number(error), "")


def _number(error: BaseException) -> int:
    try:
        number = error.errno if isinstance(error, OSError) else 0
    except BaseException:
        return 0
    return number if type(number) is int and 0 < number < 4096 else 0


def _name(error: BaseException) -> str:
    name: str = _name_of(type(error))
    return name


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as inner:  # SystemExit too: the verdict is about the first error
        return f"(its text can't be made: {_name(inner)})"


def bounded_traceback(error: BaseException) -> str:
    """Return the traceback of `error`, or the end of one that is too long for a frame."""
    try:
        text = _utf8(traceback_text(error))
    except BaseException:  # no memory, or the plugin replaced what this needs
        return ""
    return text if len(text) <= MAX_TRACEBACK else "…" + text[1 - MAX_TRACEBACK :]


_name_of = type.__dict__["__name__"].__get__  # a metaclass may define `__name__`, and raise


def _clip(text: str, most: int) -> str:
    text = _utf8(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _utf8(text: str) -> str:
    return str.encode(text, "utf-8", "backslashreplace").decode("utf-8")  # a subclass may override it
