"""Attacks through sockets: to the network, to services of this machine, out of the worker and into it."""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

CONNECT = """
import socket

def attack(given):
    family, kind, address = given
    address = tuple(address) if isinstance(address, list) else address.replace("@", chr(0))
    with socket.socket(family, kind) as client:
        client.connect(address)
        client.send(b"secret")
    return "sent"
"""

SEND_TO = """
import socket

def attack(given):
    family, kind, address = given
    address = tuple(address) if isinstance(address, list) else address.replace("@", chr(0))
    with socket.socket(family, kind) as client:
        client.sendto(b"secret", address)
    return "sent"
"""

FAST_OPEN = """
import socket

def attack(given):
    family, kind, address = given
    with socket.socket(family, kind) as client:
        client.sendto(b"secret", socket.MSG_FASTOPEN, tuple(address))
    return "sent"
"""

PAIR = """
import socket

def attack(given):
    family, kind, address = given
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.sendto(b"secret", address.replace("@", chr(0)))  # a pair of datagrams can still name others
    return "sent"
"""

LISTEN = """
import socket

def attack(given):
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1] > 0
"""

RAW = """
import socket

def attack(given):
    socket.socket(given[0], given[1], given[2]).close()
    return "open"
"""

LOOKUP = """
import socket

def attack(given):
    return socket.getaddrinfo("localhost", 80, socket.AF_INET)[0][4][0]
"""


@dataclass
class Service:
    """A listening socket of the host's, and how to reach it."""

    socket: socket.socket
    given: list[Any]

    @property
    def port(self) -> int:
        """Of a service on the network."""
        return int(self.socket.getsockname()[1])

    def heard(self) -> bytes:
        """What came in; nothing if nobody called."""
        with contextlib.suppress(BlockingIOError):
            if self.socket.type == socket.SOCK_STREAM:
                with self.socket.accept()[0] as connection:
                    return connection.recv(100)
            return self.socket.recv(100)
        return b""


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[Service]:
    """A service of this kind: tcp, tcp6, udp, path, abstract, datagram."""
    family = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6, "udp": socket.AF_INET}.get(kind, socket.AF_UNIX)
    style = socket.SOCK_DGRAM if kind in ("udp", "datagram") else socket.SOCK_STREAM
    address: Any
    if family == socket.AF_UNIX:
        address = f"@agentplug-{uuid.uuid4().hex}" if kind in ("abstract", "datagram") else str(folder / "s")
    else:
        address = ["::1" if kind == "tcp6" else "127.0.0.1", 0]
    with socket.socket(family, style) as server:
        try:
            server.bind(tuple(address) if isinstance(address, list) else address.replace("@", "\0"))
        except OSError as error:
            pytest.skip(f"no {kind} service can be made here: {error}")
        if style == socket.SOCK_STREAM:
            server.listen()
        server.setblocking(False)
        if isinstance(address, list):
            address[1] = server.getsockname()[1]
        yield Service(server, [int(family), int(style), address])


KINDS = ("tcp", "tcp6", "udp", "path", "abstract", "datagram")
OPTION = """
import socket

def attack(given):
    with socket.socket(socket.AF_INET6 if given[0] == 41 else socket.AF_INET) as client:
        try:
            client.setsockopt(*given, bytes(8))
        except OSError as error:
            return type(error).__name__
    return "set"
"""

CARRY = """
import array, socket

def attack(given):
    ours, theirs = socket.socketpair()
    return ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
"""

STREAM = """
import asyncio, socket

async def attack(given):
    reader, writer = await asyncio.open_connection(given[2][0], given[2][1])
    client = writer.get_extra_info("socket")
    for level, option in ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_NODELAY),
                          (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                          (socket.IPPROTO_IP, socket.IP_TOS)):
        client.setsockopt(level, option, 8)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    writer.writelines([bytes(1 << 20)] * 4)
    await asyncio.wait([asyncio.create_task(writer.drain())], timeout=1)
    return 4 << 20
"""

REFUSED = Verdict("failed", "PermissionError")


@pytest.mark.parametrize("kind", KINDS)
def test_no_service_can_be_reached_by_default(unconfined, confined, tmp_path, kind):
    """The network, and the sockets by which a machine's own services can be asked for anything."""
    with serving(kind, tmp_path) as service:
        assert unconfined(CONNECT, service.given).value == "sent"
        assert service.heard() == b"secret"

        assert confined(CONNECT, service.given).verdict == REFUSED
        assert service.heard() == b""


