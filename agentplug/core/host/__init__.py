"""The host's side of workers: start, watch, measure and end them. Nothing here imports `worker`."""
