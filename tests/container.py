"""Run a command as uid 1000 in the environment of a default container, or plainly as uid 1000.

    python tests/container.py [--uid 1000] [--no-container] -- COMMAND ARG...

Started as root. The container takes away what containerd's RuntimeDefault profile and runc's default spec take away
with all capabilities dropped: the bounding set, new privileges, writable cgroups and /sys, the masked paths of /proc,
all but 64 MB of /dev/shm, and the system calls in `seccomp_filter`. A container's process namespace and root file
system are not imitated. `--no-container` switches the user and nothing else. Either way HOME and TMPDIR are fresh and
wiped at the end.

What must stay true: the exit status is the command's (128 + N for signal N), signals are passed on, nothing that the
command started outlives this script, and if this script is killed the command is killed too.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from seccompy import Filter

CLONE_NEWNS = 0x00020000
CLONE_NEW_ANY = 0x7E020000  # every CLONE_NEW* flag that clone(2) takes
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 24, 36, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAP_VERSION_3 = 0x20080522
SI_KERNEL = 0x80  # si_code of a signal typed at the terminal, which the command gets by itself
AF_VSOCK = 40

MASKED = """
    /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi
    /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware
""".split()
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# What RuntimeDefault leaves out of its allowlist, or allows only with a capability that uid 1000 hasn't; it answers
# EPERM. ptrace, process_vm_*, pidfd_open, landlock_*, seccomp, prlimit64 and memfd_create are allowed there, so here.
DENIED = """
    _sysctl acct add_key bpf chroot clock_settime create_module delete_module fanotify_init finit_module fsconfig
    fsmount fsopen fspick get_kernel_syms get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup
    ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind migrate_pages mount mount_setattr
    move_mount move_pages nfsservctl open_by_handle_at open_tree open_tree_attr perf_event_open pidfd_getfd pivot_root
    process_madvise query_module quotactl quotactl_fd reboot request_key set_mempolicy set_mempolicy_home_node
    setdomainname sethostname setns settimeofday swapoff swapon sysfs syslog umount2 unshare uselib userfaultfd ustat
    vhangup
""".split()
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# Directories and sockets of the user who starts this; uid 1000 can't use them and a container wouldn't know of them.
FOREIGN_ENV = re.compile(
    r"(XDG|SUDO|JUPYTER|JPY)_.*|IPYTHONDIR|MPLCONFIGDIR|PYTHONPYCACHEPREFIX|MAIL|TMP|TEMP|SSH_AUTH_SOCK|DBUS_.*"
)
FORWARDED = {getattr(signal, f"SIG{name}") for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH")}
GRACE_S = 1.0  # for processes that are dying with the command by themselves

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, doing: str) -> int:
    """`result`, or `OSError` where it says that a libc call failed."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{doing}: {os.strerror(code)}")
    return result


def prctl(option: int, arg2: int = 0, arg3: int = 0) -> None:
    args = (ctypes.c_ulong(value) for value in (arg2, arg3, 0, 0))
    check(libc.prctl(option, *args), f"prctl({option}, {arg2})")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    raw = [text.encode() if text is not None else None for text in (source, target, kind, options)]
    check(
        libc.mount(raw[0], raw[1], raw[2], ctypes.c_ulong(flags), raw[3]), f"mount {kind or source or ''} on {target}"
    )


