"""`make bench`: each figure beside its limit and its peers, in one run, interleaved, as medians.

    make bench                                   everything, a few minutes
    make bench ARGS="get seal --quick"           some of it, quickly
    make bench ARGS="claim --ten-million"        with a table of ten million rows too
    make bench ARGS="engine --json figures.json" for a machine to read

Absolute figures move with the machine and with what else it does; the ratios are what to compare.
"""
