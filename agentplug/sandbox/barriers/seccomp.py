"""System calls by seccomp (worker side): seccomp(2). What isn't on the list is refused, x32 and new calls included.

Two filters, of which the stricter answer holds: `base_filter` depends on the policy alone; `own_filter` knows this
worker's pid, and lets signals and limits concern nobody else. Both are compiled in the zygote, the second with a
pid that isn't one, in whose place the worker writes its own. Conditions
compare whole 64-bit arguments when they allow, so that garbage in the upper half never opens a door.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import sys

import seccompy
from seccompy import Action, ArgCmp, CmpOp, Filter
from seccompy.syscalls import syscall_nr

from agentplug.contract.wire import BarrierReport, Plan
from agentplug.sandbox.barriers import landlock, libc

NAME = "seccomp"
PROTECTS = "other processes and the kernel: fork, exec, sockets, ptrace, prlimit, mounts, namespaces, memfd, …"

_ALLOWED = """
access alarm arch_prctl brk capget chdir clock_getres clock_gettime clock_nanosleep close close_range
copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait
eventfd eventfd2 exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fdatasync fgetxattr
flistxattr flock fstat fstatfs fsync ftruncate futex futex_wait futex_wake futex_waitv get_robust_list get_mempolicy
getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid
getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid
gettimeofday getuid getxattr lgetxattr link linkat listxattr llistxattr lseek lstat madvise membarrier mincore
mkdir mkdirat mlock mlock2 mmap mprotect mremap msync munlock munmap nanosleep newfstatat open openat pause pipe
pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll pread64 preadv preadv2 pselect6 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv recvfrom recvmsg rename renameat renameat2 restart_syscall rmdir rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getparam sched_getscheduler sched_rr_get_interval sched_yield select
sendfile set_robust_list set_tid_address setitimer setsockopt shutdown sigaltstack splice stat statfs statx symlink
symlinkat sync_file_range sysinfo tee time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
timerfd_create timerfd_gettime timerfd_settime times truncate umask uname unlink unlinkat wait4 waitid
write writev
""".split()

_PRCTL_ALLOWED = (2, 3, 15, 16, 21, 23, 27, 30, 37, 38, 39, 40, 41, 42, 0x53564D41)  # reads, names, harmless sets
_MISSING = ("clone3", "openat2")  # callers fall back on a call whose arguments can be checked
_NEW_NAMESPACES = 0x7E020080
_CLONE_THREAD = 0x00010000
_MSG_FASTOPEN = 0x20000000
_IOCTL_REFUSED = (0x5412, 0x541C, 0x8901, 0x8902)  # TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE (blocks others), F_NOTIFY
_LOW = 0xFFFFFFFF
_NO_PID = 0x7E57ABCD  # above the most that pid_max allows (2**22), and no other number in the filter


def apply(plan: Plan) -> BarrierReport:
    """Install both filters; nothing later in this process can take them off."""
    scoped = landlock.abi() >= 6
    try:
        libc.install_filter(own_program(os.getpid(), anyone_in_scope=bool(plan.processes) and scoped))
        _compiled(plan).load()
    except OSError as error:
        return BarrierReport(
            NAME,
            PROTECTS,
            "unavailable",
            f"{error.strerror or error}",
            ["host", "network", "processes"],
            "use a kernel with CONFIG_SECCOMP_FILTER, in a container that allows the seccomp system call",
        )
    return BarrierReport(NAME, PROTECTS, "enforced", "a list of allowed system calls, arguments checked")


def compile_ahead(plan: Plan) -> bool:
    """Compile this plan's filters now (in the zygote, so that every worker forked later finds them ready).

    True if they were ready already.
    """
    before = base_filter.cache_info().misses + _own_template.cache_info().misses
    _compiled(plan).program  # noqa: B018  (a property that compiles and keeps the program)
    _own_template(bool(plan.processes) and landlock.abi() >= 6)
    return before == base_filter.cache_info().misses + _own_template.cache_info().misses


def compile_usual() -> None:
    """Compile the filters of a policy that grants neither network nor processes."""
    base_filter(False, False, landlock.abi() >= 3).program  # noqa: B018
    _own_template(False)


def _compiled(plan: Plan) -> Filter:
    network = plan.network if isinstance(plan.network, bool) else None
    return base_filter(network, plan.processes > 0, landlock.abi() >= 3)


@functools.lru_cache(maxsize=32)
def base_filter(network: bool | None, processes: bool, truncation_covered: bool) -> Filter:
    """The filter of a policy. `network` is None when single TCP ports are granted (Landlock chooses among them)."""
    rules = Filter(default=int(Action.ERRNO) | errno.EPERM)
    missing = set() if truncation_covered else {"truncate", "open", "openat", "creat"}
    for name in _ALLOWED:
        if name not in missing:
            _try(rules.allow, name)
    if not truncation_covered:
        for name, flags in (("open", 1), ("openat", 2)):
            truncating = [ArgCmp(flags, CmpOp.MASKED_EQ, os.O_TRUNC, os.O_TRUNC | os.O_ACCMODE)]
            _try(rules.errno, name, errno.EPERM, args=truncating)
            _try(rules.allow, name)
    for name in _MISSING:
        _try(rules.errno, name, errno.ENOSYS)
    # Memory that no process maps shows in no footprint: refused as memory is, so that the verdict says so.
    _try(rules.errno, "memfd_create", errno.ENOMEM)
    _try(rules.errno, "shmget", errno.ENOMEM)
    # A descriptor may send its owner any signal when there is input; an owner can be any process of this user.
    for name, refused in (("ioctl", _IOCTL_REFUSED), ("fcntl", _FCNTL_REFUSED)):
        for request in refused:
            _try(rules.errno, name, errno.EPERM, args=[ArgCmp(1, CmpOp.MASKED_EQ, request, _LOW)])
        _try(rules.allow, name)
    for option in _PRCTL_ALLOWED:
        _try(rules.allow, "prctl", args={0: option})
    for persona in (0, 0xFFFFFFFF):
        _try(rules.allow, "personality", args={0: persona})
    for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "prlimit64", "sched_setaffinity"):
        _try(rules.allow, name)  # the other filter looks at whom they concern
    _processes(rules, processes)
    _sockets(rules, network)
    return rules


def _processes(rules: Filter, granted: bool) -> None:
    if granted:
        _try(rules.allow, "clone", args=[ArgCmp(0, CmpOp.MASKED_EQ, 0, _NEW_NAMESPACES)])
        for name in ("fork", "vfork", "execve", "execveat", "setpgid", "setsid"):
            _try(rules.allow, name)
        return
    _try(rules.allow, "clone", args=[ArgCmp(0, CmpOp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD)])
    for name in ("clone", "fork", "vfork"):
        _try(rules.errno, name, errno.EAGAIN)  # what a process limit answers, see fork(2)


def _sockets(rules: Filter, network: bool | None) -> None:
    # A pair of connected streams is all that asyncio needs; a datagram pair could still name other addresses.
    stream = ArgCmp(1, CmpOp.MASKED_EQ, int(socket.SOCK_STREAM), 0xF)
    _try(rules.allow, "socketpair", args=[ArgCmp(0, CmpOp.EQ, int(socket.AF_UNIX)), stream])
    families = (int(socket.AF_INET), int(socket.AF_INET6))
    if network is False:
        _try(rules.allow, "sendto")  # not sendmsg: descriptors under way in it would be in nobody's count
        return
    if network is True:
        for family in families:
            _try(rules.allow, "socket", args={0: family})
        for name in "sendto sendmsg sendmmsg recvmmsg connect bind listen accept accept4".split():
            _try(rules.allow, name)
        return
    # Landlock knows TCP alone: no datagrams, no MPTCP, and no connection hidden in a first send.
    for family in families:
        for protocol in (0, int(socket.IPPROTO_TCP)):
            granted = [ArgCmp(0, CmpOp.EQ, family), stream, ArgCmp(2, CmpOp.EQ, protocol)]
            _try(rules.allow, "socket", args=granted)
    for name, flags in (("sendto", 3), ("sendmsg", 2)):
        fast_open = [ArgCmp(flags, CmpOp.MASKED_EQ, _MSG_FASTOPEN, _MSG_FASTOPEN)]
        _try(rules.errno, name, errno.EPERM, args=fast_open)
        _try(rules.allow, name)
    _try(rules.allow, "connect")


def own_program(pid: int, *, anyone_in_scope: bool) -> bytes:
    """The compiled filter for `pid`: the template with the pid in place of the one that isn't."""
    template = _own_template(anyone_in_scope)
    words = [template[at : at + 4] for at in range(0, len(template), 4)]
    nobody, own = (number.to_bytes(4, sys.byteorder) for number in (_NO_PID, pid))
    return b"".join(own if word == nobody else word for word in words)


@functools.cache
def _own_template(anyone_in_scope: bool) -> bytes:
    return own_filter(_NO_PID, anyone_in_scope).program


def own_filter(pid: int, anyone_in_scope: bool) -> Filter:
    """Signals, limits and affinity of this process alone (or, for signals, of its Landlock domain)."""
    rules = Filter(default=Action.ALLOW)
    for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        if not anyone_in_scope:
            _try(rules.allow, name, args={0: pid})
            _try(rules.errno, name, errno.EPERM)
    for subject in (0, pid):
        _try(rules.allow, "prlimit64", args={0: subject, 2: 0})  # 2: no new limit, only a look
        _try(rules.allow, "sched_setaffinity", args={0: subject})
    _try(rules.errno, "prlimit64", errno.EPERM)
    _try(rules.errno, "sched_setaffinity", errno.EPERM)
    return rules


def _try(add: object, name: str, *values: object, **options: object) -> None:
    """Add a rule for a call that this architecture has; the others need none, since the default refuses."""
    try:
        syscall_nr(name)
    except (ValueError, KeyError, seccompy.UnsupportedError):
        return
    add(name, *values, **options)  # type: ignore[operator]
