"""The spare: a process forked in advance, so that the next worker starts at once (worker side).

Most of a fork's cost comes after it: each page is copied when the child first writes to it, and Python writes to
hundreds at once. A spare has done that already. It has no right that a freshly forked child lacks, sees nothing of
any plugin, and ends with its zygote. When a request comes, it becomes that worker and confines itself like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import cloudpickle
from landlockpy import AccessNet, Ruleset

from agentplug.core.boundary import codec as values
from agentplug.core.boundary import frames as wire
from agentplug.core.worker import loading
from agentplug.core.worker.barriers import landlock, libc, limits, seccomp
from agentplug.core.worker.barriers.lifetime import die_with_parent

TAKEN = b"1"

_MAX_MESSAGE = 1 << 19
_PATIENCE_S = 2.0


def wait(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Rehearse, then wait for the request and its descriptors. Exits if the zygote hangs up."""
    die_with_parent()
    with contextlib.suppress(Exception):
        _rehearse()
    libc.trim_heap()
    message, fds, _, _ = socket.recv_fds(sock, _MAX_MESSAGE, 3)
    if not message:
        os._exit(0)
    sock.send(TAKEN)
    sock.close()
    return message, fds


def hand_over(sock: socket.socket, message: bytes, fds: list[int]) -> bool:
    """Send the spare at the other end of `sock` its request (in the zygote). Return true if the spare took it.

    A killed spare may linger on a busy machine and never read the request, so it has to answer.
    """
    sock.settimeout(_PATIENCE_S)
    try:
        socket.send_fds(sock, [message], fds)
        return sock.recv(len(TAKEN)) == TAKEN
    except OSError:
        return False


def _rehearse() -> None:
    """Run what a worker will run, as far as it leaves no trace, so that the pages are copied."""
    limits.address_space()
    seccomp.rehearse()
    with Ruleset(handled_net=AccessNet.CONNECT_TCP) as rules:
        landlock.allow_own(rules)
    with open(os.devnull, "w", encoding="utf-8") as file:
        file.write("0")
    wire.encode_body(wire.Hello(wire.PROTOCOL, []))
    values.decode(values.encode({"a": 1}).structure)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    loading.check_contract(cloudpickle.loads(cloudpickle.dumps(_Rehearsed))())


class _Rehearsed:
    name = version = "spare"

    async def initialize(self, config: object) -> None: ...

    async def process(self, value: object) -> None: ...
