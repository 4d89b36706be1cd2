"""A kernel as a notebook sees it: cells go in, outputs come back to the cell that they belong to."""

from __future__ import annotations

import os
import select
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from jupyter_client.manager import KernelManager

PATIENCE_S = 60.0


@dataclass
class Cell:
    """What one cell has shown so far. `error` is its exception's name and lines, if it ended in one."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    idle: bool = False

    def stream(self, name: str = "stdout") -> str:
        return "".join(o["text"] for o in self.outputs if o["type"] == "stream" and o["name"] == name)

    @property
    def texts(self) -> list[str]:
        """text/plain of results and displays, in order."""
        return [o["data"]["text/plain"] for o in self.outputs if "data" in o]

    @property
    def error(self) -> tuple[str, str] | None:
        found = [o for o in self.outputs if o["type"] == "error"]
        return (found[0]["ename"], "\n".join(found[0]["traceback"])) if found else None

    def check(self) -> Self:
        """Itself. Fails the test if it ended in an error."""
        assert self.error is None, self.error
        assert not self.stream("stderr"), self.stream("stderr")
        return self


class Notebook:
    """A kernel and the cells that were run in it."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.cells: dict[str, Cell] = {}
        self._requests = 0
        self._connect()

    def _connect(self) -> None:
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources(restart=False)
        self.manager.context.destroy(linger=0)

    @property
    def pid(self) -> int:
        """The kernel's process."""
        provisioner: Any = self.manager.provisioner
        return int(provisioner.pid)

    def start(self, code: str) -> Cell:
        """Begin to run a cell."""
        cell = self.cells[self.client.execute(code)] = Cell()
        return cell

    def until(self, happened: Callable[[], object]) -> None:
        """Take messages until `happened()`."""
        until_s = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < until_s, "that never happened"
            message = self.client.get_iopub_msg(timeout=PATIENCE_S)
            cell = self.cells.get(message["parent_header"].get("msg_id", ""))
            if cell is None:
                continue
            if message["msg_type"] == "status":
                cell.idle = message["content"]["execution_state"] == "idle"
            elif message["msg_type"] != "execute_input":
                cell.outputs.append({"type": message["msg_type"]} | message["content"])

    def run(self, code: str) -> Cell:
        """Run a cell to its end."""
        cell = self.start(code)
        self.until(lambda: cell.idle)
        return cell

    def value(self, expression: str) -> str:
        """The text of an expression's value."""
        return self.run(expression).check().texts[-1]

    def debug(self, command: str, arguments: dict[str, object]) -> dict[str, Any]:
        """The answer to a request of a front end's debugger."""
        self._requests += 1
        request = {"type": "request", "seq": self._requests, "command": command, "arguments": arguments}
        self.client.control_channel.send(self.client.session.msg("debug_request", request))
        answer: dict[str, Any] = self.client.get_control_msg(timeout=PATIENCE_S)["content"]
        return answer

    def worker(self, plugin: str) -> Watched:
        """The worker of a plugin, by the variable's name."""
        return Watched(int(self.value(f"{plugin}.pid")))

    def below(self) -> list[Watched]:
        """Every process below the kernel: its zygote, that one's workers and its spare."""
        return [Watched(process.pid) for process in psutil.Process(self.pid).children(recursive=True)]

    def restart(self, *, now: bool) -> None:
        """Restart the kernel, as the button does (`now`: by SIGKILL)."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=now)
        self._connect()


class Watched:
    """A process, by a descriptor that can't come to mean another one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._pidfd)

    def ended(self) -> bool:
        """Whether it ends within the time that a test has patience for."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(PATIENCE_S * 1e3))
