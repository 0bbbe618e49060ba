"""Load against the real server, beside what people write today and beside peers: `python -m bench`.

The server with all of its processes is on one core, the load on another. Systems take turns within a round, and ratios
are taken within a round, so that a machine that gets slower in between changes nothing. `rounds` tells the story:

    models, bodies   what everybody serves and is asked
    systems          how each system is started; baselines/ and peers/ hold what they run
    running          one system from its start to its end
    load_wrk         closed loop: as many requests as it answers
    open_loop        requests at their own pace, timed from when they were due
    rounds           every system once a round; elsewhere: what challengers cost when they have a core
    figures          medians and ratios; gates, report and picture are made from them
"""
