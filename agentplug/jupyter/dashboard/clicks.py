"""Buttons that work while a cell is busy (host): clicks are heard where the kernel takes messages off the wire.

A kernel hands a click on when its shell is free, so a button that is to stop a cell is heard when the cell has ended.
But the click is on the wire at once. From ipykernel 7 on, a thread of its own reads there; we look at what it reads.
ipykernel 6 reads in the main thread: while a cell awaits, its loop does; while a cell blocks, a signal makes that
thread look. Messages are only looked at: each goes on to where it would have gone.
"""

from __future__ import annotations

import contextlib
import hmac
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from IPython.core.getipython import get_ipython

Handler = Callable[[], None]

_DELIMITER = b"<IDS|MSG>"
_SIGNAL = getattr(signal, "SIGURG", None)  # ignored by whoever doesn't expect it
_LOOK_AFTER_S = 0.05
_MOST_PATIENCE_S = 1.0


def hear(button: Any, handler: Handler) -> Handler:
    """Call `handler` at each click on `button`, on any thread and soon; it must be quick. Returns how to end that."""
    wire = _wire()
    if wire is None:  # no ipykernel that we know: then at least between cells

        def clicked(_: object) -> None:
            handler()

        button.on_click(clicked)
        return lambda: button.on_click(clicked, remove=True)
    return wire.hear(button.comm.comm_id, handler)


class Wire:
    """The shell channel of one kernel. `stream` has taken messages with `onwards` until now."""

    def __init__(self, kernel: Any, onwards: Callable[[Any], Any]) -> None:
        self._session = kernel.session
        self._onwards = onwards
        self._handlers: dict[str, Handler] = {}
        stream = kernel.shell_stream
        thread = getattr(kernel, "shell_channel_thread", None)
        self._waker: _Waker | None = None
        if thread is not None:
            thread.io_loop.add_callback(stream.on_recv, self.take, copy=False)
        else:
            stream.on_recv(self.take, copy=False)
            self._waker = _Waker(stream)

    def hear(self, comm_id: str, handler: Handler) -> Handler:
        """Call `handler` at each click that comes over the comm. Returns how to end that."""
        self._handlers[comm_id] = handler
        if self._waker is not None:
            self._waker.start()

        def end() -> None:
            self._handlers.pop(comm_id, None)
            if not self._handlers and self._waker is not None:
                self._waker.stop()

        return end

    def take(self, frames: Sequence[Any]) -> Any:
        """Every message of the channel comes by here."""
        if self._handlers:
            with contextlib.suppress(Exception):  # whatever is wrong with it, the kernel will say
                handler = self._handlers.get(self._clicked([bytes(frame.buffer) for frame in frames]))
                if handler is not None:
                    handler()
        return self._onwards(frames)

    def _clicked(self, frames: list[bytes]) -> str:
        """The comm of a click, or nothing for every other message."""
        start = frames.index(_DELIMITER)
        signature, header, *_, content = frames[start + 1 : start + 6]
        if b"comm_msg" not in header or b"click" not in content:
            return ""
        told = self._session.unpack(content)
        if self._session.unpack(header)["msg_type"] != "comm_msg" or told["data"]["content"]["event"] != "click":
            return ""
        if self._session.auth is not None:
            ours = self._session.sign(frames[start + 2 : start + 6])
            if not hmac.compare_digest(ours, signature):
                return ""
        return str(told["comm_id"])


class _Waker:
    """Makes a main thread that is busy in a cell read its messages (ipykernel 6, where nobody else does).

    The socket's descriptor stays readable until the main thread looks at it. If that takes longer than a free loop
    would need, a signal is sent, as for an interrupt, and its handler looks. A cell's system calls notice it as
    little as one that Python restarts (PEP 475).
    """

    def __init__(self, stream: Any) -> None:
        import zmq

        self._stream = stream
        self._in = zmq.POLLIN
        self._fd = int(stream.socket.getsockopt(zmq.FD))
        self._main = threading.main_thread().ident
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin, in the main thread; elsewhere, and where the signal is somebody's, clicks wait for their turn."""
        if self._thread is not None or _SIGNAL is None or threading.get_ident() != self._main:
            return
        if signal.getsignal(_SIGNAL) not in (signal.SIG_DFL, signal.SIG_IGN):
            return
        signal.signal(_SIGNAL, self._look)
        self._stopped = threading.Event()
        shell: Any = get_ipython()
        shell.events.register("pre_run_cell", self._drain)
        self._drain()
        self._thread = threading.Thread(
            target=self._watch, args=(self._stopped,), name="agentplug-clicks", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End; the signal's handler stays where this isn't the main thread, and does nothing then."""
        self._stopped.set()
        self._thread = None
        shell: Any = get_ipython()
        with contextlib.suppress(ValueError):
            shell.events.unregister("pre_run_cell", self._drain)
        if _SIGNAL is not None and threading.get_ident() == self._main:
            signal.signal(_SIGNAL, signal.SIG_DFL)

    def _drain(self, *_: object) -> None:
        """Take what is there: only behind an empty queue does the descriptor tell of the next message."""
        self._stream.flush(self._in)

    def _watch(self, stopped: threading.Event) -> None:
        arrived = select.poll()
        arrived.register(self._fd, select.POLLIN)
        patience_s = _LOOK_AFTER_S
        while not stopped.is_set():
            if not arrived.poll(_MOST_PATIENCE_S * 1e3):
                continue
            time.sleep(_LOOK_AFTER_S)
            if not arrived.poll(0):
                patience_s = _LOOK_AFTER_S
            elif not stopped.is_set() and _SIGNAL is not None and self._main is not None:
                signal.pthread_kill(self._main, _SIGNAL)
                stopped.wait(patience_s)  # native code may hold the thread: don't pester it
                patience_s = min(_MOST_PATIENCE_S, patience_s * 2)

    def _look(self, _number: int, frame: FrameType | None) -> None:
        """In the main thread, between two instructions of whatever runs there."""
        if self._stopped.is_set() or not _in_a_cell(frame):
            return  # its loop is running, and will read in a moment
        with contextlib.suppress(Exception):
            self._drain()


def _in_a_cell(frame: FrameType | None) -> bool:
    """Whether a cell's code is being run, not the kernel's loop: there nothing else of the kernel's is half done."""
    while frame is not None:
        if frame.f_code.co_name == "run_code" and frame.f_code.co_filename.endswith("interactiveshell.py"):
            return True
        frame = frame.f_back
    return False


_wires: dict[int, Wire] = {}


def _wire() -> Wire | None:
    """The wire of this process's kernel; None where it isn't an ipykernel of the makes we know."""
    kernel = getattr(get_ipython(), "kernel", None)
    stream = getattr(kernel, "shell_stream", None)
    onwards = getattr(stream, "_recv_callback", None)
    if onwards is None:
        return None
    found = _wires.get(id(stream))
    if found is None:
        found = _wires[id(stream)] = Wire(kernel, onwards)
    return found
