"""System calls that are refused and reported, or only reported (both sides; plain data).

The host answers these calls itself (seccomp_unotify(2)). If it doesn't listen, the worker's filter refuses them with
the same error. Other calls without a right to them are refused silently.
"""

from __future__ import annotations

import errno

FORKS = ("clone", "fork", "vfork")
EXECS = ("execve", "execveat")
CLOCKS = ("clock_gettime", "clock_getres", "clock_nanosleep", "timer_create")
"""Their first argument names a clock, maybe that of another process."""
OPENS = ("open", "openat", "creat")
SIZED = {"mmap": "memory", "mremap": "memory", "ftruncate": "disk", "fallocate": "disk"}
"""Calls that ask for an amount, and the limit on that."""
SHARED_MASK, SHARED_MEMORY = 0x2F, 0x21
"""The type and MAP_ANONYMOUS among the flags of mmap(2), and those of a map of shared anonymous memory."""
REFUSED = """
ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_open pidfd_getfd pidfd_send_signal
setpriority setsid ioprio_set sched_setscheduler sched_setparam sched_setattr mount umount2 pivot_root chroot
move_mount open_tree fsopen fsmount mount_setattr unshare setns init_module finit_module delete_module
kexec_load bpf perf_event_open io_uring_setup userfaultfd keyctl add_key request_key memfd_create memfd_secret
shmget shmat msgget semget mq_open vmsplice setuid setgid setreuid setregid setresuid setresgid setgroups reboot
swapon swapoff acct settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname syslog
open_by_handle_at fanotify_init quotactl
""".split()
"""No policy grants these."""

PRCTL_REFUSED = {1: "PR_SET_PDEATHSIG", 4: "PR_SET_DUMPABLE", 35: "PR_SET_MM", 0x59616D61: "PR_SET_PTRACER"}

_ERRORS = {
    # As a limit on processes does, see fork(2).
    **dict.fromkeys(FORKS, errno.EAGAIN),
    # No footprint shows memory that no process maps. Refused as memory is, so that the verdict says so.
    "memfd_create": errno.ENOMEM,
    "shmget": errno.ENOMEM,
}


def error_of(name: str) -> int:
    """Return the errno with which a refused call fails."""
    return _ERRORS.get(name, errno.EPERM)
