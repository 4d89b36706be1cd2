"""A machine without Landlock and without namespaces."""

from restricted import with_landlock, without_namespaces

without_namespaces()
with_landlock(0)
