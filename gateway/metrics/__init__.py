"""What `GET /metrics` tells, in two kinds that are kept apart.

    tally.py        counted a request, in the worker that answered it: plain integers
    pool.py         … and added up over all workers of one `serve`, the dead ones included
    facts.py        read from the stores at each scrape, so that no process needs to have lived to count it
    exposition.py   both as Prometheus text: the only file that knows of prometheus_client

Labels are models, versions, statuses and reasons: names that this store gave, and never what a caller sent.
"""

from gateway.metrics.pool import TallyPool
from gateway.metrics.tally import Tally

__all__ = ["Tally", "TallyPool"]
