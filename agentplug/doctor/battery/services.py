"""Services of this machine that nobody should call: sockets that note any contact (host)."""

from __future__ import annotations

import contextlib
import socket
import uuid
from pathlib import Path


class Services:
    """One of each kind, on the loopback interface and without: `tcp` and `udp` are ports, `path` is a socket's in the
    file system, `abstract` and `datagram` are names, with an @ for the zero byte."""

    def __init__(self, folder: Path) -> None:
        self._sockets: dict[str, socket.socket] = {}
        self.path = str(folder / "socket")
        self.abstract, self.datagram = (f"@agentplug-{uuid.uuid4().hex}" for _ in range(2))
        try:
            self._open("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
            self._open("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
            self._open("path", socket.AF_UNIX, socket.SOCK_STREAM, self.path)
            self._open("abstract", socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.abstract[1:])
            self._open("datagram", socket.AF_UNIX, socket.SOCK_DGRAM, "\0" + self.datagram[1:])
        except BaseException:
            self.close()
            raise
        self.tcp, self.udp = (int(self._sockets[kind].getsockname()[1]) for kind in ("tcp", "udp"))

    def _open(self, kind: str, family: int, style: int, address: str | tuple[str, int]) -> None:
        opened = self._sockets[kind] = socket.socket(family, style)
        opened.setblocking(False)
        opened.bind(address)
        if style == socket.SOCK_STREAM:
            opened.listen()

    def contacts(self) -> list[str]:
        """Who was called since the last time, and what was said."""
        found = []
        for kind, listening in self._sockets.items():
            with contextlib.suppress(BlockingIOError):
                if listening.type != socket.SOCK_STREAM:
                    found.append(f"the {kind} service got {len(listening.recv(4096))} bytes")
                    continue
                with listening.accept()[0] as connection:
                    connection.settimeout(0.2)
                    said = b""
                    with contextlib.suppress(OSError):
                        said = connection.recv(4096)
                    found.append(f"the {kind} service was called and got {len(said)} bytes")
        return found

    def close(self) -> None:
        """Stop listening."""
        for listening in self._sockets.values():
            listening.close()
