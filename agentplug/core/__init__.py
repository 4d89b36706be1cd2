"""One confined plugin: `sandboxed` has the public class, `lifecycle` the worker's life, `run` one call.

`host` and `worker` are the two sides of the trust line and never import each other; both import `boundary`. `sources`
resolves a spec to verified bytes. Nothing here imports the rooms above: manager, integrations, jupyter.
"""
