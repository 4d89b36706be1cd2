"""The debugger of a front end (host): its breakpoints are out of reach for a cell that runs in a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_NOTE = (
    "The breakpoints in this cell stop nothing: a worker runs it, out of the debugger's reach. To step through its "
    "code, run that in a plain cell."
)


def breakpoints_note(ip: InteractiveShell) -> str:
    """Return a sentence if the running cell has breakpoints, as JupyterLab sets them, else an empty text."""
    kernel: Any = getattr(ip, "kernel", None)
    debugger: Any = getattr(kernel, "debugger", None)
    if not getattr(debugger, "is_started", False):
        return ""
    from ipykernel.compiler import get_file_name

    code = kernel.get_parent().get("content", {}).get("code", "")
    path = get_file_name(code)  # type: ignore[no-untyped-call]
    return _NOTE if debugger.breakpoint_list.get(path) else ""
