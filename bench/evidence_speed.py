"""`python -m bench.evidence_speed`: outcomes a second and core that evidence takes in, and what a judgement costs."""

import time
from collections.abc import Callable

import msgspec
import numpy as np

from retrain.evidence import Pairs, Rule, Sums, judge, sums_of
from retrain.evidence.eprocess import log_growth
from retrain.evidence.losses import paired_losses

N_ROWS = 1_000_000
N_DAYS = 365
N_ROUNDS = 5


def main() -> None:
    """Print one line a measurement: the best of some rounds, in processor time of this process."""
    rule, pairs = Rule(base_rate=0.1, informed_bet=0.5), logged_pairs()
    losses, bets = paired_losses(pairs, rule), rule.grid.bets
    day = sums_of(pairs.rows(slice(0, N_ROWS // N_DAYS)), rule)
    reign = [msgspec.structs.replace(day, bucket=number) for number in range(N_DAYS)]
    of_rows = [getattr(day, name) for name in Sums.__struct_fields__]

    growth_s = best_s(lambda: log_growth(losses.difference, bets, 0.001, losses.gap))
    print(f"{N_ROWS / growth_s / 1e6:.1f} M updates of {len(bets)} bets a second and core")
    whole_s = best_s(lambda: sums_of(pairs, rule))
    print(f"{N_ROWS / whole_s / 1e6:.1f} M outcomes a second and core from scores to all sums of a bucket, both ways")
    print(f"{1e3 * best_s(lambda: judge(reign, rule)):.1f} ms to judge a reign of {N_DAYS} days")
    size, size_of_rows = (len(msgspec.msgpack.encode(kept)) for kept in (day, of_rows))
    print(f"{size_of_rows} bytes of sums a bucket and challenger, {size} with counts of scores and calibration")


def logged_pairs() -> Pairs:
    """One bucket of two versions that nearly agree."""
    rng = np.random.default_rng(0)
    risk = rng.beta(1, 10, N_ROWS)
    challenger = np.clip(risk + rng.normal(0, 0.02, N_ROWS), 0.001, 0.999)
    return Pairs(rng.random(N_ROWS) < risk, risk, challenger, np.zeros(N_ROWS, dtype=int))


def best_s(measured: Callable[[], object]) -> float:
    """Processor seconds of the fastest round."""
    rounds = []
    for _ in range(N_ROUNDS):
        started = time.process_time()
        measured()
        rounds.append(time.process_time() - started)
    return min(rounds)


if __name__ == "__main__":
    main()
