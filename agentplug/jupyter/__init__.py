"""The notebook side (host): `%load_ext agentplug` and what it brings.

`extension` puts it all in and takes it all out again; `magics` are the commands, over `options` (their command
lines), `session` (the plugins of this kernel) and `sandbox_cell` (a cell in a worker, where `cell_runner` is sent).
`streaming` writes what plugins print into the cell that called them, `live` a line of progress, `completion` offers
options and names, `failures` makes errors short. IPython is imported nowhere else in the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(ip: InteractiveShell) -> None:
    """What `%load_ext agentplug` calls. A second call changes nothing."""
    from agentplug.jupyter.extension import load

    load(ip)


def unload_ipython_extension(ip: InteractiveShell) -> None:
    """What `%unload_ext agentplug` calls: closes the session's plugins and leaves no trace of the extension."""
    from agentplug.jupyter.extension import unload

    unload(ip)
