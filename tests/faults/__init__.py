"""Faults of the machine and of the host, put in by hand. What must come of each: a typed error, and nothing left."""
