"""One confined process as the host sees it: some ten descriptors, and its end (host).

The descriptors are the channel, the output pipes, the pidfd and the readings. They stay open until `dispose`, after
the last waiter has stopped using them. The worker's lock guards a process; `supervisor` uses the channel.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from agentplug.contract.policy import Policy
from agentplug.core.boundary.channel import MOST_DESCRIPTORS, FrameReader, pack
from agentplug.core.boundary.frames import DESCRIPTORS
from agentplug.core.host.launcher import Spawned, out_of_descriptors
from agentplug.core.host.output import Output
from agentplug.core.host.readings import Gone, Readings
from agentplug.core.host.watchdog import watchdog

_ERROR_BYTES = 1 << 18  # an error frame is allowed even beyond the policy's reply limit
_ROOM_BYTES = 1 << 30  # of a worker that isn't the plugin's memory, with much to spare


class AlreadyEnded(Exception):
    """The process ended between two calls; a new one can take the call."""


class Process:
    """A worker's process: its descriptors, its pid and its end. Made by `prepare`, started by `Worker.spawn`."""

    def __init__(self, policy: Policy, sock: socket.socket, output: Output) -> None:
        self.sock = sock
        self.output = output
        worker_bytes = int(policy.memory) + _ROOM_BYTES
        self.reader = FrameReader(
            sock, max(int(policy.reply), _ERROR_BYTES), worker_bytes=worker_bytes, takes_descriptor=True
        )
        self.ready = select.poll()
        for fd in (sock.fileno(), *output.fds):
            self.ready.register(fd, select.POLLIN)
        self.channel_ready = select.poll()
        self.channel_ready.register(sock, select.POLLIN)
        self.readings: Readings | None = None
        self.pid = 0
        self._pidfd = -1
        self.scratch = ""  # its directory, at this path for the host and in its own mount namespace
        self.open_scratch = ""  # for the host, wherever that path has come to lead
        self.status: str | None = None  # how it ended, once it has
        self.ending = False  # it was asked to end, or has ended: no exchange may begin
        self.exited: Future[None] = Future()
        self.wiped: Future[None] = Future()
        self.watchdog = watchdog()

    @classmethod
    @contextlib.contextmanager
    def prepare(cls, policy: Policy) -> Iterator[tuple[Process, list[int]]]:
        """Open channel and pipes for a process to be spawned. The process's ends close with this context.

        Raises `BarrierUnavailable`.
        """
        with contextlib.ExitStack() as if_it_fails, contextlib.ExitStack() as theirs:
            try:
                ours, channel = socket.socketpair()
                theirs.callback(channel.close)
                if_it_fails.callback(ours.close)
                ends = [channel.fileno()]
                pipes = []
                for _ in ("stdout", "stderr"):
                    reader, writer = os.pipe2(os.O_CLOEXEC)
                    theirs.callback(os.close, writer)
                    if_it_fails.callback(os.close, reader)
                    os.set_blocking(reader, False)
                    ends.append(writer)
                    pipes.append(reader)
            except OSError as error:
                raise out_of_descriptors(error.strerror) from None
            ours.setblocking(False)
            yield cls(policy, ours, Output(pipes[0], pipes[1], int(policy.output))), ends
            if_it_fails.pop_all()

    def adopt(self, spawned: Spawned) -> None:
        """Take over the process that the zygote forked."""
        self.pid, self._pidfd, self.scratch, self.open_scratch = spawned
        with contextlib.suppress(Gone):
            self.readings = Readings(self.pid)
        for fd in self.output.fds:
            self.watchdog.listen(fd, functools.partial(self._drain, fd), rests=True)
        if self.sock.fileno() >= 0:  # else it was closed when the task that waited here was collected
            self.watchdog.follow(self.sock.fileno())

    def _drain(self, fd: int) -> None:
        if not self.output.drain(fd):
            self.watchdog.ignore(fd)

    @property
    def has_spoken(self) -> bool:
        """True if the channel was readable when the watchdog began its checks."""
        return self.sock.fileno() in self.watchdog.readable

    def has_more(self) -> bool:
        """Return true if more follows the last frame taken off the channel (end of file doesn't count)."""
        if self.reader.partial:
            return True
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def give(self, descriptors: Sequence[int]) -> None:
        """Send copies of these descriptors, ahead of the plugin. Raises `AlreadyEnded` if the process is gone."""
        for start in range(0, len(descriptors), MOST_DESCRIPTORS):
            frame = pack(DESCRIPTORS, 0)
            try:
                socket.send_fds(self.sock, frame, list(descriptors[start : start + MOST_DESCRIPTORS]))
            except (BrokenPipeError, ConnectionResetError):
                raise AlreadyEnded from None
            except OSError as error:
                raise out_of_descriptors(error.strerror) from None

    # ------------------------------------------------------------------ its end

    @property
    def has_ended(self) -> bool:
        """True if the process has ended, even before the zygote says so. For one that was spawned."""
        if self._pidfd < 0:
            return True
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        return bool(ended.poll(0))

    def send_signal(self, number: int) -> None:
        """Signal the process if it is there, by its pidfd: a pid might name another one."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.status is None:
            self.ending = True
            self.send_signal(signal.SIGKILL)

    def end(self, status: str) -> None:
        """Note that the process has ended, with the kernel's status."""
        self.status, self.ending = status, True

    # ------------------------------------------------------------------ closing

    def dispose(self) -> None:
        """Close the descriptors. Call it after the process ended and no waiter uses `sock` any more."""
        self.watchdog.unfollow(self.sock.fileno())
        for fd in list(self.output.fds):
            self.watchdog.ignore(fd)
        self.output.close()
        self._close()

    def abandon(self) -> None:
        """Close our copies, in a forked child of the host. The process is the parent's and goes on.

        The watchdog's epoll must not be touched here: the parent waits on the same one.
        """
        self.end("belongs to the parent process")
        self.exited, self.wiped = Future(), Future()
        resolve(self.exited)
        resolve(self.wiped)
        self.output.abandon()
        self._close()

    def _close(self) -> None:
        self.sock.close()
        if (listener := self.reader.take_descriptor()) >= 0:
            os.close(listener)
        if self.readings is not None:
            self.readings.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def resolve(future: Future[None]) -> None:
    """Resolve `future` once. Call it without the lock: its callbacks may do anything."""
    if not future.done():
        future.set_result(None)
