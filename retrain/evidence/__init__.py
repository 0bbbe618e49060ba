"""Whether a challenger is better than the champion: a pure function of logged pairs, valid at every look.

Each row whose outcome is known gives d = loss(champion) - loss(challenger). A challenger is `better` when every
condition holds, on closed buckets:

- `evidence`: a mixture of fixed bets on every d has multiplied its capital by `n_slots`/α. Exact: a challenger whose
  running mean of d is never above the margin gets there in at most α of all reigns, however often anyone looks
  (Waudby-Smith & Ramdas 2023; Choe & Ramdas 2023).
- `clustered_evidence` and `effective_days`: the same claim against the ups and downs of windows of neighbouring days,
  because rows of one day share shocks that no test of single rows survives (Howard et al. 2021; Waudby-Smith et al.
  2024; Wallace 1959; Bartlett windows). Asymptotic, hence at least 28 effective days.
- `outcomes`, `minority`, `coverage`, and where they apply `span`, `observed`, `effective_sample`, `corrections`,
  `mirror`: enough was seen, of each class, of what was due, and nothing chose what.
- `recent`, and where there is something to look at `errors`, `latency`, `calibration`, `ranking`, `segments`,
  `sources`: it serves no worse, harms no part of the business, and rests on no single source.

`worse` is the first two in reverse. Everything is computed from sums that add up, so order of rows, shards and
restarts change nothing: `compare(pairs, rule)` is `judge` over `sums_of` each bucket. After a promotion
`judge_probation` and then `detect` watch over it. `metrics_of` and `metrics_of_sums` are for people,
and decide nothing.
"""

from retrain.evidence.bets import at_stake_of
from retrain.evidence.choice import Candidate, choose
from retrain.evidence.cohorts import BucketSums, Sums, sums_of
from retrain.evidence.detector import Detector, detect
from retrain.evidence.errors import EvidenceError
from retrain.evidence.forecast import Forecast
from retrain.evidence.guards import Condition
from retrain.evidence.judge import Evidence, compare, judge
from retrain.evidence.metrics import Metrics, metrics_of, metrics_of_sums
from retrain.evidence.pairs import Pairs
from retrain.evidence.probation import Probation, judge_probation, probation_rule
from retrain.evidence.rule import Loss, Rule, Task, Verdict
from retrain.evidence.serving import PairedCounts, Serving, level_of

__all__ = [
    "BucketSums",
    "Candidate",
    "Condition",
    "Detector",
    "Evidence",
    "EvidenceError",
    "Forecast",
    "Loss",
    "Metrics",
    "PairedCounts",
    "Pairs",
    "Probation",
    "Rule",
    "Serving",
    "Sums",
    "Task",
    "Verdict",
    "at_stake_of",
    "choose",
    "compare",
    "detect",
    "judge",
    "judge_probation",
    "level_of",
    "metrics_of",
    "metrics_of_sums",
    "probation_rule",
    "sums_of",
]
