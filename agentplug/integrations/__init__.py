"""Bridges to other frameworks and tools (host), one file each; none is imported unless it is used."""
