"""Long runs: crashes, crowds, calls, restarts and killed hosts by the thousand, and what they leave behind: nothing.

`python -m tests.longruns` prints the table of the short form, `--long` that of the real one (some ten minutes).
"""
