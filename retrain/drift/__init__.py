"""Drift: how far traffic, scores and outcomes have moved from what the champion was trained on.

    reference     what is compared with: bins of each feature, frozen at training (or on the first days of traffic)
    sketch        the rows of a day as counts in those bins: streaming, merged by +
    measures      distances between two sets of counts
    bets          whether a day can be told from the reference, with false alarms controlled under unlimited looks
    estimate      performance before outcomes are known, from calibrated scores alone
    days, watch   the derived documents of each day, and the worker that makes them
    report        what people read

Drift informs. It never promotes, and no evidence reads it.
"""
