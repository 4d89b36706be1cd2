"""The battery: run every plugin of the zoo on a stage, then check the stage for damage (host).

`catalogue` lists the attacks and their accepted verdicts, `stage` sets up their targets, `stock` counts what they
leave behind, `pulse` times the loop, `run` runs them, `matrix` is the result. Only evidence proves an attack
contained: an accepted verdict, an unharmed stage, nothing left, and a host whose loop went on.
"""
