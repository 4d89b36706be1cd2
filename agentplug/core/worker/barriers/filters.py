"""The two programs that seccomp(2) runs for a worker (worker side, compiled in the zygote).

`base_filter` is the list of allowed calls: all others are refused, x32 and new calls included. `guard_filter` checks
the calls of `watched`, and the process that a call concerns: it refuses, or lets the host answer. The stricter answer
of the two counts. Conditions that allow a call compare whole 64-bit arguments, so that no garbage in the upper half
is let through.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from typing import NamedTuple

import seccompy
from seccompy import Action, ArgCmp, CmpOp, Filter
from seccompy.syscalls import syscall_nr

from agentplug.core.boundary import syscalls as watched
from agentplug.core.boundary.bounds import PIPE_BYTES

_ALLOWED = """
access alarm arch_prctl brk capget chdir clock_getres clock_gettime clock_nanosleep close copy_file_range dup dup2
dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd
eventfd2 exit exit_group faccessat faccessat2 fadvise64 fchdir fdatasync fgetxattr flistxattr fstat fstatfs
fsync ftruncate futex futex_wait futex_wake futex_waitv get_robust_list get_mempolicy getcpu getcwd getdents
getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority
getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid link
linkat lseek lstat madvise membarrier mincore mkdir mkdirat mlock mlock2 mprotect mremap msync munlock munmap
nanosleep newfstatat pause pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll pread64 preadv preadv2 pselect6
pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmsg rename renameat renameat2
restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getparam sched_getscheduler
sched_rr_get_interval sched_yield select set_robust_list set_tid_address setitimer shutdown sigaltstack
stat statfs statx symlink symlinkat sync_file_range sysinfo time timer_create timer_delete
timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times umask uname unlink
unlinkat wait4 waitid write writev
""".split()

_PRCTL_ALLOWED = (2, 3, 15, 16, 21, 23, 27, 30, 37, 38, 39, 40, 41, 42, 0x53564D41)  # reads, names, harmless sets
_MISSING = ("clone3", "openat2")  # callers fall back on a call whose arguments can be checked
_PINNING = ("splice", "tee", "sendfile")
"""Calls that leave a file's pages in a pipe, and with a byte of one all 2 MiB of its folio, in no footprint. Callers
fall back on reading and writing."""
_NEW_NAMESPACES = 0x7E020080
_CLONE_THREAD = 0x00010000
_CLONE_PARENT = 0x00008000
_CLONE_FILES = 0x00000400
_UNSHARE = 2  # CLOSE_RANGE_UNSHARE
_MSG_FASTOPEN = 0x20000000
_IOCTL_ALLOWED = (0x5401, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x5460)
"""TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, FIOQSIZE: questions, and own flags."""
_FALLOCATE_KEEPS_SIZE = (0x01, 0x11)  # FALLOC_FL_KEEP_SIZE, alone and with FALLOC_FL_ZERO_RANGE
_SOCKET_OPTIONS = (2, 6, 9, 10, 12, 13, 15, 20, 21, 66, 67)  # addresses, lingering, time limits
_BUFFER_SIZES = (int(socket.SO_SNDBUF), int(socket.SO_RCVBUF))
_NETWORK_LEVELS = tuple(map(int, (socket.IPPROTO_IP, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_IPV6)))
_PORT_OPTIONS = {
    int(socket.IPPROTO_IP): (1, 2, 8, 10, 11, 13, 24, 51),  # service, hops, path MTU, errors, local ports
    int(socket.IPPROTO_IPV6): (16, 23, 25, 26, 49, 66, 67),  # the same, and IPV6_V6ONLY
    int(socket.IPPROTO_TCP): (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 16, 17, 18, 24, 25, 36),  # delays, time limits
}
"""Options of a TCP socket under a list of ports: none routes, encapsulates, repairs or connects by another way."""
_F_SETPIPE_SZ = 1031
_MAP_ANONYMOUS = 0x20
_MAP_HUGETLB = 0x40000  # from the machine's own reserve, in no footprint
_FCNTL_MISSING = (36, 37, 38)  # F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW: uncounted, they live on in a map
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE (blocks others), F_NOTIFY
_SIGNALS = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
_OWN = ("prlimit64", "sched_setaffinity")
_TALKING = "sendmsg sendmmsg recvmmsg bind listen accept accept4".split()
_FAMILIES = (int(socket.AF_INET), int(socket.AF_INET6))
_STREAM, _DATAGRAM = (ArgCmp(1, CmpOp.MASKED_EQ, int(kind), 0xF) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
_STREAM_PROTOCOLS = (0, int(socket.IPPROTO_TCP))
_DATAGRAM_PROTOCOLS = (0, *map(int, (socket.IPPROTO_UDP, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)))
"""Protocols whose memory is counted. MPTCP and SCTP have buffers that no reading shows."""
_LOW = 0xFFFFFFFF
_NEGATIVE = 0x80000000  # a clock id of a process, a thread or a descriptor
_THREAD_CLOCK = _NEGATIVE | 4  # the kernel gives a process no other's threads


class Own(NamedTuple):
    """The numbers of one worker in its guard."""

    pid: int
    memory_bytes: int
    disk_bytes: int

    @property
    def clock(self) -> int:
        """The clock id of the process's CPU time: clock_getcpuclockid(3)."""
        return (~self.pid << 3 | 2) & _LOW

    @property
    def words(self) -> tuple[int, ...]:
        """The numbers as the 32-bit words of a compiled filter."""
        sizes = [word for size in (self.memory_bytes, self.disk_bytes) for word in (size >> 32, size & _LOW)]
        return self.pid, self.clock, *sizes


