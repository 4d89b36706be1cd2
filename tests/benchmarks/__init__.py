"""Benchmarks, run by `python -m tests.benchmarks`. They print a table and judge nothing."""
