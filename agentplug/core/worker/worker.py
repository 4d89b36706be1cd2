"""The life of one worker, from fork to exit (worker side).

It confines itself, reports its barriers, loads the plugin, and then serves one call after another: read a frame, run
the plugin, reply, and confirm on request that it is idle again. The host trusts nothing that it says about itself.
Plugins with a coroutine `process` run inside one event loop that lives as long as the worker, so that their
background tasks go on between calls; the others run without a loop in the main thread.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import inspect
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import cloudpickle

from agentplug.core.boundary import codec as values
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.bounds import CHANNEL_FD
from agentplug.core.boundary.channel import FrameSource, pack, write_frame
from agentplug.core.boundary.frames import Failure, Frame, Plan
from agentplug.core.worker import displays, loading
from agentplug.core.worker import error_text as reporting
from agentplug.core.worker.barriers import confine
from agentplug.core.worker.lost_writes import LostWrites

if TYPE_CHECKING:
    from agentplug.core.worker.audit_hook import AuditHook
    from agentplug.core.worker.profiling import Profiling

_METHODS = {wire.PROCESS: "process", wire.INITIALIZE: "initialize", wire.ON_MESSAGE: "on_message"}


def main(plan: Plan) -> None:
    """Run a worker, in a child that the zygote forked, with the channel at `CHANNEL_FD`. Never returns."""
    reports = confine(plan)
    streams = _clean_streams()
    sock = socket.socket(fileno=CHANNEL_FD)
    worker = _Worker(sock, plan, streams)  # before the greeting: afterwards memory counts as the plugin's
    hello = wire.Hello(wire.PROTOCOL, reports)
    write_frame(sock, pack(wire.HELLO, 0, wire.encode_body(hello)))
    signal.signal(signal.SIGINT, worker.on_interrupt)
    signal.signal(signal.SIGXFSZ, worker.lost_writes.on_large_file)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the host hung up
        worker.serve()
    _flush()
    os._exit(0)


def _clean_streams() -> tuple[displays.CountedText, displays.CountedText]:
    """Open new text streams on the pipes: the zygote's were made for /dev/null."""
    out, err = displays.counted_stream(1), displays.counted_stream(2)
    sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = err  # type: ignore[misc]
    return out, err


def _flush() -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        return  # the plugin replaced it


