"""The paths and ports that runs used: two parts of a proposal of `learn` (host)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agentplug.contract.record import RunRecord
from agentplug.contract.text import is_utf8, printable
from agentplug.report.learning.failure import NETWORK_CALLS, Failure, events_of
from agentplug.report.learning.probes import Places, gives_keys, is_probe
from agentplug.report.learning.proposal import REFUSED_TOO, Right

_FILES_MAKE_A_FOLDER = 4
_MOST_NAMES = 100
_ALWAYS_THERE = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_NAME_SERVER = 53
_METADATA = "a metadata service gives keys of the machine's cloud account to any program"


def in_runs(runs: Iterable[RunRecord]) -> str:
    """Return text like `run 0`, `runs 0, 3 and 5`, `runs 0, 1, 2 and 7 more`."""
    numbers = sorted({run.number for run in runs})
    if len(numbers) == 1:
        return f"run {numbers[0]}"
    if len(numbers) > 4:
        return f"runs {', '.join(map(str, numbers[:4]))} and {len(numbers) - 4} more"
    return f"runs {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}" if numbers else "no run"


class Part:
    """A part of a proposal: values, rights with reasons, and rights that aren't proposed."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.rights: list[Right] = []
        self.refused: list[Right] = []
        self._refusals: set[Right] = set()

    def refuse(self, field: str, value: str, run: RunRecord) -> None:
        """Note a refused right: one without which its run completed, or that the run's error doesn't name."""
        if run.verdict.kind == "completed":
            self.leave_out(field, value, f"was refused, and {in_runs([run])} completed without")
        else:
            self.leave_out(field, value, f"{REFUSED_TOO} ({in_runs([run])})")

    def leave_out(self, field: str, value: str, reason: str) -> None:
        """Note a right that isn't proposed, once."""
        row = Right(field, value, reason)
        if row not in self._refusals:
            self._refusals.add(row)
            self.refused.append(row)


class _Uses:
    """The runs that need one path or port, and what they did with it.

    Dicts serve as ordered sets: a plugin can make very many entries, so look-ups must be fast.
    """

    def __init__(self) -> None:
        self.runs: dict[RunRecord, None] = {}
        self.names: dict[str, None] = {}

    def add(self, run: RunRecord, name: str) -> None:
        self.runs[run] = None
        if name:
            self.names[name] = None

    def __str__(self) -> str:
        what = printable(", ".join(list(self.names)[:3]), 160) or "granted"
        more = f" and {len(self.names) - 3} more" if len(self.names) > 3 else ""
        return f"{what}{more} ({in_runs(self.runs)})"


class Files(Part):
    """The `read` and `write` rights. `scratch` has the runs that wrote to their own directory, and names of files."""

    def __init__(self, runs: list[RunRecord], blind: list[RunRecord], failures: Mapping[RunRecord, Failure]) -> None:
        super().__init__()
        self.scratch: dict[RunRecord, set[str]] = {}
        self._failures = failures
        self._places = Places()
        self._needs: dict[str, defaultdict[str, _Uses]] = {"read": defaultdict(_Uses), "write": defaultdict(_Uses)}
        for run in runs:
            if run in blind:
                for field in ("read", "write"):
                    for path in getattr(run.policy, field):
                        self._needs[field][path].add(run, "")
            for event in events_of(run, "opened"):
                self._opened(run, str(event.detail["path"]), str(event.detail["mode"]))
        self._gather()
        for field in ("read", "write"):
            self._propose(field)

    def _opened(self, run: RunRecord, path: str, mode: str) -> None:
        if path == "$HOME" or path.startswith("$HOME/"):
            names = self.scratch.setdefault(run, set()) if mode == "write" else None
            if names is not None and len(names) < _MOST_NAMES:
                names.add(os.path.basename(path))
            return
        if path in _ALWAYS_THERE or path.startswith("/proc/"):
            return
        real = os.path.realpath(path)
        policy = run.policy
        grants = policy.write if mode == "write" else (*policy.read, *policy.write)
        granted = next((place for place in grants if _inside(real, place)), None)
        if granted is None and not self._failures[run].names_path(path, real):
            self.refuse(mode, repr(path), run)
            return
        if not is_utf8(real):
            self.refused.append(Right("warning", repr(path), "no policy grants a path that isn't UTF-8"))
            return
        what = "opened" if granted is not None else "was refused"
        there_anyway = real == granted or (granted is None and os.path.exists(real))
        if mode == "read" or os.path.isdir(real) or there_anyway:
            self._needs[mode][real].add(run, what)
        else:  # the file may have to be made, which needs a right to its folder
            folder = os.path.dirname(real)
            while not os.path.isdir(folder):
                folder = os.path.dirname(folder)
            if granted is not None and not _inside(folder, granted):
                folder = granted
            self._needs[mode][folder].add(run, f"{what}: {os.path.basename(real)}")

    def _gather(self) -> None:
        """Replace many files of a granted folder by the folder, and drop paths inside of other rights."""
        reads, writes = self._needs["read"], self._needs["write"]
        folders: dict[str, list[str]] = {}
        for path in reads:
            folders.setdefault(os.path.dirname(path), []).append(path)
        for folder, paths in folders.items():
            runs = dict.fromkeys(run for path in paths for run in reads[path].runs)
            granted = all(any(_inside(folder, place) for place in (*r.policy.read, *r.policy.write)) for r in runs)
            if len(paths) >= _FILES_MAKE_A_FOLDER and granted and not self._places.reason_against("read", folder):
                for run in runs:
                    reads[folder].add(run, f"opened {len(paths)} files in it")
        for needs, others in ((writes, writes), (reads, {**reads, **writes})):
            for path in list(needs):
                if any(folder in others for folder in _around(path)) or (needs is reads and path in writes):
                    del needs[path]

    def _propose(self, field: str) -> None:
        needs = self._needs[field]
        for path in list(needs):
            if why := self._places.reason_against(field, path):
                self.leave_out(field, repr(path), f"{why}; {needs.pop(path)}")
        if needs:
            self.values[field] = tuple(sorted(needs))
        self.rights += [Right(field, repr(path), str(needs[path])) for path in sorted(needs)]


