"""The project's tests. A package, so that `python -m tests` never takes another `tests` on the path for this one."""
