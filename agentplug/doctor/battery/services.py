"""Services of this machine that no plugin may call: sockets that record any contact (host)."""

from __future__ import annotations

import contextlib
import socket
import uuid
from pathlib import Path


class Services:
    """One service of each kind: `tcp` and `udp` are ports on the loopback interface, `path` is a socket in the file
    system, `abstract` and `datagram` are names of abstract sockets, with an @ for the zero byte."""

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
        service = self._sockets[kind] = socket.socket(family, style)
        service.setblocking(False)
        service.bind(address)
        if style == socket.SOCK_STREAM:
            service.listen()

    def contacts(self) -> list[str]:
        """List the contacts since the last time, with the bytes received."""
        contacts = []
        for kind, listening in self._sockets.items():
            with contextlib.suppress(BlockingIOError):
                if listening.type != socket.SOCK_STREAM:
                    contacts.append(f"the {kind} service got {len(listening.recv(4096))} bytes")
                    continue
                with listening.accept()[0] as connection:
                    connection.settimeout(0.2)
                    said = b""
                    with contextlib.suppress(OSError):
                        said = connection.recv(4096)
                    contacts.append(f"the {kind} service was called and got {len(said)} bytes")
        return contacts

    def close(self) -> None:
        """Stop listening."""
        for listening in self._sockets.values():
            listening.close()
