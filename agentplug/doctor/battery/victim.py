"""Processes as targets of attacks, and their settings that others may change (host)."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from pathlib import Path

import psutil

_ANSWER_S, _DYING_S = 2.0, 0.5

# The victim allows tracing where Yama would forbid it, records every signal, and prints its secret for each line.
_SCRIPT = """
import ctypes, signal, sys
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
heard = []
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    if number < 32:
        signal.signal(number, lambda number, frame: heard.append(signal.Signals(number).name))
secret = ctypes.create_string_buffer(sys.stdin.readline().strip().encode())
print(ctypes.addressof(secret), flush=True)
for line in sys.stdin:
    print(secret.value.decode("latin-1"), *heard, flush=True)
"""


class Victim:
    """A process of this user's, with a secret in its memory at `address` and another in its environment."""

    def __init__(self, secret: str, token: str) -> None:
        self._secret = secret
        self._process = subprocess.Popen(
            [sys.executable, "-Ic", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"TOKEN": token},
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.address = int(self._ask(secret) or 0)
        self._settings = settings(self.pid)

    def damage(self) -> list[str]:
        """List the damage to the victim."""
        answer = self._ask("")
        if answer is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return [f"the victim was ended ({self._process.wait(_DYING_S)})"]
        changed = [f"the victim's {name} changed" for name in differences(self._settings, settings(self.pid))]
        if answer is None:
            return [*changed, "the victim was stopped: it doesn't answer"]
        secret, *heard = answer.split(" ")
        if secret != self._secret:
            changed.append("the victim's memory was written to")
        return changed + [f"the victim got {name}" for name in heard]

    def _ask(self, line: str) -> str | None:
        """Send `line` and return the answer; None if none comes in time."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        except OSError:
            return None
        patience_s = _ANSWER_S if hasattr(self, "address") else 10 * _ANSWER_S  # a busy machine starts Python slowly
        if not select.select([process.stdout], [], [], patience_s)[0]:
            return None
        return process.stdout.readline().decode().rstrip("\n") or None

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def settings(pid: int) -> dict[str, str]:
    """Read the settings of a process that others may change: limits, priorities, affinity, tracer.

    Empty if the process is gone.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        score = Path(f"/proc/{pid}/oom_score_adj").read_text()
        io_priority = psutil.Process(pid).ionice()
    except (OSError, psutil.NoSuchProcess):
        return {}
    fields = dict(line.split(":", 1) for line in status if line.startswith(("TracerPid:", "Cpus_allowed_list:")))
    return {
        "limits": "\n".join(line for line in limits if "cpu time" not in line),  # the host itself changes that one
        "priority": f"{stat[16]} {io_priority}",
        "scheduler": stat[38],
        "affinity": fields["Cpus_allowed_list"],
        "tracer": fields["TracerPid"],
        "oom_score_adj": score,
    }


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """List the names of the settings that have changed."""
    return [name for name, value in before.items() if now.get(name) != value]


def own_memory_kb(field: str) -> int:
    """Read `VmRSS` or `VmHWM` of this process, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def forget_peak() -> None:
    """Reset this process's VmHWM, see proc(5)."""
    Path("/proc/self/clear_refs").write_text("5")
