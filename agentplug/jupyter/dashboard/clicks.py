"""Buttons that work while a cell is busy (host): clicks are received where the kernel reads its messages.

A kernel handles a click only when its shell is free, so a button to stop a cell would work only after the cell. The
click's message arrives at once, though. From ipykernel 7 on, a thread reads the messages, and we inspect them there.
ipykernel 6 reads them in the main thread: while a cell awaits, the loop reads; while a cell blocks, we send a signal
that makes the main thread read. Messages are only inspected: the kernel then gets each of them.
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

from agentplug.jupyter import leftovers

Handler = Callable[[], None]

_DELIMITER = b"<IDS|MSG>"
_SIGNAL = getattr(signal, "SIGURG", None)  # ignored by default
_LOOK_AFTER_S = 0.05
_MOST_PATIENCE_S = 1.0


def hear(button: Any, handler: Handler) -> Handler:
    """Call `handler` soon after each click on `button`, on any thread; it must be quick.

    Returns a function that ends this.
    """
    wire = _wire()
    if wire is None:  # no ipykernel that we know: clicks work between cells only

        def clicked(_: object) -> None:
            handler()

        button.on_click(clicked)
        return lambda: button.on_click(clicked, remove=True)
    return wire.hear(button.comm.comm_id, handler)


class Wire:
    """The shell channel of one kernel. `onwards` is the kernel's own receiver of messages."""

    def __init__(self, kernel: Any, onwards: Callable[[Any], Any]) -> None:
        self._session = kernel.session
        self._onwards = onwards
        self._handlers: dict[str, Handler] = {}
        self._stream = stream = kernel.shell_stream
        self._thread = thread = getattr(kernel, "shell_channel_thread", None)
        self._waker: _Waker | None = None
        self._receive(self.take)
        if thread is None:
            self._waker = _Waker(stream)

    def _receive(self, receiver: Callable[[Any], Any]) -> None:
        if self._thread is not None:
            self._thread.io_loop.add_callback(self._stream.on_recv, receiver, copy=False)
        else:
            self._stream.on_recv(receiver, copy=False)

    def remove(self) -> None:
        """Leave the channel to the kernel, as it was."""
        self._handlers.clear()
        if self._waker is not None:
            self._waker.stop()
        self._receive(self._onwards)
        _wires.pop(id(self._stream), None)

    def hear(self, comm_id: str, handler: Handler) -> Handler:
        """Call `handler` at each click that comes over the comm. Returns a function that ends this."""
        self._handlers[comm_id] = handler
        if self._waker is not None:
            self._waker.start()

        def end() -> None:
            self._handlers.pop(comm_id, None)
            if not self._handlers and self._waker is not None:
                self._waker.stop()

        return end

    def take(self, frames: Sequence[Any]) -> Any:
        """Inspect a message of the channel, then pass it on to the kernel."""
        if self._handlers:
            with contextlib.suppress(Exception):  # the kernel reports a malformed message itself
                handler = self._handlers.get(self._clicked([bytes(frame.buffer) for frame in frames]))
                if handler is not None:
                    handler()
        return self._onwards(frames)

    def _clicked(self, frames: list[bytes]) -> str:
        """Return the comm of a click, or "" for any other message."""
        start = frames.index(_DELIMITER)
        signature, header, *_, content = frames[start + 1 : start + 6]
        if b"comm_msg" not in header or b"click" not in content:
            return ""
        message = self._session.unpack(content)
        if self._session.unpack(header)["msg_type"] != "comm_msg" or message["data"]["content"]["event"] != "click":
            return ""
        if self._session.auth is not None:
            ours = self._session.sign(frames[start + 2 : start + 6])
            if not hmac.compare_digest(ours, signature):
                return ""
        return str(message["comm_id"])


class _Waker:
    """Makes a main thread that is busy in a cell read its messages (ipykernel 6, where no other thread does).

    The socket's descriptor stays readable until the main thread reads. If that takes longer than a free loop would
    need, the waker sends a signal, as for an interrupt, and its handler reads. Python restarts the system calls of
    the cell (PEP 475).
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
        """Start if this is the main thread and the signal is free; otherwise clicks wait for the end of the cell."""
        if self._thread is not None or _SIGNAL is None or threading.get_ident() != self._main:
            return
        if signal.getsignal(_SIGNAL) not in (signal.SIG_DFL, signal.SIG_IGN):
            return
        signal.signal(_SIGNAL, self._on_signal)
        self._stopped = threading.Event()
        shell: Any = get_ipython()
        shell.events.register("pre_run_cell", self._drain)
        self._drain()
        self._thread = threading.Thread(
            target=self._watch, args=(self._stopped,), name="agentplug-clicks", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop. Outside the main thread the signal's handler stays, and does nothing."""
        self._stopped.set()
        self._thread = None
        shell: Any = get_ipython()
        with contextlib.suppress(ValueError):
            shell.events.unregister("pre_run_cell", self._drain)
        if _SIGNAL is not None and threading.get_ident() == self._main:
            signal.signal(_SIGNAL, signal.SIG_DFL)

    def _drain(self, *_: object) -> None:
        """Read all messages: the descriptor announces the next one only if the queue was empty."""
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
                stopped.wait(patience_s)  # native code may block the thread: don't send signals in a row
                patience_s = min(_MOST_PATIENCE_S, patience_s * 2)

    def _on_signal(self, _number: int, stack_frame: FrameType | None) -> None:
        """Read messages, in the main thread, between two instructions of the cell."""
        if self._stopped.is_set() or not _in_a_cell(stack_frame):
            return  # the kernel's loop is running, and reads soon
        with contextlib.suppress(Exception):
            self._drain()


def _in_a_cell(stack_frame: FrameType | None) -> bool:
    """True if a cell's code is running. Elsewhere the kernel may be in the middle of its own work."""
    while stack_frame is not None:
        code = stack_frame.f_code
        if code.co_name == "run_code" and code.co_filename.endswith("interactiveshell.py"):
            return True
        stack_frame = stack_frame.f_back
    return False


_wires: dict[int, Wire] = {}


def _wire() -> Wire | None:
    """Return the wire of this process's kernel; None if it isn't an ipykernel that we know."""
    kernel = getattr(get_ipython(), "kernel", None)
    stream = getattr(kernel, "shell_stream", None)
    onwards = getattr(stream, "_recv_callback", None)
    if onwards is None:
        return None
    if id(stream) not in _wires:
        wire = _wires[id(stream)] = Wire(kernel, onwards)
        leftovers.add(wire.remove)
    return _wires[id(stream)]
