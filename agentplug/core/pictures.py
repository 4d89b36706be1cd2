"""Decode pictures of plugins in a confined worker of their own, a fresh one for each call that has any (host).

A decoder reads bytes that a plugin chose, so it runs in no process that has anything to lose. It encodes each picture
anew: a browser never gets the plugin's bytes. What comes back is checked again, since the decoder may have fallen.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Any, NamedTuple

from agentplug.contract.display import JPEG, MAX_DISPLAYS_BYTES, MAX_PIXELS, PNG
from agentplug.contract.policy import Policy
from agentplug.core.sources.digest import text_digest
from agentplug.core.sources.source import Module, Source
from agentplug.errors import AgentplugError

_POLICY = Policy(memory="512M", cpu_s=3.0, wall_s=6.0, disk=0, processes=0, reply=MAX_DISPLAYS_BYTES)
_PATIENCE_S = 10.0
"""The time that all pictures of a call may take to decode."""
_PNG_HEAD = struct.Struct(">8sI4sII")
_SIGNATURES = {PNG: b"\x89PNG\r\n\x1a\n", JPEG: b"\xff\xd8\xff"}

Confined = Callable[[Source, Policy], Any]
"""Makes a `SandboxedPlugin`, which stands above this module."""


class BadPicture(Exception):
    """Bytes that aren't shown as a picture, with the reason."""


class Picture(NamedTuple):
    """A picture, encoded anew, and its width and height."""

    data: bytes
    pixels: tuple[int, int]


class Pictures:
    """The decoder of one call's pictures. Its worker starts with the first one."""

    def __init__(self, confined: Confined) -> None:
        self._confined = confined
        self._plugin: Any = None
        self._left_s = _PATIENCE_S

    def decode(self, mime: str, data: bytes) -> Picture:
        """Return a picture, decoded and encoded anew. Raises `BadPicture`."""
        if not data.startswith(_SIGNATURES[mime]):
            raise BadPicture("it doesn't begin as one")
        if self._left_s <= 0:
            raise BadPicture(f"the pictures of this call took over {_PATIENCE_S:.0f} s to decode")
        began_s = time.monotonic()
        try:
            if self._plugin is None:
                self._plugin = self._confined(_source(), _POLICY)
            run = self._plugin.run_sync({"mime": mime, "data": data, "most": MAX_PIXELS})
        except AgentplugError as error:
            raise BadPicture(str(error)) from None
        finally:
            self._left_s -= time.monotonic() - began_s
        if run.verdict.kind == "limited":
            raise BadPicture(f"to decode it takes too much ({run.verdict.by})")
        if run.verdict.kind != "completed" or not isinstance(run.value, dict):
            raise BadPicture("it can't be decoded")
        if reason := run.value.get("reason"):
            raise BadPicture(str(reason)[:200])
        return _checked(mime, run.value)

    def close(self) -> None:
        """End the worker, if there is one."""
        if self._plugin is not None:
            self._plugin.close_sync()


def _source() -> Source:
    code = files("agentplug.core.worker").joinpath("picture_decoder.py").read_bytes()
    module = Module("picture_decoder", "<picture decoder>", code)
    digest = text_digest(code)
    return Source("<picture decoder>", "module", digest, module.name, "PictureDecoderPlugin", (module,))


def _checked(mime: str, answer: dict[str, Any]) -> Picture:
    """Return what a decoder answered as a picture, if it has the form of one. Raises `BadPicture`."""
    data, width, height = (answer.get(name) for name in ("data", "width", "height"))
    if (
        not isinstance(data, bytes)
        or not isinstance(width, int)
        or not isinstance(height, int)
        or min(width, height) < 1
        or width * height > MAX_PIXELS
        or not data.startswith(_SIGNATURES[mime])
        or (mime == PNG and _PNG_HEAD.unpack_from(data.ljust(_PNG_HEAD.size))[2:] != (b"IHDR", width, height))
    ):
        raise BadPicture("its decoder answered something else than a picture")
    return Picture(data, (width, height))
