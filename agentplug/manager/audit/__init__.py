"""The audit log (host): a file of lines, each with the hash of the line before.

`lines` is the format, `places` the files and their lock, `log` writes, `chain` verifies, `reading` reads, `runs`
turns runs into fields and back, `watching` records what a manager does. Only the host writes the file; a worker can't
open it. The chain shows that a line was changed, not by whom. Whoever may write the file can forge a whole new chain,
unless the head was noted elsewhere.
"""

from agentplug.manager.audit.chain import BadLine, Verification, verify
from agentplug.manager.audit.lines import Entry
from agentplug.manager.audit.log import AuditLog
from agentplug.manager.audit.reading import Audit, read_audit

__all__ = ["Audit", "AuditLog", "BadLine", "Entry", "Verification", "read_audit", "verify"]
