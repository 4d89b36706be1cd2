"""Plain data that host and worker agree on (both). Starts no process, does no I/O, imports nothing above `errors`."""
