"""Plugins that change the Python code around them: the worker's own code in their process (worker side).

A plugin can change all code in its process. That is no danger, because the host trusts none of that code.
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

from agentplug.zoo._base import ZooPlugin, spin


class EncoderSwapper(ZooPlugin):
    """Replaces the encoder of replies by one of its own.

    Stopped by the host's decoder, which checks everything: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Encode each reply as an invalid byte."""
        from agentplug.core.boundary import codec

        setattr(codec, "encode", lambda value: (b"\xc1", [b"x"]))  # noqa: B010
        return "anything"


class WorkerSwapper(ZooPlugin):
    """Replaces the function with which the worker packs its frames.

    Stopped by the host, which ends a worker that sends a frame of the wrong kind: `broken:protocol`.
    """

    async def process(self, input_data: Any) -> Any:
        """Pack each reply as the first frame of a worker without barriers."""
        worker = sys.modules["agentplug.core.worker.worker"]
        pack = sys.modules["agentplug.core.boundary.channel"].pack
        worker.pack = lambda kind, call, *_: pack(16, call, b"\x82\xa8protocol\x01\xa8barriers\x90")  # type: ignore[attr-defined]
        return "anything"


class ModulePoisoner(ZooPlugin):
    """Replaces common modules by ones whose every function returns True.

    Nothing needs to stop it: no other process uses the worker's modules: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Replace the modules, and return."""
        for name in ("json", "pickle", "struct", "msgspec", "numpy", "agentplug.errors"):
            sys.modules[name] = _Agreeable(name)
        return "poisoned"


class _Agreeable(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: True


class BuiltinsWrecker(ZooPlugin):
    """Deletes built-in functions that all Python code needs.

    Nothing needs to stop it: only its own worker fails: `died:exit 1`.
    """

    async def process(self, input_data: Any) -> Any:
        """Delete the builtins."""
        for name in ("isinstance", "len", "type", "getattr", "memoryview", "sum", "BaseException", "print", "str"):
            delattr(builtins, name)
        return [1, "two"]


class BasePatcher(ZooPlugin):
    """Finds the worker's own object on the stack, and deletes its attributes.

    Nothing needs to stop it: a worker that can't reply has died: `died:exit 125`.
    """

    async def process(self, input_data: Any) -> Any:
        """Walk up the stack to the object, and clear it."""
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            worker = frame.f_locals.get("self")
            if type(worker).__name__ == "_Worker":
                vars(worker).clear()
                return "emptied"
            frame = frame.f_back
        return "not found"


class ExitBomb(ZooPlugin):
    """Registers an endless exit handler, so that closing the plugin would never end.

    Stopped because a worker exits without running exit handlers, and is killed if it doesn't exit: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Register an endless function."""
        atexit.register(spin)
        threading.Thread(target=time.sleep, args=(3600,)).start()  # Python waits for this thread
        return "armed"

    async def shutdown(self) -> None:
        """Loop for ever."""
        spin()


class FinalizerBomb(ZooPlugin):
    """Leaves an object to the garbage collector, whose finalizer spins.

    Stopped by the watchdog, because the finalizer runs within the call: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make such an object, and run the collector."""
        bomb = _Bomb()
        bomb.itself = bomb
        del bomb
        gc.collect()
        return "armed"


class _Bomb:
    itself: Any

    def __del__(self) -> None:
        spin()


class ImportHooker(ZooPlugin):
    """Adds itself to all imports, audit events and traces, to change what later code gets.

    Nothing needs to stop it: only its own worker is affected: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Install the hooks."""
        sys.meta_path.insert(0, self)
        sys.addaudithook(lambda event, arguments: None)
        sys.settrace(lambda *_: None)
        sys.setprofile(lambda *_: None)
        return "hooked"

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Find nothing."""


class AuditRefuser(ZooPlugin):
    """Installs an audit hook that raises at each event. It can't be removed.

    Nothing needs to stop it: only its own worker suffers, in this call and later ones: `failed:SystemExit`.
    """

    async def process(self, input_data: Any) -> Any:
        """Install the hook, and import a module."""

        def refuse(event: str, arguments: object) -> None:
            raise SystemExit(event)

        sys.addaudithook(refuse)
        import colorsys

        return colorsys.__name__


class LoopStopper(ZooPlugin):
    """Stops the event loop that it runs in.

    Nothing needs to stop it: the worker ends without its loop: `died:exit 125`.
    """

    async def process(self, input_data: Any) -> Any:
        """Stop the loop, and await a turn."""
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "stopped"


class TaskCanceller(ZooPlugin):
    """Cancels every task of its loop, the worker's own too.

    Nothing needs to stop it: the call itself is cancelled: `failed:CancelledError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Cancel all tasks, and await."""
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0.01)
        return "cancelled"


class CancellationForger(ZooPlugin):
    """Raises CancelledError, which the host's loop would take for its own cancellation.

    Nothing needs to stop it: in a worker it is an exception like others: `failed:CancelledError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise the exception."""
        raise asyncio.CancelledError


class Exiter(ZooPlugin):
    """Calls sys.exit, which would end a host that runs plugins in its own process.

    Nothing needs to stop it: in a worker it is an exception like others: `failed:SystemExit`.
    """

    async def process(self, input_data: Any) -> Any:
        """Exit."""
        sys.exit("goodbye")


class Recurser(ZooPlugin):
    """Raises the limit on recursion, and recurses until the stack overflows.

    Nothing needs to stop it: the kernel ends the worker: `died:SIGSEGV`; newer Pythons raise a RecursionError.
    """

    async def process(self, input_data: Any) -> Any:
        """Compare two structures that are endlessly deep, in C."""
        sys.setrecursionlimit(1 << 30)
        first: list[Any] = []
        second: list[Any] = []
        for _ in range(200_000):
            first, second = [first], [second]
        return first == second


class HandlerThief(ZooPlugin):
    """Ignores the signal with which the host interrupts a call, and never releases the interpreter's lock.

    Stopped by SIGKILL, at its CPU limit: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Ignore SIGINT, and spin."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.setswitchinterval(1e9)
        spin()


class FaceChanger(ZooPlugin):
    """Has a name that changes at each access, and thousands of hooks.

    Stopped because the name is read once, and by a bound on hooks: `completed`.
    """

    hooks: Mapping[str, str] = {f"hook-{serial}": "veto" * 1000 for serial in range(10_000)}

    def __getattribute__(self, name: str) -> Any:
        if name == "name":
            return f"face {time.monotonic_ns()}"
        return object.__getattribute__(self, name)

    async def process(self, input_data: Any) -> Any:
        """Return the current name."""
        return self.name
