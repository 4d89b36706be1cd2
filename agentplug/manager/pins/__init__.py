"""Pins (host): plugins that may run, by the digests of their bytes, in `agentplug.lock`.

`taking` reads a plugin as it is now: its source, and a pin of the same bytes. `lockfile` reads the lock, `writing`
writes it, `diff` compares two pins, `verify` checks a plugin against its pin. No code is imported, compiled or run
here, and each path is read once: a worker gets the very bytes that were compared.
"""
