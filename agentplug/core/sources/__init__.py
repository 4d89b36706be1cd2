"""Resolve a spec to the bytes that will run (host).

Nothing here imports, compiles or evaluates a plugin's source. Each file is read once; its bytes are digested, pinned
and sent to a worker. `resolve.resolve` reads specs, `cell.cell_source` notebook cells, `objects.object_source` live
objects.
"""
