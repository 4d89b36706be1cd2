"""The zygote: a warm, single-threaded interpreter that forks workers (a process of its own, trusted, unconfined).

It takes spawn requests from one socket, forks, reports pids and exits, ends processes that an ended worker left, and
wipes scratch directories. It ends with all its children when that socket closes or its `keeper` ends: when its host
ends, in whatever way. It reads nothing that comes from a worker.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import NamedTuple

import landlockpy
import msgspec
import seccompy

from agentplug.core.boundary import cgroups
from agentplug.core.boundary.bounds import CHANNEL_FD, MAX_MESSAGE_BYTES, SPARE_NAME
from agentplug.core.boundary.child_processes import descendants
from agentplug.core.boundary.find_libc import resolve
from agentplug.core.boundary.frames import SpawnRequest, ZygoteNews
from agentplug.core.boundary.remove_tree import remove_root, remove_tree
from agentplug.core.worker import console, fonts, spare
from agentplug.core.worker.barriers import environment, libc, seccomp
from agentplug.core.worker.barriers.priority import TURN_S, lower_in_turn
from agentplug.core.worker.keeper import end_children, fork_below_a_keeper
from agentplug.core.worker.worker import main as worker_main

_FOR_VALUES = ("decimal", "uuid")  # the codec imports them for some values, which takes a worker 4 ms
_LULL_MS = 30  # a spare is forked once the requested workers have started
_SWEEP_S = 2.0  # then the next turn goes on: a process may take long to die in the kernel


def main(control_fd: int, root_fd: int, scratch_root: str, preload: list[str]) -> None:
    """Serve the host at the other end of `control_fd` until it hangs up.

    `root_fd` is the folder for scratch directories, whose path is `scratch_root`.
    """
    keeper = fork_below_a_keeper(control_fd, root_fd)
    control = socket.socket(fileno=control_fd)
    resolve(landlockpy.supported, seccompy.supported)
    for name in (*_FOR_VALUES, *preload):
        try:
            importlib.import_module(name)
        except BaseException as error:
            text = f"preload: {name!r} can't be imported: {type(error).__name__}: {error}"
            control.send(msgspec.msgpack.encode(ZygoteNews("failed", status=text[:4_000])))
            return
    if "pandas" in sys.modules:  # its workers will send tables
        importlib.import_module("agentplug.core.boundary.codec.tables")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # what is said from here on would fill the host's memory
    fonts.read_lists()
    console.add_names()
    environment.forget()
    gc.collect()
    gc.freeze()
    libc.trim_heap()  # a worker that fills free memory would seem to use less than it does
    os.fchdir(root_fd)  # scratch directories are made and removed here, wherever the path has come to lead
    zygote = _Zygote(control, root_fd, scratch_root, keeper)
    try:
        zygote.serve()
    finally:
        zygote.end_everything()


class _Child(NamedTuple):
    """A worker, or the janitor of an ended one. `scratch` is the name of its directory."""

    token: int
    scratch: str
    cgroup: list[str]


class _Zygote:
    def __init__(self, control: socket.socket, root_fd: int, scratch_root: str, keeper: int) -> None:
        self._control = control
        self._root_fd = root_fd
        self._scratch_root = scratch_root
        self._keeper = keeper
        self._pid = os.getpid()
        self._workers: dict[int, _Child] = {}
        self._janitors: dict[int, _Child] = {}
        self._spare: tuple[int, socket.socket] | None = None
        self._spare_is_due = True
        self._too_high: dict[int, float] = {}  # when each worker began whose autogroup may be high
        self._decode = msgspec.msgpack.Decoder(SpawnRequest).decode
        self._wake, waker = socket.socketpair()
        for end in (self._wake, waker):
            end.setblocking(False)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGCHLD)  # no longer SIGKILL: there is something to clean up

    def serve(self) -> None:
        self._send_news(ZygoteNews("ready", pid=os.getpid()))
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            events = poll.poll(_LULL_MS if self._spare_is_due else TURN_S * 1_000 if self._too_high else 1_000)
            if not events and self._spare_is_due:
                self._make_spare()
            for fd, _ in events:
                if fd == self._control.fileno() and not self._take_request():
                    return
                if fd == self._wake.fileno():
                    with contextlib.suppress(BlockingIOError):
                        self._wake.recv(4096)
            self._reap()
            if self._too_high:
                lower_in_turn(self._too_high)
            if os.getppid() != self._keeper:
                return  # the host has ended; the socket may stay open, since a child of the host's may have a copy

    # ------------------------------------------------------------------ spawn

    def _take_request(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 3)
        if not message:
            return False
        self._spare_is_due = True
        request = self._decode(message)
        scratch = str(request.token)
        cgroup = cgroups.create(request.token, request.plan)
        try:
            os.mkdir(scratch, 0o700)
            if not os.path.samestat(os.stat(scratch), os.stat(self._path_of(request))):
                raise OSError(errno.ENOENT, f"{self._scratch_root} was replaced")
            if not seccomp.compile_ahead(request.plan):
                self._dismiss_spare()  # it was forked before this, and lacks the filters
            pid = self._use_spare(message, cgroup, fds) or os.fork()
        except OSError as error:
            cgroups.remove(cgroup)
            with contextlib.suppress(OSError):
                os.rmdir(scratch)
            self._send_news(ZygoteNews("refused", request.token, status=f"{error.strerror}"))
        else:
            if pid == 0:
                self._become_worker(request, cgroup, fds)
            self._workers[pid] = _Child(request.token, scratch, cgroup)
            self._too_high[pid] = time.monotonic()
            pidfd = os.pidfd_open(pid)
            socket.send_fds(
                self._control, [msgspec.msgpack.encode(ZygoteNews("spawned", request.token, pid))], [pidfd]
            )
            os.close(pidfd)
        for fd in fds:
            os.close(fd)
        return True

    def _use_spare(self, message: bytes, cgroup: list[str], fds: list[int]) -> int:
        """Make the spare that worker. Return its pid, or 0 if there is none."""
        if self._spare is None:
            return 0
        (pid, sock), self._spare = self._spare, None
        with sock:
            if spare.hand_over(sock, msgspec.msgpack.encode((message, cgroup)), fds):
                return pid
        with contextlib.suppress(ProcessLookupError):  # it was killed or stopped
            os.kill(pid, signal.SIGKILL)
        return 0

    def _dismiss_spare(self) -> None:
        if self._spare is not None:
            self._spare[1].close()  # then it exits
            self._spare = None

    def _make_spare(self) -> None:
        self._spare_is_due = False
        seccomp.compile_usual()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                return  # the next request forks, or is refused
            if pid == 0:
                ours.close()
                self._be_spare(theirs)
        self._spare = pid, ours

    def _be_spare(self, sock: socket.socket) -> None:
        try:
            libc.set_name(SPARE_NAME)
            signal.set_wakeup_fd(-1)
            for end in (self._control, self._wake, self._waker):
                end.close()
            text, fds = spare.wait(sock)
            message, cgroup = msgspec.msgpack.decode(text, type=tuple[bytes, list[str]])
            request = self._decode(message)
            self._become_worker(request, cgroup, fds)
        finally:
            os._exit(125)

    def _path_of(self, request: SpawnRequest) -> str:
        return f"{self._scratch_root}/{request.token}"

    def _become_worker(self, request: SpawnRequest, cgroup: list[str], fds: list[int]) -> None:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            for source, target in zip(_above(fds, 16), (CHANNEL_FD, 1, 2), strict=True):
                os.dup2(source, target)
            libc.set_name("agentplug")
            scratch = self._path_of(request)
            worker_main(msgspec.structs.replace(request.plan, scratch=scratch, cgroup=cgroup, parent=self._pid))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(125)
        os._exit(0)

    # ------------------------------------------------------------------ reap

    def _reap(self) -> None:
        ended = []
        with contextlib.suppress(ChildProcessError):
            while (result := os.wait4(-1, os.WNOHANG))[0]:
                pid, status, usage = result
                if pid in self._workers:
                    child = self._workers.pop(pid)
                    self._too_high.pop(pid, None)
                    oom = cgroups.out_of_memory(child.cgroup)
                    text = _status_text(status)
                    news = ZygoteNews("exited", child.token, pid, text, usage.ru_utime, usage.ru_stime, oom)
                    ended.append((child, news))
                elif pid in self._janitors:
                    self._send_news(ZygoteNews("wiped", self._janitors.pop(pid).token))
                elif self._spare is not None and pid == self._spare[0]:
                    self._dismiss_spare()  # it was killed
        self._end_orphans()
        for child, news in ended:
            self._send_news(news)
            self._wipe(child)

    def _end_orphans(self) -> None:
        """End the processes that ended workers left, until there is none: they may fork meanwhile.

        A worker is the subreaper of its descendants, so a process that becomes our child has lost its worker. With
        SIGKILL pending it can't fork, so each sweep leaves fewer.
        """
        until_s = time.monotonic() + _SWEEP_S
        while (orphans := self._orphans()) and time.monotonic() < until_s:
            for pid in (*orphans, *(pid for orphan in orphans for pid in descendants(orphan))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in orphans:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _orphans(self) -> list[int]:
        """Return the children of this subreaper that it didn't fork itself."""
        ours = {*self._workers, *self._janitors, self._spare[0] if self._spare is not None else 0}
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            children = [int(pid) for pid in file.read().split()]
        return [pid for pid in children if pid not in ours]

    def _wipe(self, child: _Child) -> None:
        cgroups.remove(child.cgroup)
        try:
            os.rmdir(child.scratch)
        except OSError:
            try:
                janitor = os.fork()  # removing thousands of files must not delay spawning
            except OSError:  # too many processes: remove them here
                remove_tree(child.scratch)
                self._send_news(ZygoteNews("wiped", child.token))
                return
            if janitor == 0:
                with contextlib.suppress(BaseException):
                    remove_tree(child.scratch)
                os._exit(0)
            self._janitors[janitor] = child
        else:
            self._send_news(ZygoteNews("wiped", child.token))

    def end_everything(self) -> None:
        """Kill and reap all children, and remove all directories."""
        signal.set_wakeup_fd(-1)
        end_children()
        for child in self._workers.values():
            cgroups.remove(child.cgroup)
        remove_root(self._root_fd)

    def _send_news(self, news: ZygoteNews) -> None:
        with contextlib.suppress(OSError):  # the host is gone: the next poll shows it
            self._control.send(msgspec.msgpack.encode(news))


def _above(fds: list[int], least: int) -> list[int]:
    """Duplicate `fds` at numbers above the fixed targets."""
    return [fcntl.fcntl(fd, fcntl.F_DUPFD, least) for fd in fds]


def _status_text(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return signal.Signals(number).name
        except ValueError:
            return f"signal {number}"
    return f"exit {os.waitstatus_to_exitcode(status)}"
