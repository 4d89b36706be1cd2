"""A dashboard in a notebook (host): widgets that a thread updates, and HTML for the saved notebook.

Widgets are gone when a notebook is opened again, so the same table stands below them as plain HTML, hidden while they
exist. A dashboard rests while nobody can see it, since its output was cleared or its cell was run again. An error in
a dashboard is never raised in the notebook; a note below the table reports it.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from IPython.core.getipython import get_ipython
from IPython.display import display

from agentplug.contract.text import printable
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.jupyter import leftovers
from agentplug.jupyter.dashboard import drawing, moving
from agentplug.jupyter.dashboard.actions import ACTIONS, Actions
from agentplug.jupyter.dashboard.clicks import hear
from agentplug.jupyter.dashboard.watch import Board, row_of
from agentplug.manager.manager import PluginManager

TICK_S = 0.5
SOON_S = 0.15
STILL_EVERY_S = 5.0
SHARE = 0.01
"""The share of one processor for collecting and drawing; sending takes about as much again."""


class _Root(widgets.VBox):  # type: ignore[misc]
    """The outermost widget; its `_view_count` says how many pages show it."""

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the state; with no views yet for a page that asks for all of it, which was just opened."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        if key is None:
            state["_view_count"] = 0
        return state


class Dashboard:
    """A live view. It appears where it is displayed, as the last expression of a cell."""

    def __init__(
        self, x: PluginManager | SandboxedPlugin, actions: Sequence[str] | None = None, title: str = ""
    ) -> None:
        self._x = x
        self._board = Board(x)
        self._actions = Actions(self._board, actions)
        self._view: _View | None = None
        self._title = title

    def finish(self, run: Run | None = None) -> None:
        """Stop, and leave the card of `run` in place, or the last state."""
        if self._view is not None:
            self._view.finish(run=run)

    def __repr__(self) -> str:
        if isinstance(self._x, PluginManager):
            count = len(self._board.plugins())
            return f"<Dashboard of {count} plugin{'' if count == 1 else 's'}>"
        return f"<Dashboard of {self._title or self._x._inside.name}>"

    def _ipython_display_(self) -> None:
        if not moving():
            display({"text/plain": repr(self)}, raw=True)  # type: ignore[no-untyped-call]
            return
        if self._view is None or self._view.finished:
            self._view = _View(self._board, self._actions, self.__repr__)
        self._view.show()


class StillDashboard:
    """The still view of a finished run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __repr__(self) -> str:
        return f"<Dashboard of {self._run!r}>"

    def _repr_html_(self) -> str:
        row, events = row_of(self._run)
        return drawing.still(drawing.state([row], events.latest))