class Rights(NamedTuple):
    """The facts of a policy and of the machine that the filters need. `network` is None if TCP ports are granted
    (Landlock chooses among them); `truncation` and `signals` are true if Landlock covers them here; `listening`: the
    host answers watched calls; `capped`: a cgroup counts the worker's memory; `files`: the host also observes every
    open; `writing`: the plugin may write files."""

    network: bool | None = False
    processes: bool = False
    truncation: bool = True
    signals: bool = False
    listening: bool = True
    capped: bool = False
    files: bool = False
    writing: bool = False


def base_filter(rights: Rights) -> Filter:
    """Build the list of allowed calls. It allows the calls that the guard checks."""
    rules = Filter(default=int(Action.ERRNO) | errno.EPERM)
    for name in _ALLOWED:
        _try(rules.allow, name)
    if rights.truncation:
        for name in ("truncate", "creat"):
            _try(rules.allow, name)
    for name, flags in (("open", 1), ("openat", 2)):
        # Access mode 3 opens any file for its ioctls: Landlock asks no right for it.
        _try(rules.errno, name, errno.EPERM, args=[ArgCmp(flags, CmpOp.MASKED_EQ, os.O_ACCMODE, os.O_ACCMODE)])
        if not rights.truncation:
            truncating = [ArgCmp(flags, CmpOp.MASKED_EQ, os.O_TRUNC, os.O_TRUNC | os.O_ACCMODE)]
            _try(rules.errno, name, errno.EPERM, args=truncating)
        _try(rules.allow, name)
    for name in _MISSING:
        _try(rules.errno, name, errno.ENOSYS)
    for name in _PINNING:
        _try(rules.errno, name, errno.EINVAL)
    # A descriptor may send its owner any signal when there is input; an owner can be any process of this user.
    for request in _FCNTL_REFUSED:
        _try(rules.errno, "fcntl", errno.EPERM, args=[_low(1, request)])
    for request in _FCNTL_MISSING:  # as a system does that lacks them
        _try(rules.errno, "fcntl", errno.EINVAL, args=[_low(1, request)])
    # What unread data can fill is bounded by the number of descriptors, so none may hold more than is usual.
    _try(rules.allow, "fcntl", args=[_low(1, _F_SETPIPE_SZ), ArgCmp(2, CmpOp.LE, PIPE_BYTES)])
    _try(rules.errno, "fcntl", errno.EPERM, args=[_low(1, _F_SETPIPE_SZ)])
    _try(rules.allow, "fcntl")
    if not rights.writing:  # flock needs no right to write, and its waiters would wait as long as we live
        exclusive = [ArgCmp(1, CmpOp.MASKED_EQ, fcntl.LOCK_EX, fcntl.LOCK_EX)]
        _try(rules.errno, "flock", errno.EPERM, args=exclusive)
    _try(rules.allow, "flock")
    for request in _IOCTL_ALLOWED:
        _try(rules.allow, "ioctl", args=[_low(1, request)])
    _try(rules.errno, "mmap", errno.ENOMEM, args=[ArgCmp(3, CmpOp.MASKED_EQ, _MAP_HUGETLB, _MAP_HUGETLB)])
    _try(rules.allow, "mmap")
    # Blocks beyond a file's end aren't in its size, and nothing counts what other modes change.
    _try(rules.allow, "fallocate", args=[_low(1, 0)])
    for mode in _FALLOCATE_KEEPS_SIZE:
        _try(rules.errno, "fallocate", errno.ENOSPC, args=[_low(1, mode)])
    _try(rules.errno, "fallocate", errno.EOPNOTSUPP)
    for option in _SOCKET_OPTIONS:
        _try(rules.allow, "setsockopt", args=[_low(1, int(socket.SOL_SOCKET)), _low(2, option)])
    for option in _BUFFER_SIZES:  # answered as done, as a system does that allows no more
        _try(rules.errno, "setsockopt", 0, args=[_low(1, int(socket.SOL_SOCKET)), _low(2, option)])
    if rights.network is True:
        for level in _NETWORK_LEVELS:
            _try(rules.allow, "setsockopt", args=[_low(1, level)])
    elif rights.network is None:
        for level, options in _PORT_OPTIONS.items():
            for option in options:
                _try(rules.allow, "setsockopt", args=[_low(1, level), _low(2, option)])
    for option in (*_PRCTL_ALLOWED, *watched.PRCTL_REFUSED):
        _try(rules.allow, "prctl", args={0: option})
    for persona in (0, _LOW):
        _try(rules.allow, "personality", args={0: persona})
    # One table of open files for all threads: the host reads that of one thread.
    apart = ArgCmp(0, CmpOp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD | _CLONE_FILES)
    # No child that is the zygote's: the host looks below the worker.
    parents = ArgCmp(0, CmpOp.MASKED_EQ, _CLONE_PARENT, _CLONE_PARENT)
    for condition in (apart, parents):
        _try(rules.errno, "clone", errno.EPERM, args=[condition])
    _try(rules.errno, "close_range", errno.EINVAL, args=[ArgCmp(2, CmpOp.MASKED_EQ, _UNSHARE, _UNSHARE)])
    _try(rules.allow, "close_range")
    for name in (*watched.REFUSED, *watched.FORKS, *watched.EXECS, *_SIGNALS, *_OWN):
        _try(rules.allow, name)
    if rights.processes:
        _try(rules.allow, "setpgid")
    # A pair of connected streams is all that asyncio needs; a datagram pair could still name other addresses.
    _try(rules.allow, "socketpair", args=[ArgCmp(0, CmpOp.EQ, int(socket.AF_UNIX)), _STREAM])
    for name in ("socket", "connect", "bind", "sendto"):
        _try(rules.allow, name)
    if rights.network is True:
        for name in _TALKING:
            _try(rules.allow, name)
    return rules


