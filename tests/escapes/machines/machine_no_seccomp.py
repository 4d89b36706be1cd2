"""A machine without seccomp and without namespaces."""

from restricted import without_namespaces, without_seccomp

without_namespaces()
without_seccomp()
