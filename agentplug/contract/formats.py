"""The version numbers of the file formats, and the message for a file of a newer format (host)."""

from agentplug.contract.text import printable

TRACE_FORMAT = 3
"""The latest format of saved traces. A file without a number has format 0. A new column needs no new number.

A CSV is of format 3: its head is in its last column. In formats 1 and 2 that was a first line; 2 had an apostrophe
before texts that a spreadsheet would run, as 3 has. All other files are still of format 1.
"""
AUDIT_FORMAT = 1
"""The format of audit logs: the `version` in their header."""


def newer_format(number: int, known: int, writer: object) -> str:
    """Return the message for a file of format `number`, newer than `known`. `writer` is the version that wrote it."""
    by, remedy = "a newer agentplug", "upgrade agentplug"
    if isinstance(writer, str):
        by = f"agentplug {printable(writer, 40)}"
        remedy = f"upgrade to {by} or later"
    number_text = printable(str(number), 20)
    return f"written by {by} in format {number_text}; this one reads formats up to {known}: {remedy}"
