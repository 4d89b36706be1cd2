"""Plain data that host and worker agree on. No processes, no I/O, nothing above `errors` is imported here."""