class _Worker:
    def __init__(
        self, sock: socket.socket, plan: Plan, streams: tuple[displays.CountedText, displays.CountedText]
    ) -> None:
        self._sock = sock
        self._displays = displays.Displays(sock, streams, plan.reply_bytes)
        displays.current = lambda: self._displays
        builtins.display = _display  # type: ignore[attr-defined]
        self._plan = plan
        self._audit_hook: AuditHook | None = None
        self._profiling = _profiling(plan)
        self._frames = FrameSource(sock)
        self._plugin: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._in_call = False
        self._has_tasks = False
        self.lost_writes = LostWrites(plan)
        self._error: BaseException | None = None  # until the next call: what it refers to is evidence for the host

    def serve(self) -> None:
        """Load the plugin, then answer calls until the host closes the channel."""
        frame, descriptors = self._frames.first()
        if frame is None or frame.kind != wire.LOAD:
            return
        self._load(frame, descriptors)
        _flush()
        method = getattr(self._plugin, "process", None)
        if isinstance(self._plan.network, list):  # no sendmsg(2): it may carry descriptors
            asyncio.selector_events._HAS_SENDMSG = False  # type: ignore[attr-defined]
        if inspect.iscoroutinefunction(method):
            self._loop = asyncio.new_event_loop()
            self._loop.set_task_factory(self._new_task)
            self._main = self._loop.create_task(self._serve_calls(self._next_frame_async))
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._main)
        else:
            _run_without_loop(self._serve_calls(self._next_frame))

    # ------------------------------------------------------------------ frames

    def _new_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        self._has_tasks = self._main is not None
        return asyncio.Task(coroutine, loop=loop, **options)

    async def _next_frame(self) -> Frame | None:
        return self._frames.next()

    async def _next_frame_async(self) -> Frame | None:
        """Return the next frame; run the loop meanwhile if the plugin has tasks or threads of its own."""
        assert self._loop is not None
        while (self._has_tasks or threading.active_count() > 1) and not self._frames.waiting:
            if len(asyncio.all_tasks(self._loop)) == 1 and threading.active_count() == 1:
                self._has_tasks = False
                break
            readable = self._loop.create_future()
            self._loop.add_reader(self._sock, _resolve, readable)
            try:
                await readable
                break
            except asyncio.CancelledError:
                continue  # an interrupt that came after its call had ended
            finally:
                self._loop.remove_reader(self._sock)
        return self._frames.next()

    async def _serve_calls(self, next_frame: Callable[[], Coroutine[Any, Any, Frame | None]]) -> None:
        while (frame := await next_frame()) is not None:
            if frame.kind == wire.CALL:
                self._error = None
                answer = await self._call(frame)
                self._answer(answer)
            elif frame.kind == wire.SETTLE:
                write_frame(self._sock, pack(wire.SETTLED, frame.call))
            elif frame.kind == wire.CLOSE:
                with contextlib.suppress(BaseException):
                    await self._shutdown()
                self.lost_writes.write_out()
                return

    # ------------------------------------------------------------------ calls

    def _load(self, frame: Frame, descriptors: list[int]) -> None:
        self._in_call = True
        try:
            request = wire.decode_load(frame.structure)
            if request.claims is not None:
                from agentplug.core.worker.audit_hook import AuditHook  # where the kernel reports none

                self._audit_hook = AuditHook(self._plan, request.claims)
            self._plugin, loaded = loading.load(request, descriptors)
            answer = pack(wire.LOADED, frame.call, wire.encode_body(loaded))
        except loading.CannotLoad as problem:
            trace = reporting.load_traceback(problem)
            answer = pack(wire.ERROR, frame.call, wire.encode_body(Failure("", str(problem), trace, problem.reason)))
        except BaseException as error:
            answer = self._failed(frame, error)
        finally:
            self._in_call = False
        self._answer(answer)

    def _failed(self, frame: Frame, error: BaseException) -> list[Any]:
        failure = reporting.failure(error)
        self._error = error if failure.limit else None
        return pack(wire.ERROR, frame.call, wire.encode_body(failure))

    def _answer(self, answer: list[Any]) -> None:
        """Send the report of refused calls and the profile, if any, then `answer`."""
        claims = self._audit_hook.take() if self._audit_hook is not None else None
        if claims is not None and (claims.calls or claims.dropped):
            self._send_report(wire.CLAIMS, claims, answer)
        if self._profiling is not None and (profile := self._profiling.take()) is not None:
            self._send_report(wire.PROFILE, profile, answer)
        write_frame(self._sock, answer)

    def _send_report(self, kind: int, body: object, answer: list[Any]) -> None:
        """Send `body` for the call that `answer` answers."""
        call = wire.HEADER.unpack_from(answer[0])[3]
        write_frame(self._sock, pack(kind, call, wire.encode_body(body)))

    async def _call(self, frame: Frame) -> list[Any]:
        self._in_call = True
        self.lost_writes.refused = False
        try:
            if frame.flags & wire.PICKLED:
                value = cloudpickle.loads(frame.structure + frame.blobs)  # made by the host, which we trust
            else:
                value = values.decode(frame.structure, frame.blobs)
            method = _METHODS[frame.flags & wire.METHOD_MASK]
            if self._profiling is not None and method == "process":
                self._profiling.start()
            if method != "initialize":
                self._displays.begin(frame.call)
            arguments = value if method == "on_message" else (value,)
            try:
                result = getattr(self._plugin, method)(*arguments)
                if type(result) is CoroutineType or inspect.isawaitable(result):
                    result = await result if self._main is not None else self._finish(result)
            finally:
                if self._profiling is not None:
                    self._profiling.stop()
                if "matplotlib.pyplot" in sys.modules:
                    _show_figures()
            if method == "initialize":
                result = None
            structure, blobs = values.encode(result)
            self.lost_writes.tell()
            return pack(wire.REPLY, frame.call, structure, blobs)
        except values.Unserializable as misfit:
            body = wire.Misfit(misfit.type[:200], misfit.where[:1_000])
            return pack(wire.UNSERIALIZABLE, frame.call, wire.encode_body(body))
        except BaseException as error:  # the plugin's, even SystemExit or a forged CancelledError
            return self._failed(frame, error)
        finally:
            self._in_call = False
            if self._profiling is not None:
                self._profiling.stop()  # an interrupt may have prevented the first stop
            if self._main is not None:
                while self._main.cancelling():
                    self._main.uncancel()
            _flush()
            self._displays.end()

    def _finish(self, result: Any) -> Any:
        """Run a coroutine of a plugin that otherwise works without a loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        task = self._loop.create_task(_awaited(result))
        try:
            return self._loop.run_until_complete(task)
        except KeyboardInterrupt:
            if not task.done():  # it would go on within the next call
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    self._loop.run_until_complete(task)
            raise

    async def _shutdown(self) -> None:
        shutdown = getattr(self._plugin, "shutdown", None)
        if callable(shutdown):
            result = shutdown()
            if inspect.isawaitable(result):
                await result if self._main is not None else self._finish(result)

    def on_interrupt(self, signum: int, frame: object) -> None:
        """Handle SIGINT: end the running call, if any."""
        if not self._in_call or self._displays.postpone_interrupt():
            return
        if self._main is not None and self._loop is not None and asyncio.current_task(self._loop) is None:
            # The call waits in the loop: an exception here would end the loop, which must be woken instead.
            self._loop.call_soon_threadsafe(self._main.cancel)
        else:
            raise KeyboardInterrupt


def _display(*objects: Any, **options: Any) -> Any:
    """Display objects as a notebook's cell does: figures, tables, pictures, HTML, or else their text."""
    from agentplug.core.worker import showing

    return showing.display(*objects, **options)


def _show_figures() -> None:
    """Display the figures that are open at a call's end, and close them, as notebooks do."""
    try:
        from agentplug.core.worker.figures import show

        show()
    except Exception:
        traceback.print_exc()


def _profiling(plan: Plan) -> Profiling | None:
    if not plan.profile:
        return None
    from agentplug.core.worker.profiling import Profiling

    return Profiling(plan)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _awaited(result: Any) -> Any:
    return await result


def _run_without_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
