"""A poorer machine, made inside a zygote: modules beside this one call these when they are imported there.

A policy's `preload` names them, so that every worker forked from that zygote lives on such a machine. What a kernel
refuses is refused by the kernel, through a seccomp filter that the zygote puts on itself: whoever asks, and by which
way, gets the answer of a kernel without the feature. An older Landlock can't be made like that; there the binding
reports an older version, and refuses what such a kernel would.
"""

from __future__ import annotations

import errno
import os

import landlockpy
from landlockpy import LandlockError, _syscall
from landlockpy.flags import fs_for_abi, net_for_abi, scope_for_abi
from seccompy import Action, ArgCmp, CmpOp, Filter

from agentplug.core.boundary import cgroups

_PR_SET_SECCOMP = 22
_NEW_USER = 0x10000000


def refuse(*calls: str, error: int = errno.ENOSYS) -> None:
    """These system calls fail with `error`, here and in every process to come."""
    rules = Filter(default=Action.ALLOW)
    for name in calls:
        rules.errno(name, error)
    rules.load()


def without_namespaces() -> None:
    """No process may make one, as in a default container: an extra layer less, for what it covers up."""
    rules = Filter(default=Action.ALLOW)
    rules.errno("unshare", errno.EPERM)
    rules.errno("clone", errno.EPERM, args=[ArgCmp(0, CmpOp.MASKED_EQ, _NEW_USER, _NEW_USER)])
    rules.load()


def without_cgroups() -> None:
    """No cgroup is writable, as in a default container."""
    cgroups.parents = dict


def with_landlock(abi: int) -> None:
    """A kernel whose Landlock is of version `abi`; 0 has none."""
    if abi == 0:
        refuse("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", error=errno.EOPNOTSUPP)
        assert landlockpy.abi_version() == 0
        return
    create = _syscall.create_ruleset

    def older(attr: _syscall.RulesetAttr) -> int:
        unknown = (
            attr.handled_access_fs & ~int(fs_for_abi(abi)),
            attr.handled_access_net & ~int(net_for_abi(abi)),
            attr.scoped & ~int(scope_for_abi(abi)),
        )
        if any(unknown):
            raise LandlockError(errno.EINVAL, os.strerror(errno.EINVAL))
        return create(attr)

    _syscall.create_ruleset = older
    _syscall.abi_version = lambda: abi
    assert landlockpy.abi_version() == abi


def without_seccomp() -> None:
    """No process may put a filter on itself any more, by neither call. After everything else: it needs one itself."""
    rules = Filter(default=Action.ALLOW)
    rules.errno("seccomp", errno.ENOSYS)
    rules.errno("prctl", errno.EINVAL, args={0: _PR_SET_SECCOMP})
    rules.load()
