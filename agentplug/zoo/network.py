"""Plugins that use the network, or this machine's services (worker side)."""

from __future__ import annotations

import array
import socket
from pathlib import Path
from typing import Any

from agentplug.zoo._base import ZooPlugin, all_successes

SECRET = b"what the plugin was told in confidence"


def _send(family: int, kind: int, address: Any) -> str:
    with socket.socket(family, kind) as client:
        client.settimeout(2)
        client.connect(address)
        client.send(SECRET)
    return "sent"


class Caller(ZooPlugin):
    """Sends its input to a server.

    Stopped by seccomp, which allows no socket unless the network is granted: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Connect to TCP port `input_data` of this machine."""
        return _send(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", input_data or 9))


class Whisperer(ZooPlugin):
    """Sends its input in a datagram, as a DNS query would; no answer is needed.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send to UDP port `input_data` of this machine."""
        return _send(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", input_data or 9))


class PortHopper(Caller):
    """Was granted one TCP port, and connects to another.

    Stopped by Landlock, which checks ports: `failed:PermissionError`.
    """


class FastOpener(ZooPlugin):
    """Was granted one TCP port, and opens a connection to another with its first send, past checks of `connect`.

    Stopped by seccomp, which checks the flags of a send: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send to TCP port `input_data` of this machine without connecting."""
        with socket.socket() as client:
            return client.sendto(SECRET, socket.MSG_FASTOPEN, ("127.0.0.1", input_data or 9))


class PathCaller(ZooPlugin):
    """Uses a service of this machine through a socket in the file system, such as Docker's or D-Bus's.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Connect to the socket at the path `input_data`."""
        return _send(socket.AF_UNIX, socket.SOCK_STREAM, str(input_data or "/run/docker.sock"))


class AbstractCaller(ZooPlugin):
    """Uses a service with an abstract socket, which has no path and no file permissions: X11, for example.

    Stopped by seccomp, and by Landlock's scope behind it: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Connect to the abstract socket `input_data`, its first character standing for the zero byte."""
        return _send(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + str(input_data or "@/tmp/.X11-unix/X0")[1:])


class PairWhisperer(ZooPlugin):
    """Makes a pair of datagram sockets, and sends from one of them to a third socket.

    Stopped by seccomp, which only allows pairs of stream sockets: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send to the abstract datagram socket `input_data`."""
        ours, _theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        return ours.sendto(SECRET, "\0" + str(input_data or "@nobody")[1:])


class Server(ZooPlugin):
    """Listens, so that others can fetch data from it.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Listen on any port of this machine."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            return server.getsockname()[1]


class Netlinker(ZooPlugin):
    """Reads the kernel's interfaces, routes and neighbours; as root it could change them.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Open a netlink socket."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
            return link.fileno()


class Eavesdropper(ZooPlugin):
    """Lists all sockets of its network: who listens, and who is connected to whom.

    Stopped by a network namespace of its own, in which the lists are empty: `completed`. Where the machine has none,
    Landlock doesn't open the lists.
    """

    async def process(self, input_data: Any) -> Any:
        """Read the kernel's lists of sockets."""
        return all_successes(("tcp", "tcp6", "udp", "unix"), lambda name: Path(f"/proc/self/net/{name}").read_text())


class Smuggler(ZooPlugin):
    """Leaves open files in transit between two sockets of its own, where no count of descriptors sees them.

    Stopped by seccomp, which lets no message carry descriptors: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Send a descriptor to itself, and close the original."""
        ours, _theirs = socket.socketpair()
        with open("/dev/null", "rb") as file:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))
            return ours.sendmsg([b"x"], [rights])