class _View:
    """The widgets of one dashboard, their thread, and the HTML beside them."""

    def __init__(self, board: Board, actions: Actions, text: Callable[[], str]) -> None:
        self._board, self._actions, self._text = board, actions, text
        self.finished = False
        self._id = f"agentplug-{uuid.uuid4().hex}"
        self._lock = threading.RLock()
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._watched: bool | None = None  # unknown until a page has opened it
        self._thread: threading.Thread | None = None
        self._context = contextvars.copy_context()
        self._note = ""
        self._run_ended: Run | None = None
        self._still = ""
        self._still_at_s = 0.0
        self._buttons: dict[str, _Buttons] = {}
        # A layout that is set later would leave the first one behind, as a widget that nobody closes.
        self._table = widgets.HTML(layout=widgets.Layout(margin="0", overflow="visible", flex="0 0 auto"))
        self._events = widgets.HTML(layout=widgets.Layout(margin="0", overflow="auto hidden"))
        self._columns = widgets.VBox(layout=widgets.Layout(overflow="visible", flex="0 0 auto"))
        row = widgets.Layout(align_items="flex-start", overflow="auto hidden")  # a narrow page scrolls
        top = widgets.HBox([self._table, self._columns], layout=row)
        self._root = _Root(
            [widgets.HTML(drawing.styles(self._id), layout=widgets.Layout(display="none")), top, self._events],
            _view_count=0,
        )
        self._root.add_class(f"{self._id}-live")
        self._root.observe(self._views_changed, "_view_count")

    # ------------------------------------------------------------------ begin and end

    def show(self) -> None:
        """Display the view in the running cell, and start its thread."""
        self._context = contextvars.copy_context()
        with self._lock:
            self._refresh()
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        live = {"application/vnd.jupyter.widget-view+json": view, "text/plain": self._text()}
        display(live, raw=True)  # type: ignore[no-untyped-call]
        self._save_still(update=False)
        if self._thread is None:
            shell: Any = get_ipython()
            shell.events.register("post_run_cell", self._after_cell)
            leftovers.add(self._unloaded)
            self._thread = threading.Thread(target=self._run, name="agentplug-dashboard", daemon=True)
            self._thread.start()

    def finish(self, note: str = "", run: Run | None = None) -> None:
        """Leave the card of `run` or the last state as HTML, and close the widgets."""
        with self._lock:
            if self.finished:
                return
            self._note, self._run_ended = note, run
            with contextlib.suppress(Exception):
                self._board.look()
            self.finished = True
            self._save_still()
            for buttons in self._buttons.values():
                buttons.close()
            self._root.unobserve_all()
            _close(self._root)
        leftovers.forget(self._unloaded)
        self._inbox.put(lambda: None)  # wakes the thread
        shell: Any = get_ipython()
        with contextlib.suppress(ValueError):
            shell.events.unregister("post_run_cell", self._after_cell)

    def _unloaded(self) -> None:
        self.finish("The extension was unloaded; this is the last state.")

    def _views_changed(self, change: Mapping[str, Any]) -> None:
        self._watched = bool(change["new"])
        self._inbox.put(lambda: None)  # wakes the thread

    # ------------------------------------------------------------------ updates

    def _run(self) -> None:
        while not self.finished:
            began_s = time.thread_time()
            try:
                self._tick()
            except Exception as error:  # reported in the view, not in another cell
                self._say(f"This view couldn't be brought up to date: {type(error).__name__}: {error}")
            wait_s: float | None = max(TICK_S, (time.thread_time() - began_s) / SHARE)
            if self._watched is False:
                wait_s = None
            with contextlib.suppress(queue.Empty):
                task = self._inbox.get(timeout=wait_s)
                try:
                    task()
                except Exception as error:
                    self._say(f"That didn't work: {type(error).__name__}: {error}")
                time.sleep(SOON_S)  # by then the action has usually had its effect

    def _tick(self) -> None:
        with self._lock:
            if self.finished:
                return
            if self._watched is not False:
                self._refresh()
            if time.monotonic() - self._still_at_s > STILL_EVERY_S:
                self._save_still()
        if self._board.over:
            self.finish(self._board.over)

    def _after_cell(self, *_: object) -> None:
        """Update the HTML for the saved notebook at the end of a cell."""
        with contextlib.suppress(Exception), self._lock:
            if not self.finished:
                self._context = contextvars.copy_context()
                self._refresh()
                self._save_still()

    def _refresh(self) -> None:
        if not self._board.look() and self._table.value:
            return
        self._place_buttons()
        _set(self._table, drawing.table(self._board.rows, load=self._board.load))
        self._show_events()

    def _show_events(self) -> None:
        _set(self._events, drawing.events(self._board.events.latest, self._note))

    def _say(self, note: str) -> None:
        self._note = note
        with contextlib.suppress(Exception):
            self._show_events()

    def _save_still(self, *, update: bool = True) -> None:
        """Send the HTML for the saved notebook, if it has changed: the run's card, or the last state and its time."""
        self._still_at_s = time.monotonic()
        board, run = self._board, self._run_ended
        still = run._repr_html_() if run else drawing.state(board.rows, board.events.latest, self._note, board.load)
        if still == self._still and update:
            return
        self._still = still
        html = still if run else drawing.still(still, time.time())
        data = {"text/html": drawing.saved(self._id, html), "text/plain": str(run) if run else self._text()}
        self._context.copy().run(display, data, raw=True, display_id=self._id, update=update)

    # ------------------------------------------------------------------ buttons

    def _place_buttons(self) -> None:
        rows = {row.key: self._actions.offered(row) for row in self._board.rows}
        if {key: buttons.actions for key, buttons in self._buttons.items()} == rows and self._columns.children:
            return
        for key, buttons in list(self._buttons.items()):
            if rows.get(key) != buttons.actions:
                self._buttons.pop(key).close()
        for key, offered in rows.items():
            if key not in self._buttons:
                self._buttons[key] = _Buttons(key, offered, self._ask)
        head = widgets.Box(layout=widgets.Layout(height=f"{drawing.HEAD_PX}px", flex="0 0 auto"))
        head.add_class("agentplug-actions")
        self._buttons = {key: self._buttons[key] for key in rows}
        self._columns.children = [head, *(buttons.box for buttons in self._buttons.values())]

    def _ask(self, action: str, key: str) -> None:
        self._inbox.put(functools.partial(self._actions.do, action, key))


class _Buttons:
    """The buttons of one row. They never change after they were displayed."""

    def __init__(self, key: str, actions: Sequence[str], ask: Callable[[str, str], None]) -> None:
        self.actions = tuple(actions)
        layout = widgets.Layout(width="auto", height="26px", margin="0 4px 0 0", padding="0 7px")
        style = widgets.ButtonStyle(font_size="12px")
        self._ends = []
        buttons: list[Any] = []
        for action in actions:
            tooltip = f"{ACTIONS[action]} ({printable(key, 60)})" if key else ACTIONS[action]
            button = widgets.Button(description=action, tooltip=tooltip, layout=layout, style=style)
            button.add_class(f"agentplug-{action}")
            self._ends.append(hear(button, functools.partial(ask, action, key)))
            buttons.append(button)
        row = widgets.Layout(height=f"{drawing.ROW_PX}px", align_items="center", flex="0 0 auto")
        self.box = widgets.HBox(buttons, layout=row)
        self.box.add_class("agentplug-actions")

    def close(self) -> None:
        """Ignore clicks from now on, and close the widgets."""
        for end in self._ends:
            end()
        _close(self.box)


def _close(widget: Any) -> None:
    """Close a widget, those in it, and the layouts and styles that each of them has as widgets of their own."""
    for part in (*getattr(widget, "children", ()), widget.layout, getattr(widget, "style", None)):
        if isinstance(part, widgets.DOMWidget):
            _close(part)
        elif part is not None:
            part.close()
    widget.close()


def _set(widget: Any, value: str) -> None:
    if widget.value != value:
        widget.value = value