def guard_filter(own: Own, rights: Rights) -> Filter:
    """Build the filter that refuses watched calls, and notifies the host if it listens."""
    rules = Filter(default=Action.ALLOW)

    def refuse(name: str, args: object = None) -> None:
        if rights.listening:
            _try(rules.notify, name, args=args)
        else:
            _try(rules.errno, name, watched.error_of(name), args=args)

    def notify(name: str, args: object = None) -> None:
        if rights.listening:
            _try(rules.notify, name, args=args)

    for name in watched.REFUSED:
        refuse(name)
    for option in watched.PRCTL_REFUSED:
        refuse("prctl", [_low(0, option)])
    for name in _SIGNALS:
        if not (rights.processes and rights.signals):
            _try(rules.allow, name, args={0: own.pid})
            refuse(name)
    for subject in (0, own.pid):
        _try(rules.allow, "prlimit64", args={0: subject, 2: 0})  # 2: no new limit, only a query
        _try(rules.allow, "sched_setaffinity", args={0: subject})
    for name in _OWN:
        refuse(name)
    for name in watched.CLOCKS:
        _try(rules.allow, name, args=[ArgCmp(0, CmpOp.MASKED_EQ, 0, _NEGATIVE)])
        _try(rules.allow, name, args=[ArgCmp(0, CmpOp.MASKED_EQ, _THREAD_CLOCK, _THREAD_CLOCK)])
        _try(rules.allow, name, args=[_low(0, own.clock)])
        refuse(name)
    if rights.processes:
        observed = rights.files and rights.listening
        harmless = (_CLONE_THREAD, _CLONE_THREAD | _NEW_NAMESPACES) if observed else (0, _NEW_NAMESPACES)
        _try(rules.allow, "clone", args=[ArgCmp(0, CmpOp.MASKED_EQ, *harmless)])
        refuse("clone")
    else:
        _try(rules.allow, "clone", args=[ArgCmp(0, CmpOp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD | _NEW_NAMESPACES)])
        for name in (*watched.FORKS, *watched.EXECS):
            refuse(name)
    _guard_sizes(rules, own, rights, notify)
    _guard_sockets(rules, rights, refuse, notify)
    if rights.files:
        for name in (*watched.OPENS, *((*watched.EXECS, "fork", "vfork") if rights.processes else ())):
            notify(name)
    return rules


