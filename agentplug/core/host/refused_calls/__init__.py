"""Refused system calls (host): the kernel tells of them, the host answers them and writes them down as events."""
