"""One confined plugin: `sandboxed` is what users hold, `lifecycle` starts and replaces its worker, `run` is one call.

`host` and `worker` are the two sides of the trust line and never import each other; `boundary` is all that both know;
`sources` turns a spec into verified bytes. Nothing here imports what stands above: manager, integrations, jupyter.
"""
