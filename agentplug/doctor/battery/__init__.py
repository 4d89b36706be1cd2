"""The battery: every plugin of the zoo is let loose on a stage, and what became of the stage is looked at (host).

`catalogue` says what is run and which verdicts will do, `stage` sets up what the attacks aim at, `stock` counts what
they leave behind, `pulse` times the loop, `run` runs them, `matrix` holds and shows what was found. An attack is
contained by evidence alone: an accepted verdict, an unharmed stage, nothing left, and a host whose loop went on.
"""
