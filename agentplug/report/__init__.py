"""Frames, cards, sentences and plots: pure functions of runs (host).

`frames` makes DataFrames, `cards` HTML for notebooks, `sentences` text for terminals, `plots` figures; `marks` is the
one place for colours, icons and hatches. Nothing here starts, stops or measures anything.
"""
