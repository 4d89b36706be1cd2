"""Refused system calls (host): heard from the kernel, answered, written down as events."""
