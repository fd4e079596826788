"""`make demo`: grants connected, refreshed and rotated on this machine while things are killed, and what came of it.

`__main__` reads the command line; `story` tells what happens and in what order; `stack` starts and stops everything on
free loopback ports in a temporary home; `evidence` counts in the database, in the provider's journal and in the
metrics; `verdict` judges and `display` shows. `owners`, `webapp` and `proof` are programs that the demo runs as
processes of their own. `up` (`make up`) keeps the same stack running for a person.
"""
