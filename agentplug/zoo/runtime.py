"""Plugins that rebuild the Python around them: the worker's own code, which they share a process with (worker side).

What runs beside a plugin can't be kept from it, and need not be: the host believes none of it.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import gc
import signal
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType, ModuleType
from typing import Any

from agentplug.zoo._beast import Beast


class EncoderSwapper(Beast):
    """Replaces the encoder of replies by one that writes what it likes.

    Stopped by the host's decoder, which takes nothing on trust: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Let every reply be a byte that means nothing."""
        from agentplug.core.boundary import codec as values

        setattr(values, "encode", lambda value: (b"\xc1", [b"x"]))  # noqa: B010
        return "anything"


class WorkerSwapper(Beast):
    """Replaces the functions with which the worker packs and sends its frames.

    Stopped by the host, for which a frame of the wrong kind ends the worker: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Let every reply be the greeting of a worker without barriers."""
        worker = sys.modules["agentplug.core.worker.worker"]
        pack = sys.modules["agentplug.core.boundary.channel"].pack
        worker.pack = lambda kind, call, *_: pack(16, call, b"\x82\xa8protocol\x01\xa8barriers\x90")  # type: ignore[attr-defined]
        return "anything"


class ModulePoisoner(Beast):
    """Replaces modules that everybody imports, the codec's among them, by ones that answer to anything.

    Nothing needs to stop it: they are the worker's copies, and no other process has them: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Poison them, and answer."""
        for name in ("json", "pickle", "struct", "msgspec", "numpy", "agentplug.errors"):
            sys.modules[name] = _Agreeable(name)
        return "poisoned"


class _Agreeable(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: True


class BuiltinsWrecker(Beast):
    """Takes away the functions that all Python code stands on.

    Stopped nowhere: its own worker falls over its own feet: `died:exit 1`.
    """

    async def process(self, input_data: Any) -> Any:
        """Delete the builtins."""
        for name in ("isinstance", "len", "type", "getattr", "memoryview", "sum", "BaseException", "print", "str"):
            delattr(builtins, name)
        return [1, "two"]


class BasePatcher(Beast):
    """Finds the worker's own object on the stack, and empties it: no socket, no frames, no loop.

    Stopped nowhere: a worker that can't answer has died: `died:exit 125`.
    """

    async def process(self, input_data: Any) -> Any:
        """Walk up the stack to it."""
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            worker = frame.f_locals.get("self")
            if type(worker).__name__ == "_Worker":
                vars(worker).clear()
                return "emptied"
            frame = frame.f_back
        return "not found"


class ExitBomb(Beast):
    """Registers work for when Python ends: closing the plugin is to take for ever.

    Stopped because a worker ends without asking Python, and is killed if it doesn't: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Register an endless function."""
        atexit.register(_spin)
        threading.Thread(target=time.sleep, args=(3600,)).start()  # one that Python would wait for
        return "armed"

    async def shutdown(self) -> None:
        """Never be done."""
        _spin()


class FinalizerBomb(Beast):
    """Returns a value in which an object waits to be forgotten, and then spins.

    Stopped by the watchdog, for it is still the call's time: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave one to the garbage collector."""
        bomb = _Bomb()
        bomb.itself = bomb
        del bomb
        gc.collect()
        return "armed"


class _Bomb:
    itself: Any

    def __del__(self) -> None:
        _spin()


class ImportHooker(Beast):
    """Puts itself in front of every import and audits every call, to change what later code gets.

    Nothing needs to stop it: its worker imports for it alone: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Hook in, and import something."""
        sys.meta_path.insert(0, self)
        sys.addaudithook(lambda event, arguments: None)
        sys.settrace(lambda *_: None)
        sys.setprofile(lambda *_: None)
        return "hooked"

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find nothing, and be asked all the same."""


class AuditRefuser(Beast):
    """Installs an audit hook that raises at everything Python does from then on. It can't be taken off.

    Stopped nowhere: its worker can't work any more, and has died: `died:exit 1`.
    """

    async def process(self, input_data: Any) -> Any:
        """Install it."""

        def refuse(event: str, arguments: object) -> None:
            raise SystemExit(event)

        sys.addaudithook(refuse)
        import colorsys

        return colorsys.__name__


class LoopStopper(Beast):
    """Stops the event loop that it runs in, from within.

    Stopped nowhere: without its loop the worker ends: `died:exit 125`.
    """

    async def process(self, input_data: Any) -> Any:
        """Stop it, and wait a turn."""
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "stopped"


class TaskCanceller(Beast):
    """Cancels every task of its loop, the worker's own too.

    Nothing needs to stop it: the cancellation comes back to the call itself: `failed:CancelledError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Cancel them, and await something."""
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0.01)
        return "cancelled"


class CancellationForger(Beast):
    """Raises CancelledError, which a host's own loop takes for its own cancellation.

    Nothing needs to stop it: in a worker it is an exception like others: `failed:CancelledError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise it."""
        raise asyncio.CancelledError


class Exiter(Beast):
    """Calls sys.exit, which ends a host that runs plugins itself.

    Nothing needs to stop it: in a worker it is an exception like others: `failed:SystemExit`.
    """

    async def process(self, input_data: Any) -> Any:
        """Exit."""
        sys.exit("goodbye")


class Recurser(Beast):
    """Takes away the limit on recursion, and calls itself until the stack runs into something.

    Nothing needs to stop it: the kernel ends the worker: `died:SIGSEGV`, or newer Pythons raise a RecursionError.
    """

    async def process(self, input_data: Any) -> Any:
        """Compare two structures that are endlessly deep, in C."""
        sys.setrecursionlimit(1 << 30)
        first: list[Any] = []
        second: list[Any] = []
        for _ in range(200_000):
            first, second = [first], [second]
        return first == second


class HandlerThief(Beast):
    """Takes over the signal by which the host asks a call to stop, and holds on to the interpreter's lock.

    Stopped by SIGKILL, once it is over its limit: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Ignore being asked, and never let go."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.setswitchinterval(1e9)
        _spin()


class FaceChanger(Beast):
    """Has a name that is another each time it is asked for, and tells the host so by the thousand.

    Stopped by asking once and by a bound on names: `completed`.
    """

    hooks: Mapping[str, str] = {f"hook-{serial}": "veto" * 1000 for serial in range(10_000)}

    def __getattribute__(self, name: str) -> Any:
        if name == "name":
            return f"face {time.monotonic_ns()}"
        return object.__getattribute__(self, name)

    async def process(self, input_data: Any) -> Any:
        """Answer with the name of the moment."""
        return self.name


def _spin() -> None:
    while True:
        pass
