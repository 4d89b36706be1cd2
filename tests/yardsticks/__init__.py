"""Yardsticks that others made: stress-ng's stressors as plugins. `python -m tests.yardsticks`; docs/yardsticks.md.

`machine` reads what the machine feels meanwhile, `stress_ng` runs one stressor in a plugin and says what came of it,
`__main__` chooses, repeats and prints.
"""
