"""A machine without namespaces: the scratch directory is on the host's disk, and the host counts what is there."""

from restricted import without_namespaces

without_namespaces()
