"""The promises of DESIGN section 1 about what is kept and derived: 4, 7 and 9. Number 5 is with the evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.chunk import STATUSES, unpack_outputs
from gateway.columns import Columns
from gateway.journal import LoopAppender
from gateway.predictor import Predictor
from gateway.records import address_of
from gateway.wire.own import Asked
from registry.types import Policy
from retrain.evidence import Pairs, compare
from retrain.terms import rule_of
from tests.actors import POISON, hostile, logistic, signature
from tests.asking import ticket
from tests.scenarios.checks import recomputed, recorded
from tests.seasons import LEFT, QUICK, RIGHT, TRUTH, WEAK, Weights, answers, ends, lives, rows_of
from tests.stage import DAY, ME, Stage, staged

# --- 4


def test_promise_4_the_evidence_is_what_the_journal_gives_again_by_other_code(tmp_path: Path) -> None:
    """Put together here from chunks, shadow chunks and outcomes, and judged by the pure rule: the same ln E."""
    with staged(tmp_path / "store") as stage:
        better = _season(stage, QUICK)
        found = _pairs(stage, better)
        reign = stage.registry.reigns("m")[0]
        last = stage.registry.closed_buckets("m", 1)[-1].bucket
        within = found.bucket <= last
        pairs = Pairs(*(column[within] for column in (found.outcome, found.champion, found.challenger, found.bucket)))
        judged = compare(pairs, rule_of(stage.registry.model("m"), reign, DAY))
        (decision,) = [d for d in stage.registry.decisions("m") if d.kind == "promote"]
        assert decision.evidence is not None
        assert judged.promote
        assert judged.n == decision.evidence["n"]
        for name in ("log_e", "log_e_clustered", "mean", "low", "high"):
            assert getattr(judged, name) == pytest.approx(decision.evidence[name], rel=1e-9), name


def test_promise_4_events_delivered_three_times_and_in_any_order_decide_the_same(tmp_path: Path) -> None:
    decided = []
    for name, times in (("once", 1), ("thrice", 3)):
        with staged(tmp_path / name) as stage:
            _season(stage, QUICK, times=times, late_outcomes_first=times > 1)
            (decision,) = [d for d in stage.registry.decisions("m") if d.kind == "promote"]
            assert decision.evidence is not None
            decided.append((stage.promotions(), decision.evidence))
    assert decided[0][0] == decided[1][0]
    assert decided[0][1]["log_e"] == pytest.approx(decided[1][1]["log_e"], rel=1e-9)
    assert decided[0][1]["n"] == decided[1][1]["n"]


def _season(stage: Stage, policy: Policy, *, times: int = 1, late_outcomes_first: bool = False) -> int:
    """Five weeks with a better challenger, closed at the end; outcomes may come in reverse order and several times."""
    stage.declare(policy)
    stage.champion(logistic(WEAK))
    better = stage.challenger(logistic(TRUTH))
    if not late_outcomes_first:
        lives(stage, range(35), {better: TRUTH}, times=times)
    else:
        given = []
        for day in range(35):
            rows, happened = rows_of(day)
            given.append((stage.predict(day + 0.25, rows[:40]) + stage.predict(day + 0.5, rows[40:]), happened, day))
        stage.shadow(better, answers(TRUTH))
        for addresses, happened, day in reversed(given * times):
            stage.outcomes(addresses[::-1], happened[::-1], day + 1)
    ends(stage, 35)
    stage.close_all()
    return better


def _pairs(stage: Stage, version: int) -> Pairs:
    """Every live row with both scores and its outcome, joined by a plain loop."""
    known = {
        (record.address, record.row): record.outcome
        for writer in stage.ledger.outcome_cursor()
        for record in stage.ledger.outcomes_since(writer, 0, 1_000_000)
    }
    columns: list[tuple[float, float, float, int]] = []
    for head, chunk in stage.chunks():
        shadow = stage.ledger.shadow_chunk(head.writer, head.seq, version)
        if shadow is None or shadow.outputs is None:
            continue
        layout = stage.reader.layout(head.writer, chunk.layout)
        champion = unpack_outputs(chunk.outputs, layout.outputs)["probabilities"][:, 1]
        challenger = unpack_outputs(shadow.outputs, layout.outputs)["probabilities"][:, 1]
        by_row = {address.row: outcome for (address, _), outcome in known.items()
                  if address is not None and (address.writer, address.seq) == (head.writer, head.seq)}  # fmt: skip
        for row in range(head.n_rows):
            scored = STATUSES[shadow.status[row]] == "scored"
            answer = float(challenger[row]) if scored else np.nan
            columns.append((float(by_row.get(row, np.nan)), float(champion[row]), answer, head.bucket))
    outcome, champion_p, challenger_p, bucket = (np.array(column) for column in zip(*columns, strict=True))
    return Pairs(outcome, champion_p, challenger_p, bucket)


# --- 7


@pytest.mark.parametrize("batchable", [True, False])
def test_promise_7_every_answer_is_recomputed_bit_for_bit_from_the_runs_of_its_chunk(
    tmp_path: Path, batchable: bool
) -> None:
    """A linear model, whose last bits depend on the batch, asked in batches of every size, across a promotion."""
    with staged(tmp_path / "store", source="server") as stage:
        stage.declare()
        models = [hostile("raises", weights=(0.371, -1.93)), logistic((1.7, 0.3))]
        first, second = (replace(signature(model), batchable=batchable) for model in models)
        stage.champion(models[0], said=first)
        number = stage.version(models[1], second)
        told = asyncio.run(_asked_in_turns(stage, number))
        chunks = {(head.writer, head.seq): chunk for head, chunk in stage.chunks()}
        assert {chunk.version for chunk in chunks.values()} == {1, number}
        assert any(len(chunk.runs) > 1 for chunk in chunks.values())
        for (writer, seq), chunk in chunks.items():
            again, kept = recomputed(stage, chunk, writer), recorded(stage, chunk, writer)
            for name in again:
                np.testing.assert_array_equal(again[name], kept[name], err_msg=f"{name} of chunk {seq}")
        for answered in told:
            place = address_of(answered.prediction_id)
            assert place is not None
            writer, seq, row = place[0].writer, place[0].seq, place[0].row
            assert chunks[writer, seq].version == answered.version
            kept = recorded(stage, chunks[writer, seq], writer)
            for name, values in answered.outputs.arrays.items():
                mine = values[answered.start : answered.stop]
                np.testing.assert_array_equal(mine, kept[name][row : row + len(mine)])


async def _asked_in_turns(stage: Stage, challenger: int) -> list[Any]:
    """The answers to turns of 1 to 12 requests of 1 to 3 rows, some of them poison; a promotion in between."""
    stage.lineups.refresh()
    writer = stage.another_writer()
    rows = rows_of(3, 400)[0]
    told: list[Any] = []
    with closing(LoopAppender(writer)) as appender:
        predictor = Predictor(stage.lineups, appender, writer.writer, stage.new_clock(), max_waiting_rows=1_000)
        with closing(predictor):
            for turn in range(1, 13):
                if turn == 7:
                    stage.registry.enlist("m", challenger, reason="try", by=ME)
                    stage.registry.promote("m", challenger, reason="by hand", by=ME)
                    stage.lineups.refresh()
                requests = []
                for i in range(turn):
                    mine = rows[turn * 12 + i : turn * 12 + i + 1 + i % 3].copy()
                    mine[0, 1] = POISON if i == 5 else mine[0, 1]
                    asked = Asked(Columns(len(mine), {"float64": mine}, {}), single=False)
                    requests.append(predictor.predict("m", asked, ticket()))
                found = await asyncio.gather(*requests, return_exceptions=True)
                told.extend(answered for answered in found if not isinstance(answered, BaseException))
    return told


# --- 9


def test_promise_9_the_evidence_says_what_it_does_not_know(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, maturity_s=2.0 * DAY))
        stage.champion(logistic(WEAK))
        versions = {stage.challenger(logistic(weights)): weights for weights in (TRUTH, LEFT, RIGHT)}
        judged, _, third = versions

        _day(stage, 0, {judged: TRUTH, 3: LEFT}, n_outcomes=60)
        stage.clock(1)
        stage.close_all()
        immature = _challenger(stage, judged)
        assert (immature["n_matured"], immature["n_waiting"], immature["verdict"]) == (0, 60, "collecting")
        assert "no matured outcome" in immature["sentence"]
        assert "waits for the next reign" in _challenger(stage, third)["sentence"]

        _day(stage, 1, {judged: TRUTH, 3: LEFT}, n_outcomes=30)
        stage.clock(4)
        stage.beat(4)
        stage.close_all()
        short = _challenger(stage, judged)
        conditions: Mapping[str, Any] = {c["name"]: c for c in short["conditions"]}
        assert (short["n_matured"], short["verdict"]) == (90, "collecting")
        assert not conditions["outcomes"]["holds"]
        assert conditions["outcomes"]["detail"] == "90 matured outcomes of the 200 needed"
        assert not conditions["coverage"]["holds"]
        assert conditions["coverage"]["detail"] == "75.0 % of 120 due outcomes arrived of the 95 % needed"
        assert not conditions["effective_days"]["holds"]
        assert "still missing" in short["sentence"]
        assert (short["low"], short["high"]) == (None, None)  # two days show no spread to judge by


def _day(stage: Stage, day: int, challengers: Mapping[int, Weights], n_outcomes: int) -> None:
    rows, happened = rows_of(day)
    addresses = stage.predict(day + 0.5, rows)
    stage.outcomes(addresses[:n_outcomes], happened[:n_outcomes], day + 0.9)
    for version, weights in challengers.items():
        stage.shadow(version, answers(weights))
    stage.beat(day + 1)


def _challenger(stage: Stage, version: int) -> dict[str, Any]:
    document = stage.registry.evidence("m")
    return next(e for e in (document or {"challengers": []})["challengers"] if e["version"] == version)
