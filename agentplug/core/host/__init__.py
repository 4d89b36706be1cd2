"""The host's side of a worker: starts, watches, measures and ends it. Never imports `worker`."""
