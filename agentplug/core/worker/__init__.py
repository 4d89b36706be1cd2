"""The worker's side: keeper, zygote, workers. Imports `boundary`, `contract` and `errors`, nothing else of ours."""
