"""The evidence bundle: all that a decision rests on, in one folder that needs neither server nor store to be checked.

    decision.json   decision, frozen evidence, rule in full, terms, lineups, proposal, audit from the decision on
    pairs.parquet   every pair that the evidence is of: address, scores, outcome, and what the rule used beside them
    report.html     the same on one printed page
    SHA256SUMS      of these three, as sha256sum writes and checks it

    collect    registry and journal, read as of the cursors of the decision    document, pairs_file
    write      the folder, whole or not at all                                 folder, report, chart
    verify     sums, audit chain, digest of the data; then judged again        verification

What is judged again is judged by the very functions that decided, from the pairs of the bundle alone.
"""

from retrain.bundle.collect import Wanted
from retrain.bundle.folder import Bundled, bundled, unpacked, zipped
from retrain.bundle.verification import Verified, verified

__all__ = ["Bundled", "Verified", "Wanted", "bundled", "unpacked", "verified", "zipped"]