@pytest.mark.parametrize("network", [True, (9,)], ids=["all", "ports"])
@pytest.mark.parametrize("kind", ["path", "abstract", "datagram"])
def test_granted_network_is_no_way_to_local_services(unconfined, confined, tmp_path, kind, network):
    """Unix sockets aren't the network: X11, D-Bus and Docker listen there."""
    with serving(kind, tmp_path) as service:
        assert unconfined(CONNECT, service.given).value == "sent"
        assert service.heard() == b"secret"

        assert confined(CONNECT, service.given, policy=Policy(network=network)).verdict == REFUSED
        assert service.heard() == b""


@pytest.mark.parametrize("network", [False, True, (9,)], ids=["none", "all", "ports"])
def test_a_socket_pair_reaches_nobody_else(unconfined, confined, tmp_path, network):
    """Pairs are needed by asyncio; those that could name another address aren't."""
    with serving("datagram", tmp_path) as service:
        assert unconfined(PAIR, service.given).value == "sent"
        assert service.heard() == b"secret"

        assert confined(PAIR, service.given, policy=Policy(network=network)).verdict == REFUSED
        assert service.heard() == b""


def test_a_granted_port_is_the_only_one(unconfined, confined, tmp_path):
    """`network=(PORT,)` opens that TCP port: no other, no datagram, no connection hidden in a first send."""
    with serving("tcp", tmp_path) as granted, serving("tcp", tmp_path) as other, serving("udp", tmp_path) as udp:
        policy = Policy(network=(granted.port,))
        assert unconfined(FAST_OPEN, other.given).value == "sent"
        assert other.heard() == b"secret"
        assert unconfined(SEND_TO, udp.given).value == "sent"
        assert udp.heard() == b"secret"

        assert confined(CONNECT, granted.given, policy=policy).value == "sent"
        assert granted.heard() == b"secret"
        assert confined(CONNECT, other.given, policy=policy).verdict == REFUSED
        assert confined(FAST_OPEN, other.given, policy=policy).verdict == REFUSED
        assert confined(SEND_TO, udp.given, policy=policy).verdict == REFUSED
        assert (other.heard(), udp.heard()) == (b"", b"")


@pytest.mark.parametrize("option", [[0, 4], [0, 35], [41, 57], [6, 30], [6, 31]], ids=str)
def test_a_granted_port_brings_no_other_route(unconfined, confined, option):
    """Options that route, encapsulate, repair or hand a connection over aren't those of a TCP client."""
    assert unconfined(OPTION, option).value != "PermissionError"

    assert confined(OPTION, option, policy=Policy(network=(9,))).value == "PermissionError"


def test_a_granted_port_carries_no_descriptors(unconfined, confined):
    """A message with ancillary data could; a plain one goes by another call."""
    assert unconfined(CARRY).value == 1

    assert confined(CARRY, policy=Policy(network=(9,))).verdict == REFUSED


def test_a_client_of_a_granted_port_sets_its_usual_options_and_streams(confined, tmp_path):
    """As HTTP clients do it; asyncio sends megabytes in pieces."""
    with serving("tcp", tmp_path) as service:
        policy = Policy(network=(service.port,))

        assert confined(STREAM, service.given, policy=policy, coroutine=True).value == 4 << 20


@pytest.mark.parametrize("policy", [Policy(), Policy(network=(9,))], ids=["none", "ports"])
def test_nobody_can_be_served(unconfined, confined, policy):
    """A plugin that may connect, or not even that, doesn't get to listen."""
    assert unconfined(LISTEN).value is True

    assert confined(LISTEN, policy=policy).verdict == REFUSED


@pytest.mark.parametrize("network", [False, True, (9,)], ids=["none", "all", "ports"])
@pytest.mark.parametrize(
    "given", [[16, 3, 0], [17, 3, 0], [40, 1, 0], [38, 5, 0]], ids=["netlink", "packet", "vsock", "alg"]
)
def test_no_other_family_of_sockets_is_open(confined, given, network):
    """Netlink, packets, virtual machines' and crypto sockets: much kernel code, no use to a plugin."""
    assert confined(RAW, given, policy=Policy(network=network)).verdict == REFUSED


def test_granted_network_finds_names(confined):
    """Not an attack: with the network, names of /etc/hosts resolve."""
    assert confined(LOOKUP, policy=Policy(network=True)).value == "127.0.0.1"