class Network(Part):
    """The `network` right: the TCP ports that runs connected to, or all of it if ports can't express the use."""

    def __init__(self, runs: list[RunRecord], blind: list[RunRecord], failures: Mapping[RunRecord, Failure]) -> None:
        super().__init__()
        self._failures = failures
        self._ports: defaultdict[int, _Uses] = defaultdict(_Uses)
        self._whole: dict[str, list[RunRecord]] = {}
        for run in runs:
            if run in blind and run.policy.network is True:
                self._whole.setdefault("as in the runs: not observed", []).append(run)
            elif run in blind and isinstance(run.policy.network, tuple):
                for port in run.policy.network:
                    self._ports[port].add(run, "as in the runs")
            self._used(run)
            self._refused(run)
        if self._whole:
            self.values["network"] = True
            whys = [f"{printable(why, 160)} ({in_runs(whose)})" for why, whose in self._whole.items()]
            more = f", and {len(whys) - 3} more" if len(whys) > 3 else ""
            self.rights.append(Right("network", "True", "; ".join(whys[:3]) + more))
        elif self._ports:
            self.values["network"] = tuple(sorted(self._ports))
            self.rights += [Right("network", str(port), str(self._ports[port])) for port in sorted(self._ports)]

    def _used(self, run: RunRecord) -> None:
        connected = list(events_of(run, "connected"))
        by_tcp = {event.detail["address"] for event in connected if event.detail.get("protocol") == "tcp"}
        for event in connected:
            address, protocol = str(event.detail["address"]), str(event.detail.get("protocol", ""))
            port = _port_of(address)
            if protocol != "tcp" and is_probe("connect", address):
                continue
            if gives_keys(address):
                self.leave_out("network", f"connect {address}", f"{_METADATA} ({in_runs([run])})")
                continue
            if protocol == "udp" and address in by_tcp:
                continue  # the C library connects a UDP socket only to look up the route
            if not protocol and port == _NAME_SERVER:
                protocol = "udp"
            if protocol not in ("", "tcp"):
                why = f"talked to {address} by {protocol.upper()}, and ports grant TCP alone"
                self._whole.setdefault(why, []).append(run)
            elif port:
                taken = "" if protocol else ", taken for TCP"
                self._ports[port].add(run, f"connected to {address}{taken}")
        for event in events_of(run, "bound"):
            if is_probe("bind", str(event.detail["address"])):
                continue
            why = f"bound {event.detail['address']}, and ports grant connecting alone"
            self._whole.setdefault(why, []).append(run)

    def _refused(self, run: RunRecord) -> None:
        completed = run.verdict.kind == "completed"
        for event in events_of(run, "tried"):
            call, argument = str(event.detail["syscall"]), str(event.detail["argument"])
            if call not in NETWORK_CALLS:
                continue
            port = _port_of(argument)
            if argument.startswith(("unix:", "AF_")) and not argument.startswith("AF_INET"):
                if not completed:
                    self.leave_out("warning", f"{call} {argument}", f"no policy grants this ({in_runs([run])})")
            elif gives_keys(argument):
                self.leave_out("network", f"{call} {argument}", f"{_METADATA} ({in_runs([run])})")
            elif not self._failures[run].names_call(call, argument):
                self.refuse("network", f"{call} {argument}", run)
            elif call == "connect" and port and port != _NAME_SERVER:
                self._ports[port].add(run, f"was refused to connect to {argument}, taken for TCP")
            else:
                why = f"was refused {call} {argument}, and ports grant connecting by TCP alone"
                if call == "socket":
                    why = f"was refused a socket ({argument}); to where isn't known"
                self._whole.setdefault(why, []).append(run)


def _inside(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place.rstrip('/')}/")


def _around(path: str) -> Iterator[str]:
    """Yield the folders around an absolute path, innermost first."""
    while (folder := os.path.dirname(path)) != path:
        yield folder
        path = folder


def _port_of(address: str) -> int:
    port = address.rpartition(":")[2]
    return int(port) if port.isascii() and port.isdigit() and 0 < int(port) < 65536 else 0
