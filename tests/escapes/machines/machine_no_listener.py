"""A machine that filters system calls, but lets nobody listen to them, as within another sandbox.

It has neither namespaces nor cgroups.
"""

import errno

from restricted import without_cgroups, without_namespaces
from seccompy import Action, ArgCmp, CmpOp, Filter

NEW_LISTENER = 8  # SECCOMP_FILTER_FLAG_NEW_LISTENER

without_namespaces()
without_cgroups()
rules = Filter(default=Action.ALLOW)
rules.errno("seccomp", errno.EBUSY, args=[ArgCmp(1, CmpOp.MASKED_EQ, NEW_LISTENER, NEW_LISTENER)])
rules.load()
