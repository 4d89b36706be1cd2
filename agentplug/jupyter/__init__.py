"""The notebook side (host): `%load_ext agentplug` and the magics it adds.

`extension` adds everything to a shell and removes it again; `magics` are the commands, over `options` (their command
lines), `session` (the plugins of this kernel) and `sandbox_cell` (a cell in a sandbox). `streaming` writes the output
of plugins into the cell that called them, `completion` offers options and names, `failures` makes errors short.
IPython is imported nowhere else in the package.
"""
