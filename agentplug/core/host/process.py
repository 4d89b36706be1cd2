"""One confined process as the host holds it (host): born of a zygote, ended by a signal, let go of at last.

It is a lock and some ten descriptors: the channel, the pipes of its output, its pidfd and its readings. They stay
open until `dispose`, which comes after the last waiter has let go of them. What is said over the channel is the
business of `supervisor`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import socket
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.core.boundary.channel import FrameReader
from agentplug.core.boundary.frames import ZygoteNews
from agentplug.core.host.attempts.listener import Hearing
from agentplug.core.host.launcher import Spawned, Zygote, out_of_descriptors
from agentplug.core.host.output import Output
from agentplug.core.host.plans import plan_for
from agentplug.core.host.readings import Gone, Readings
from agentplug.core.host.watchdog import watchdog

_ERROR_BYTES = 1 << 18  # an error frame is always let through, however small the policy's reply limit
_all: weakref.WeakSet[ConfinedProcess] = weakref.WeakSet()


class ConfinedProcess(ABC):
    """What the host knows of a worker's process and can do to it. Made by `spawn`."""

    def __init__(self, policy: Policy, sock: socket.socket, output: Output) -> None:
        self.policy = policy
        self.lock = threading.RLock()
        self.sock = sock
        self.output = output
        self.reader = FrameReader(sock, max(int(policy.reply), _ERROR_BYTES))
        self.reader.takes_descriptor = True
        self.ready = select.poll()
        for fd in (sock.fileno(), *output.fds):
            self.ready.register(fd, select.POLLIN)
        self.channel_ready = select.poll()
        self.channel_ready.register(sock, select.POLLIN)
        self.readings: Readings | None = None
        self.attempts: Hearing | None = None
        self.pid = 0
        self._pidfd = -1
        self.floor_bytes = 0
        self.scratch = ""
        self.tmpfs = ""  # its scratch directory in its own mount namespace, where it has one
        self.status: str | None = None  # how it ended, once it has
        self.ending = False  # told to end, or found dead: no exchange may begin
        self.exited: Future[None] = Future()
        self.wiped: Future[None] = Future()
        self.on_event: weakref.WeakMethod[Callable[[Event], None]] | None = None
        self.dog = watchdog()
        _all.add(self)

    # ------------------------------------------------------------------ its beginning

    @classmethod
    def spawn(cls, policy: Policy, zygote: Zygote, given_files: int = 0) -> tuple[Self, Future[Spawned]]:
        """Ask `zygote` for a process that may be given so many descriptors; `adopt` what the future brings."""
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
            process = cls(policy, ours, Output(pipes[0], pipes[1], int(policy.output)))
            future = zygote.spawn(plan_for(policy, given_files), ends, process.hear)
            if_it_fails.pop_all()
            return process, future

    def adopt(self, spawned: Spawned) -> None:
        """Take charge of the process that the zygote forked."""
        self.pid, self._pidfd, self.scratch = spawned
        with contextlib.suppress(Gone):
            self.readings = Readings(self.pid)
        for fd in self.output.fds:
            self.dog.listen(fd, functools.partial(self._drain, fd))
        if self.sock.fileno() >= 0:  # else the collector closed it, with the task that waited for this
            self.dog.follow(self.sock.fileno())
        self.dog.watch(self)

    def _drain(self, fd: int) -> None:
        if not self.output.drain(fd):
            self.dog.ignore(fd)

    def settle_floor(self) -> None:
        """Take the present footprint as the one that the plugin's memory is counted from."""
        with contextlib.suppress(Gone):
            if self.readings is not None:
                self.floor_bytes = self.readings.footprint_bytes()

    @abstractmethod
    def tick(self, now_ns: int) -> float:
        """Hold the limits: called by the watchdog, see `Watched`."""

    # ------------------------------------------------------------------ its end

    @property
    def alive(self) -> bool:
        """Fit for another exchange."""
        return self.status is None and not self.ending

    @property
    def has_ended(self) -> bool:
        """Its process is no more, also where word of that is still on its way. For one that was spawned."""
        ended = select.poll()
        with self.lock:
            if self._pidfd < 0:
                return True
            ended.register(self._pidfd, select.POLLIN)
            return bool(ended.poll(0))

    def kill(self, reason: str) -> None:
        """SIGKILL through the pidfd: it can't be caught, and can't hit another process."""
        with self.lock:
            if self.status is None:
                self.ending = True
                self.send_signal(signal.SIGKILL)

    def lose(self, event: Event) -> None:
        """End it for what it did while nobody called it."""
        self.kill(event.kind)
        self.tell_event(event)

    def send_signal(self, number: int) -> None:
        """Signal it, if it is still there."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def tell_event(self, event: Event) -> None:
        """Tell whoever has the plugin what happened between calls."""
        tell = self.on_event() if self.on_event is not None else None
        if tell is not None:
            tell(event)

    def hear(self, news: ZygoteNews) -> None:
        """The zygote's word on how this process ended (watchdog's thread)."""
        if news.what == "wiped":
            _resolve(self.wiped)
            return
        with self.lock:
            if self.status is not None:
                return
            self.ended(news)
        self.dog.forget(self)
        _resolve(self.exited)

    @abstractmethod
    def ended(self, news: ZygoteNews) -> None:
        """Set `status`, and end what was going on. Called once, with the lock held."""

    # ------------------------------------------------------------------ letting go

    def never_started(self) -> None:
        """No process came of it: let go of everything."""
        _resolve(self.exited)
        _resolve(self.wiped)
        self.dispose()

    def release(self) -> None:
        """Nobody holds its plugin any more: it ends all the same. For finalizers, in whatever thread and lock."""
        self.on_event = None
        self.dog.soon(self._end_unseen)

    def _end_unseen(self) -> None:
        self.kill("close")
        self.exited.add_done_callback(lambda _: self.dispose())

    def dispose(self) -> None:
        """Close the descriptors. Only after it ended, and after every waiter has let go of `sock`."""
        self.dog.forget(self)
        with self.lock:
            self.dog.unfollow(self.sock.fileno())
            for fd in list(self.output.fds):
                self.dog.ignore(fd)
            if self.attempts is not None:
                self.dog.ignore(self.attempts.fd)
            self.output.close()
            self._close()

    def abandon(self) -> None:
        """In a forked child of the host: let go of our copies. The process is the parent's, and must not be ended.

        Nothing may touch the watchdog's epoll here: the parent waits on the same one.
        """
        self.lock = threading.RLock()
        self.status, self.ending, self.on_event = "belongs to the parent process", True, None
        self.exited, self.wiped = Future(), Future()
        _resolve(self.exited)
        _resolve(self.wiped)
        self.output.abandon()
        self._close()

    def _close(self) -> None:
        self.sock.close()
        if self.attempts is not None:
            self.attempts.close()
            self.attempts = None
        elif self.reader.descriptor >= 0:
            os.close(self.reader.descriptor)
            self.reader.descriptor = -1
        if self.readings is not None:
            self.readings.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def _resolve(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _abandon_in_child() -> None:
    for process in list(_all):
        process.abandon()
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_in_child)
