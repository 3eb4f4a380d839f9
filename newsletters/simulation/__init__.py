"""A newsletter that never was: the real planner and the real senders, on a clock that runs as fast as they do."""
