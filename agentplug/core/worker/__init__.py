"""The worker's side: keeper, zygote, workers. Of our own it imports only `boundary`, `contract` and `errors`."""
