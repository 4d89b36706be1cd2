"""A machine whose Landlock is of ABI 1, without namespaces."""

from restricted import with_landlock, without_namespaces

without_namespaces()
with_landlock(1)
