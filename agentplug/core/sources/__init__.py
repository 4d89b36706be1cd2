"""From a spec to the bytes that will run (host).

Nothing in here imports, compiles or evaluates what it reads: a plugin's source is bytes, each file is read once, and
those bytes are digested, pinned and sent to a worker. Begin at `resolve.resolve`; `cell.cell_source` and
`objects.object_source` serve notebook cells and live objects.
"""
