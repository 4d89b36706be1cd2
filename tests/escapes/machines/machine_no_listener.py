"""A machine that filters system calls, but lets nobody listen to them, as within another sandbox; no namespaces."""

import errno

from restricted import without_namespaces
from seccompy import Action, ArgCmp, CmpOp, Filter

NEW_LISTENER = 8  # SECCOMP_FILTER_FLAG_NEW_LISTENER

without_namespaces()
rules = Filter(default=Action.ALLOW)
rules.errno("seccomp", errno.EBUSY, args=[ArgCmp(1, CmpOp.MASKED_EQ, NEW_LISTENER, NEW_LISTENER)])
rules.load()