def mounts() -> Iterator[tuple[str, str]]:
    """Mount point and file system type of every mount of this namespace."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), left.split()[4])
        yield point, right.split()[0]


def confine_mounts() -> None:
    """Give this process a private view of the mounts with what runc makes read-only or masks."""
    check(libc.unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    guarded = MS_NOSUID | MS_NODEV | MS_NOEXEC
    for point, kind in list(mounts()):
        if kind in {"cgroup", "cgroup2"} or (point + "/").startswith("/sys/"):
            mount(None, point, None, MS_REMOUNT | MS_BIND | MS_RDONLY | guarded)
    for path in filter(os.path.exists, READ_ONLY):
        mount(path, path, None, MS_BIND | MS_REC)
        mount(None, path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | guarded)
    for path in filter(os.path.exists, MASKED):
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", MS_RDONLY | guarded, "size=4k")
        else:
            mount("/dev/null", path, None, MS_BIND)
    if os.path.isdir("/dev/shm"):
        mount("shm", "/dev/shm", "tmpfs", guarded, "mode=1777,size=64m")


def drop_bounding_set() -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        prctl(PR_CAPBSET_DROP, capability)


def switch_user(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header, nothing = struct.pack("Ii", CAP_VERSION_3, 0), bytes(24)
    check(libc.capset(header, nothing), "capset")


def seccomp_filter() -> Filter:
    """The denials of RuntimeDefault, as a filter that allows the rest (seccompy's kills calls of foreign ABIs)."""
    from seccompy import ArgCmp, CmpOp, Filter
    from seccompy.syscalls import X86_64_SYSCALLS, syscall_nr

    rules = Filter()
    for name in DENIED:
        try:
            syscall_nr(name)
        except (KeyError, ValueError):
            if name in X86_64_SYSCALLS:
                continue  # this architecture has no such call
            raise
        rules.errno(name, errno.EPERM)
    rules.errno("clone3", errno.ENOSYS)  # its flags are out of a filter's sight, so libc is sent back to clone
    rules.allow("clone", args=[ArgCmp(0, CmpOp.MASKED_EQ, 0, CLONE_NEW_ANY)])
    rules.errno("clone", errno.EPERM)
    for value in PERSONALITIES:
        rules.allow("personality", args={0: value})
    rules.errno("personality", errno.EPERM)
    rules.errno("socket", errno.EPERM, args={0: AF_VSOCK})
    return rules


def environment(uid: int, base: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not FOREIGN_ENV.fullmatch(name)}
    user = f"user{uid}"
    return kept | {"HOME": str(base / "home"), "TMPDIR": str(base / "tmp"), "USER": user, "LOGNAME": user}


def become(
    command: list[str], uid: int, contained: bool, *, base: Path, parent: int, mask: set[signal.Signals | int]
) -> NoReturn:
    """In the child: take everything away, then exec `command`.

    Exits with 125 where something can't be taken away, with 126 or 127 where the command can't be run.
    """
    status = 125
    try:
        os.umask(0o022)
        rules = seccomp_filter() if contained else None
        if contained:
            confine_mounts()
            drop_bounding_set()
        switch_user(uid)
        if contained:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # only now: a change of user clears it
        if os.getppid() != parent:
            os._exit(125)
        here = os.getcwd()  # by its full name: an inherited directory stays open to those who couldn't walk there
        if not os.access(here, os.R_OK | os.X_OK):
            raise PermissionError(f"uid {uid} can't read {here}: start this from a directory that it can read")
        env = environment(uid, base)
        status = 127
        program = shutil.which(command[0], path=env.get("PATH", os.defpath))
        if program is None:
            raise FileNotFoundError(f"uid {uid} finds no program {command[0]} that it may execute")
        status = 126
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if rules is not None:
            rules.load()
        os.execve(program, command, env)
    except BaseException as error:
        os.write(2, f"container.py: {error}\n".encode())
    os._exit(status)


def supervise(child: int) -> int:
    """Pass signals on until `child` has ended; its exit status, or 128 + the signal that ended it."""
    while True:
        info = signal.sigwaitinfo(FORWARDED | {signal.SIGCHLD})
        if info.si_signo != signal.SIGCHLD:
            if info.si_code != SI_KERNEL:
                os.kill(child, info.si_signo)
            continue
        for pid, status in reap():
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def reap() -> Iterator[tuple[int, int]]:
    """Every child that has ended, with its wait status: the command, or an orphan that came to this subreaper."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def orphans() -> dict[int, str]:
    """Living children of this process and what they are called."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (entry / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, ppid = rest.split()[:2]
        if int(ppid) == os.getpid() and state != "Z":
            found[int(entry.name)] = name
    return found


def clear_orphans() -> None:
    """Name and kill what the command left running."""
    deadline = time.monotonic() + GRACE_S
    while (left := orphans()) and time.monotonic() < deadline:
        time.sleep(0.02)
        list(reap())
    if left:
        told = ", ".join(f"{name} ({pid})" for pid, name in left.items())
        print(f"container.py: the command left {len(left)} processes behind, now killed: {told}", file=sys.stderr)
    while left:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        list(reap())
        left = orphans()


def run(command: list[str], uid: int = 1000, contained: bool = True) -> int:
    """Run `command` in the environment and return its exit status."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    base = Path(tempfile.mkdtemp(prefix="ap-", dir="/tmp"))  # a short path: socket addresses hold 107 bytes
    try:
        base.chmod(0o755)
        for name in ("home", "tmp"):
            (base / name).mkdir(mode=0o700)
            os.chown(base / name, uid, uid)
        sys.stdout.flush()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            become(command, uid, contained, base=base, parent=parent, mask=mask)
        status = supervise(child)
        clear_orphans()
    finally:
        shutil.rmtree(base)
    return status


def main() -> int:
    parser = argparse.ArgumentParser(prog="container.py", description=__doc__.splitlines()[0])
    parser.add_argument("--uid", type=int, default=1000, help="the user and group to become (default 1000)")
    parser.add_argument("--no-container", action="store_true", help="switch the user and nothing else")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print(
            f"container.py: started as uid {os.geteuid()}; only root can switch users and mount. Start it as root.",
            file=sys.stderr,
        )
        return 2
    return run(options.command, options.uid, not options.no_container)


if __name__ == "__main__":
    sys.exit(main())
