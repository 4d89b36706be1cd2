"""`Profile`: where a call's memory or CPU time went, as its user sees it (host).

A profile is a claim of the plugin's process, bounded and typed; it decides nothing. `Usage` has the kernel's figures;
the profiler's own memory and CPU time count there as the plugin's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentplug.contract.profile import CLAIM, ProfileRecord

if TYPE_CHECKING:
    import pandas as pd


class Profile(ProfileRecord):
    """Where one call's memory or CPU time went. Its fields are those of `ProfileRecord`."""

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each line of code, heaviest first: `function`, `file`, `line` and its own part.

        For memory `size_bytes` and `allocations`, for cpu `self_s`. `total_bytes` or `total_s` includes the calls
        that the line made; `share` is its own part of the whole. `attrs` holds `frame` ("profile"), `kind`, `total`,
        `dropped`, `missing` and `claim`.
        """
        from agentplug.report.profiles import profile_frame

        return profile_frame(self)

    def flame(self) -> str:
        """Return a flame graph as HTML without scripts: each call below its caller, as wide as what it took."""
        from agentplug.report.profiles import flame

        return flame(self)

    def __repr__(self) -> str:
        return f"<Profile of {self.kind}: {len(self.stacks)} stacks, {CLAIM}>"

    def __str__(self) -> str:
        """Return the heaviest lines as a short table, and the sum of the others."""
        from agentplug.report.profiles import profile_text

        return profile_text(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print `str()` of a profile that stands alone, its repr within a list: IPython's text/plain."""
        printer.text(repr(self) if printer.stack[:-1] else str(self))

    def _repr_html_(self) -> str:
        from agentplug.report.profiles import profile_card

        return profile_card(self)
