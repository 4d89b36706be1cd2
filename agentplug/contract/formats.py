"""Numbers of the file formats (host), and the words for a file of a newer one."""

from agentplug.contract.text import printable

TRACE_FORMAT = 1
"""Of saved traces; a file without a number has format 0. Another column needs no other number."""
AUDIT_FORMAT = 1
"""Of audit logs: the `version` in their header."""


def newer_format(number: int, known: int, writer: object) -> str:
    """Say that this agentplug, which reads formats up to `known`, needs an upgrade to `writer`, a file's version."""
    by, remedy = "a newer agentplug", "upgrade agentplug"
    if isinstance(writer, str):
        by = f"agentplug {printable(writer, 40)}"
        remedy = f"upgrade to {by} or later"
    number_text = printable(str(number), 20)
    return f"written by {by} in format {number_text}; this one reads formats up to {known}: {remedy}"
