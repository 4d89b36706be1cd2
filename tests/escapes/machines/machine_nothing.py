"""A machine with neither Landlock nor seccomp nor namespaces."""

from restricted import with_landlock, without_namespaces, without_seccomp

without_namespaces()
with_landlock(0)
without_seccomp()
