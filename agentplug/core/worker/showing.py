"""`display` and its relatives, as IPython has them, without IPython (worker side).

Loaded with a worker's first display. An object is shown in one form: the first that it has of table, picture, HTML,
JSON and text. Scripts have no form; `import_hooks` puts these functions in place of IPython's own.
"""

from __future__ import annotations

from typing import Any

from agentplug.contract.display import TEXT
from agentplug.core.boundary.frames import MAX_DISPLAY_ID
from agentplug.core.worker import displays
from agentplug.core.worker.forms import Form, form_of, form_of_bundle


class DisplayHandle:
    """A display that can be updated, by its `display_id`."""

    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = display_id or f"display-{id(self):x}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} display_id={self.display_id}>"

    def display(self, obj: Any, **options: Any) -> None:
        """Display `obj` anew under this id."""
        display(obj, display_id=self.display_id, **options)

    def update(self, obj: Any, **options: Any) -> None:
        """Display `obj` in place of what was displayed under this id."""
        update_display(obj, display_id=self.display_id, **options)


def display(
    *objs: Any,
    include: Any = None,
    exclude: Any = None,
    metadata: Any = None,
    transient: Any = None,
    display_id: Any = None,
    raw: bool = False,
    clear: bool = False,
    **options: Any,
) -> DisplayHandle | None:
    """Display objects as IPython's function does. `include`, `exclude` and `metadata` change nothing here."""
    handle = None
    if display_id is not None and display_id is not False:
        handle = DisplayHandle(None if display_id is True else str(display_id))
        if not objs:
            objs, raw = ({},), True
    if clear:
        clear_output(wait=True)
    update = bool(options.get("update")) or bool((transient or {}).get("update"))
    for obj in objs:
        form = form_of_bundle(obj) if raw else form_of(obj)
        if form is not None:
            send(form, handle.display_id if handle is not None else "", update)
    return handle


def update_display(obj: Any, *, display_id: Any, **options: Any) -> None:
    """Display `obj` in place of what this call displayed under `display_id`."""
    display(obj, display_id=display_id, **{**options, "update": True})


def publish_display_data(
    data: Any, metadata: Any = None, *, transient: Any = None, update: bool = False, **_: Any
) -> None:
    """Display a bundle of forms by MIME type."""
    send(form_of_bundle(data), str((transient or {}).get("display_id", "")), update)


def clear_output(wait: bool = False) -> None:
    """Let the next displays of this call take the places of its earlier ones: only these can be cleared.

    Without `wait` they vanish at once.
    """
    if displays.current().belongs:
        _places.restart()
        if not wait:
            _places.empty()


class _Places:
    """The numbered places of a call's displays that have no id of their own."""

    def __init__(self) -> None:
        self._call = -1
        self._next = self._made = 0
        self._cleared = False

    def take(self, call: int) -> tuple[str, bool]:
        """Return the id of the next place, and true if an earlier display stands there."""
        if call != self._call:
            self._call, self._next, self._made, self._cleared = call, 0, 0, False
        self._next += 1
        if self._cleared:
            self.empty()
        there = self._next <= self._made
        self._made = max(self._made, self._next)
        return f"#{self._next}", there

    def restart(self) -> None:
        """Begin again with the first place."""
        self._next, self._cleared = 0, True

    def empty(self) -> None:
        """Empty the places that nothing has taken since `restart`."""
        for number in range(self._next + 1, self._made + 1):
            displays.current().send(TEXT, b"", (), f"#{number}", True)
        self._cleared = False


_places = _Places()


def send(form: Form, name: str = "", update: bool = False) -> None:
    """Send a form under the id `name`, or in the next place."""
    sending = displays.current()
    if not sending.belongs:
        if sending.is_before_calls:  # there is no call that it could belong to, but there is output
            print(form.body.decode() if form.mime == TEXT else f"<{form.mime}>")
    elif name:
        sending.send(*form, f"={name[: MAX_DISPLAY_ID - 1]}", update)
    else:
        sending.send(*form, *_places.take(sending.call))
