"""Frames, cards, tables and plots: pure functions of runs (host).

`frames` makes DataFrames, `cards` HTML for notebooks, `tables` renderables for terminals, `plots` pictures;
`marks` is the one place for colours, icons and hatches. Nothing here starts, stops or measures anything.
"""
