"""`Profile`: where a call's memory or CPU time went, as its user holds it (host).

A claim of the plugin's process, bounded and typed as it came in, and nothing is decided by it. Figures that the
kernel vouches for are in `Usage`; the profiler's own work, some memory and CPU time, counts there as the plugin's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentplug.contract.record import CLAIM, ProfileRecord

if TYPE_CHECKING:
    import pandas as pd


class Profile(ProfileRecord):
    """Where one call's memory or CPU time went. Its fields are those of `ProfileRecord`."""

    def to_frame(self) -> pd.DataFrame:
        """One row a line of code, heaviest first: `function`, `file`, `line`, and what it took itself.

        For memory `size_bytes` and `allocations`, for cpu `self_s`; `total_bytes` or `total_s` is with all that it
        called, `share` of the whole what it took itself. `attrs` holds `frame` ("profile"), `kind`, `total`,
        `dropped`, `missing` and `claim`.
        """
        from agentplug.report.profiles import profile_frame

        return profile_frame(self)

    def flame(self) -> str:
        """A flame graph as HTML without scripts: each call below its caller, as wide as what it took."""
        from agentplug.report.profiles import flame

        return flame(self)

    def __repr__(self) -> str:
        return f"<Profile of {self.kind}: {len(self.stacks)} stacks, {CLAIM}>"

    def __str__(self) -> str:
        """The heaviest lines as a short table, and what all else comes to."""
        from agentplug.report.profiles import profile_text

        return profile_text(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """IPython's text/plain: `str()` of a profile by itself, its repr within a list."""
        printer.text(repr(self) if printer.stack[:-1] else str(self))

    def _repr_html_(self) -> str:
        from agentplug.report.profiles import profile_card

        return profile_card(self)
