"""A machine like a default container: no namespaces, and no cgroup that may be written."""

from restricted import without_cgroups, without_namespaces

without_namespaces()
without_cgroups()
