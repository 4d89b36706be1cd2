"""Plain data that host and worker agree on. No processes, no I/O, and nothing above `errors` is
imported, but for `report` where a value shows itself."""