def _guard_sizes(rules: Filter, own: Own, rights: Rights, notify: Callable[..., None]) -> None:
    """Count shared anonymous memory when it is made, or refuse it; notify the host of requests beyond a limit."""
    shared = [ArgCmp(3, CmpOp.MASKED_EQ, watched.SHARED_MEMORY, watched.SHARED_MASK)]
    notify("mmap", shared)
    if not (rights.listening or rights.capped):
        _try(rules.errno, "mmap", errno.EPERM, args=shared)
    anonymous = ArgCmp(3, CmpOp.MASKED_EQ, _MAP_ANONYMOUS, _MAP_ANONYMOUS)
    notify("mmap", [anonymous, ArgCmp(1, CmpOp.GT, own.memory_bytes), ArgCmp(2, CmpOp.NE, 0)])  # 0: PROT_NONE
    notify("mremap", [ArgCmp(2, CmpOp.GT, own.memory_bytes)])
    notify("ftruncate", [ArgCmp(1, CmpOp.GT, own.disk_bytes)])
    notify("fallocate", [ArgCmp(3, CmpOp.GT, own.disk_bytes)])


def _guard_sockets(rules: Filter, rights: Rights, refuse: Callable[..., None], notify: Callable[..., None]) -> None:
    if rights.network is True:
        for family in _FAMILIES:
            for kind, protocols in ((_STREAM, _STREAM_PROTOCOLS), (_DATAGRAM, _DATAGRAM_PROTOCOLS)):
                for protocol in protocols:
                    _try(rules.allow, "socket", args=[ArgCmp(0, CmpOp.EQ, family), kind, _low(2, protocol)])
        refuse("socket")
        if rights.files:
            for name in ("connect", "bind"):
                notify(name)
            notify("sendto", [ArgCmp(4, CmpOp.NE, 0)])  # to an address
        return
    refuse("bind")
    if rights.network is None:
        # Landlock knows TCP alone: no datagrams, no MPTCP, and no connection hidden in a first send.
        for family in _FAMILIES:
            for protocol in _STREAM_PROTOCOLS:
                granted = [ArgCmp(0, CmpOp.EQ, family), _STREAM, ArgCmp(2, CmpOp.EQ, protocol)]
                _try(rules.allow, "socket", args=granted)
        refuse("socket")
        refuse("sendto", [_fast_open(3)])
        notify("connect")
        return
    refuse("socket")
    refuse("connect")
    refuse("sendto", [ArgCmp(4, CmpOp.NE, 0)])  # to an address


def _low(index: int, value: int) -> ArgCmp:
    """Compare an argument that the kernel takes as 32 bits."""
    return ArgCmp(index, CmpOp.MASKED_EQ, value, _LOW)


def _fast_open(flags: int) -> ArgCmp:
    return ArgCmp(flags, CmpOp.MASKED_EQ, _MSG_FASTOPEN, _MSG_FASTOPEN)


def _try(add: Callable[..., object], name: str, *values: object, **options: object) -> None:
    """Add a rule, if this architecture has the call; else the default refuses."""
    try:
        syscall_nr(name)
    except (ValueError, KeyError, seccompy.UnsupportedError):
        return
    add(name, *values, **options)
