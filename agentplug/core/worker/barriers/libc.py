"""The few C library calls that Python lacks (worker side). They are resolved before confinement."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os

from seccompy.syscalls import syscall_nr

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5  # since Linux 5.19

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 16384, 1 << 18


def prctl(option: int, value: int = 0, other: int = 0) -> int:
    """Call prctl(2). Raises `OSError`."""
    unsigned = ctypes.c_ulong
    result: int = _libc.prctl(option, unsigned(value), unsigned(other), unsigned(0), unsigned(0))
    return _checked(result, "prctl")


def set_name(name: str) -> None:
    """Name this process for ps(1): at most 15 bytes. Raises `OSError`."""
    buffer = ctypes.create_string_buffer(name.encode())
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def trim_heap() -> None:
    """Return free memory to the kernel: malloc_trim(3), which only glibc has."""
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(ctypes.c_size_t(0))


def unshare(flags: int) -> None:
    """Call unshare(2). Raises `OSError`."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    """Call mount(2). Raises `OSError`."""
    words = [os.fsencode(word) for word in (source, target, kind)]
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options)), "mount")


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _FilterProgram(ctypes.Structure):
    _fields_ = (("instructions", ctypes.c_ushort), ("program", ctypes.c_char_p))


def install_filter(program: bytes, *, listen: bool = False) -> int:
    """Load a compiled BPF program for good: seccomp(2). Needs no_new_privs. Raises `OSError`.

    With `listen`, returns the listener's descriptor. No signal then breaks off a call that the listener has taken,
    where the kernel can see to that: a plugin's timers would make it ask without end.
    """
    filter_program = _FilterProgram(len(program) // 8, program)
    mode = ctypes.c_ulong(SECCOMP_SET_MODE_FILTER)
    number = ctypes.c_long(syscall_nr("seccomp"))
    listening = SECCOMP_FILTER_FLAG_NEW_LISTENER
    ways = (listening | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, listening) if listen else (0,)
    for flags in ways:
        result = _libc.syscall(number, mode, ctypes.c_ulong(flags), ctypes.byref(filter_program))
        if result >= 0 or ctypes.get_errno() != errno.EINVAL:
            break
    return _checked(result, "seccomp")


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets: capset(2). Raises `OSError`."""
    header = _CapHeader(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(sets)), "capset")


def _checked(result: int, call: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
    return result
