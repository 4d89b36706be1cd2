"""The Matplotlib backend of workers: figures become displays (worker side).

Matplotlib imports this module when a plugin makes its first figure, unless the plugin chose another backend.
"""

from __future__ import annotations

from typing import Any

from matplotlib._pylab_helpers import Gcf
from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas

from agentplug.core.worker import showing

__all__ = ["FigureCanvas", "show"]


def show(*args: Any, **options: Any) -> None:
    """Display every open figure, and close it."""
    try:
        for manager in Gcf.get_all_fig_managers():
            if manager.canvas.figure.axes or manager.canvas.figure.lines or manager.canvas.figure.texts:
                showing.display(manager.canvas.figure)
    finally:
        Gcf.destroy_all()
