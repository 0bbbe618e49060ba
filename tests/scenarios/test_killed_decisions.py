"""kill -9 of who decides, at random moments of promotion, probation and rollback: the same decisions, the same sums.

The control counts a bucket twice, as somebody would who closes it again after a crash: its ln E is another.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from retrain.evidence import judge
from retrain.kept import stored_sums
from retrain.reign import ReignState
from tests.actors import logistic
from tests.dying import run_cycle
from tests.faults import Faults
from tests.seasons import QUICK, TRUTH, WEAK, answers, ends, lives, rows_of
from tests.stage import DAY, Stage, staged

SEASON = 36
REST = 12
FIGURES = ("log_e", "log_e_inferior", "log_e_clustered", "mean", "low", "high")


class Life(Struct, frozen=True):
    """All that was decided, and what it rests on: of every decision, and of every closed bucket."""

    decisions: list[tuple[str, int, int, str, Any]]
    figures: list[float]
    buckets: list[tuple[int, int, bytes]]
    n_kills: int


def lived(folder: Path, chance: random.Random | None, kills_a_phase: int) -> Life:
    """A season to a promotion, a probation that goes wrong to its rollback, a rest; killed now and then, or never."""
    n_kills = 0

    def due() -> None:
        nonlocal n_kills
        killed = 0
        while killed < kills_a_phase and chance is not None:
            # steps of a few milliseconds, a phase of half a second: early, late, and mostly in between
            if run_cycle(folder, chance.uniform(0.001, 0.12)) != -9:
                break
            killed += 1
        n_kills += killed
        assert run_cycle(folder, None) == 0

    with staged(folder) as stage:
        stage.declare(replace(QUICK, cool_down_s=5.0 * DAY))
        stage.champion(logistic(WEAK))
        better = stage.challenger(logistic(TRUTH))
        lives(stage, range(SEASON), {better: TRUTH})
        ends(stage, SEASON)
        due()
        turned(stage, range(SEASON + 2, SEASON + 32))
        due()
        turned(stage, range(SEASON + 34, SEASON + 34 + REST))
        due()
        return told(stage, n_kills)


def turned(stage: Stage, days: range) -> None:
    """What happens is the opposite of what it was; whoever is previous goes on being mirrored."""
    for day in days:
        rows, happened = rows_of(day)
        stage.outcomes(stage.predict(day + 0.5, rows), [1 - y for y in happened], day + 0.9)
    previous = stage.registry.lineup("m").previous
    if previous is not None:
        stage.shadow(previous, answers(WEAK))
    ends(stage, days[-1])


def told(stage: Stage, n_kills: int) -> Life:
    decisions: list[tuple[str, int, int, str, Any]] = []
    figures: list[float] = []
    for each in stage.registry.decisions("m"):
        evidence = each.evidence or {}
        decisions.append((each.kind, each.version, each.to_generation, each.reason, (each.cursors or {}).get("bucket")))
        figures += [evidence[name] for name in FIGURES if name in evidence]
        if "probation" in evidence:
            figures += [evidence["probation"]["log_e"], evidence["probation"]["log_e_clustered"]]
    buckets = [
        (reign.number, bucket.bucket, b"".join(bucket.sums[key] for key in sorted(bucket.sums)))
        for reign in stage.registry.reigns("m")
        for bucket in stage.registry.closed_buckets("m", reign.number)
    ]
    return Life(decisions, figures, buckets, n_kills)


def held(tmp_path: Path, seed: int, kills_a_phase: int, whole: Life) -> int:
    """That a life with kills is the life without; returns how many there were."""
    killed = lived(tmp_path / f"killed-{seed}", random.Random(seed), kills_a_phase)
    assert killed.decisions == whole.decisions
    assert killed.figures == pytest.approx(whole.figures, rel=1e-9)
    assert killed.buckets == whole.buckets
    return killed.n_kills


def uninterrupted(tmp_path: Path) -> Life:
    whole = lived(tmp_path / "whole", None, 0)
    kinds = [kind for kind, *_ in whole.decisions]
    assert kinds == ["register", "enlist", "promote", "rollback"]
    assert [reign for reign, *_ in whole.buckets[-1:]] == [3]
    return whole


def test_a_worker_that_is_killed_again_and_again_decides_what_one_that_was_not_does(tmp_path: Path) -> None:
    whole = uninterrupted(tmp_path)
    assert held(tmp_path, seed=1, kills_a_phase=3, whole=whole) >= 3


def test_the_check_finds_a_bucket_that_counts_twice(tmp_path: Path) -> None:
    """The control."""
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        better = stage.challenger(logistic(TRUTH))
        lives(stage, range(5), {better: TRUTH})
        ends(stage, 5)
        stage.close_all()
        state = ReignState(stage.registry, stage.registry.model("m"), DAY)
        sums, rule = stored_sums(state.closed, better), state.judged[0].rule
        assert judge([*sums, sums[-1]], rule).log_e != pytest.approx(judge(sums, rule).log_e, rel=1e-9)
        once = state.closed[-1]
        assert not stage.registry.close_bucket(  # and nothing in the store lets that happen
            "m", 1, once.bucket, closed_at=once.closed_at, prediction_cursor=once.prediction_cursor,
            outcome_cursor=once.outcome_cursor, sums=once.sums,
        )  # fmt: skip


@pytest.mark.slow
def test_decisions_of_many_killed_lives(tmp_path: Path, kept: Faults) -> None:
    whole = uninterrupted(tmp_path)
    n_lives = 20
    n_kills = sum(held(tmp_path, seed, 12, whole) for seed in range(n_lives))
    kept.record(
        "kill -9 of the retrain worker while it closes, promotes, watches and rolls back",
        n_kills,
        f"in {n_lives} lives of a model each decision, its bucket and all closed sums as without; ln E to 1e-9",
        "a bucket that counts twice changes ln E",
    )
