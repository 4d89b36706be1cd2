"""The audit log (host): what happened, as lines in a file, each carrying the hash of the line before.

`lines` is the format, `places` the files and their lock, `log` writes, `chain` verifies, `reading` reads, `runs`
turns runs into fields and back, `watching` writes down what a manager does. Only the host writes here; a worker has
neither the file nor a right to it. The chain shows that something was changed, not by whom: who may write the file
may forge all of it anew, unless its head was noted elsewhere.
"""

from agentplug.manager.audit.chain import BadLine, Verification, verify
from agentplug.manager.audit.lines import Entry
from agentplug.manager.audit.log import AuditLog
from agentplug.manager.audit.reading import Audit, read_audit

__all__ = ["Audit", "AuditLog", "BadLine", "Entry", "Verification", "read_audit", "verify"]
