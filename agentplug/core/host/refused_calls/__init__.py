"""Refused system calls (host): the kernel reports them, the host answers them and records them as events."""
