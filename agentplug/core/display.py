"""`Display`: one thing that a call has shown, as its user sees it (host)."""

from __future__ import annotations

from typing import Any

from agentplug.contract.display import TABLE, DisplayRecord


class Display(DisplayRecord):
    """One thing that a call has shown: a picture, a table, HTML, JSON or text. Its fields are those of
    `DisplayRecord`. In a notebook it is shown again, as harmless as it was."""

    __slots__ = ()

    def __repr__(self) -> str:
        if self.pixels is not None:
            return f"Display({self.mime!r}, {self.pixels[0]} × {self.pixels[1]} pixels)"
        if self.mime == TABLE:
            return f"Display({self.mime!r}, {' × '.join(map(str, self.data.shape))})"
        from agentplug.report.displays import brief

        return f"Display({self.mime!r}, {brief(self.data)})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from agentplug.report.displays import bundle

        return bundle(self)
