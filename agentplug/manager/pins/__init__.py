"""What may run, pinned by its bytes in `agentplug.lock` (host).

`taking.take` reads a plugin as it is now: its source and a pin of the same bytes. `lockfile` reads the lock,
`writing` writes it, `diff` says in which way two pins differ. Nothing in here imports, compiles or runs what it
reads, and a path is read once: the bytes that were compared are the ones that go to a worker.
"""
