"""What the zoo's plugins have in common (worker side): the plugin contract, and a few calls that Python lacks."""

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


class Beast:
    """The part of a plugin that the zoo's plugins share. A name comes from the class's own, unless it has another."""

    name = "beast"
    version = "1.0"

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cls.__name__).lower()

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Do harm."""
        raise NotImplementedError


def checked(result: int, call: str) -> int:
    """`result` of a call of the C library. Raises the `OSError` of its errno if it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def syscall(name: str, *arguments: int) -> int:
    """A system call by its number, past every wrapper. Raises `OSError`."""
    words = [ctypes.c_long(argument) for argument in arguments]
    return checked(_libc.syscall(ctypes.c_long(_NUMBERS[name][not _X86]), *words), name)


def libc(name: str, *arguments: Any) -> int:
    """A function of the C library. Raises `OSError`."""
    return checked(getattr(_libc, name)(*arguments), name)


def prctl(option: int, value: int) -> int:
    """prctl(2) with one value. Raises `OSError`."""
    return libc("prctl", option, *(ctypes.c_ulong(word) for word in (value, 0, 0, 0)))


def processes(input_data: Any) -> list[int]:
    """Whom to attack: the process ids in `input_data`, one or a list; else the parent."""
    if isinstance(input_data, list):
        return [int(pid) for pid in input_data]
    return [input_data if isinstance(input_data, int) else os.getppid()]


def number(input_data: Any, otherwise: int) -> int:
    """How often or how much: `input_data` if it is a number."""
    return input_data if isinstance(input_data, int) else otherwise


def on_one(subjects: Iterable[Any], attempt: Callable[[Any], Any]) -> Any:
    """Attempt it on one after the other until it works: what came of it. Raises the last refusal if it never did.

    So an attack that works on the first, which should be somebody whom it may harm, spares the others.
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


def on_each(subjects: Iterable[Any], attempt: Callable[[Any], Any]) -> list[Any]:
    """Attempt it on each: what came of those where it worked. Raises the last refusal where it worked on none."""
    done, refusal = [], None
    for subject in subjects:
        try:
            done.append(attempt(subject))
        except OSError as error:
            refusal = error
    if refusal is not None and not done:
        raise refusal
    return done
