"""The benchmark: engines run in turn, in one process, on the same weights and requests."""
