"""The base class of the zoo's plugins, and system calls that Python lacks (worker side)."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MIB = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_X86 = os.uname().machine == "x86_64"
_NUMBERS = {  # on x86-64, and in the table that newer architectures share (aarch64, riscv64)
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clone3": (435, 435),
    "exit": (60, 93),
    "getpid": (39, 172),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kill": (62, 129),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "tgkill": (234, 131),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}


class ZooPlugin:
    """The base class of the zoo's plugins. The default name is the class name in words."""

    name = "beast"
    version = "1.0"

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cls.__name__).lower()

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Do nothing."""

    async def process(self, input_data: Any) -> Any:
        """Attack."""
        raise NotImplementedError


class TargetPlugin(ZooPlugin):
    """An attack on other processes, with `attack`: tried on one after the other until it succeeds."""

    async def process(self, input_data: Any) -> Any:
        """Attack the processes `input_data`, one or a list, or else the parent."""
        return first_success(target_pids(input_data), self.attack)

    def attack(self, pid: int) -> Any:
        """Attack one process. Raises `OSError` if a barrier stops it."""
        raise NotImplementedError


def spin() -> None:
    """Loop for ever."""
    while True:
        pass


def checked(result: int, call: str) -> int:
    """Return the result of a C library call. Raises `OSError` with its errno if the call failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def syscall(name: str, *arguments: int) -> int:
    """Make a system call by its number, without the C library's wrapper. Raises `OSError`."""
    words = [ctypes.c_long(argument) for argument in arguments]
    return checked(_libc.syscall(ctypes.c_long(_NUMBERS[name][not _X86]), *words), name)


def libc(name: str, *arguments: Any) -> int:
    """Call a function of the C library. Raises `OSError`."""
    return checked(getattr(_libc, name)(*arguments), name)


def prctl(option: int, value: int) -> int:
    """Call prctl(2) with one value. Raises `OSError`."""
    return libc("prctl", option, *(ctypes.c_ulong(word) for word in (value, 0, 0, 0)))


def target_pids(input_data: Any) -> list[int]:
    """Return the process ids to attack: those in `input_data`, one or a list; else the parent's."""
    if isinstance(input_data, list):
        return [int(pid) for pid in input_data]
    return [input_data if isinstance(input_data, int) else os.getppid()]


def as_int(input_data: Any, default: int) -> int:
    """Return `input_data` if it is an int, else `default`."""
    return input_data if isinstance(input_data, int) else default


def first_success(subjects: Iterable[Any], attempt: Callable[[Any], Any]) -> Any:
    """Return the first result of `attempt` that is no `OSError`. Raises the last error if all fail.

    The first subject should be a target that may be harmed: a successful attack spares the others.
    """
    refusal: OSError | None = None
    for subject in subjects:
        try:
            return attempt(subject)
        except OSError as error:
            refusal = error
    if refusal is not None:
        raise refusal
    return None


def all_successes(subjects: Iterable[Any], attempt: Callable[[Any], Any]) -> list[Any]:
    """Return the results of `attempt` that are no `OSError`. Raises the last error if all fail."""
    results, refusal = [], None
    for subject in subjects:
        try:
            results.append(attempt(subject))
        except OSError as error:
            refusal = error
    if refusal is not None and not results:
        raise refusal
    return results
