"""What a version learned from is never evidence of it; each story is told beside one without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from msgspec.structs import replace

from gateway.cli.models import evidence_text
from registry.types import TrainingReport
from retrain.bundle import Wanted, bundled, verified
from retrain.corrections import Corrections
from retrain.judgement import judged
from retrain.kept import Kept, decoded
from retrain.reign import ReignState
from retrain.reread import Rereader
from tests.actors import logistic
from tests.seasons import LEFT, N_ROWS, QUICK, TRUTH, WEAK, ends, lives
from tests.stage import DAY, DAY_US, Stage, at, staged

N_DAYS = 6


@contextmanager
def season(folder: Path, until: datetime | None, n_days: int = N_DAYS) -> Iterator[tuple[Stage, int]]:
    """A better challenger that was trained on rows until then, and some days, all of them closed."""
    with staged(folder) as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        version = stage.challenger(logistic(TRUTH), training=TrainingReport(n_rows=100, trained_until=until))
        lives(stage, range(n_days), {version: TRUTH})
        ends(stage, n_days)
        stage.close_all()
        yield stage, version


def kept(stage: Stage, version: int) -> list[Kept | None]:
    return [decoded(bucket.sums[version]) for bucket in stage.registry.closed_buckets("m", 1)[:N_DAYS]]


def test_rows_until_its_training_ends_are_left_out_one_by_one_and_counted(tmp_path: Path) -> None:
    with season(tmp_path / "control", None) as (stage, version):
        everything = kept(stage, version)
        assert stage.entry(version)["n_matured"] == N_DAYS * N_ROWS
    with season(tmp_path / "learned", at(2.25)) as (stage, version):  # the very moment of the third day's first forty
        found, entry = kept(stage, version), stage.entry(version)
        said = evidence_text(stage.registry.evidence("m") or {})
    assert found[:2] == [None, None]
    assert found[3:] == everything[3:]
    third, whole = found[2], everything[2]
    assert third is not None
    assert whole is not None
    assert (third.sums.n, third.population.n_rows, third.population.n_learned) == (20, 20, 40)
    assert third.sums.serving == whole.sums.serving  # a row that it fails there, it fails
    assert (entry["n_matured"], entry["n_void_buckets"]) == (3 * N_ROWS + 20, 2)
    assert (entry["population"]["n_learned"], entry["learned_until"]) == (40, at(2.25).isoformat())
    assert f"left out: 40 rows until {at(2.25).isoformat()}" in said


def test_a_version_that_knows_its_outcomes_by_heart_is_not_promoted_for_it(tmp_path: Path) -> None:
    with season(tmp_path / "control", None, 40) as (stage, version):
        assert [number for number, _ in stage.promotions()] == [version]
    with season(tmp_path / "learned", at(39), 40) as (stage, version):
        assert stage.promotions() == []
        entry = stage.entry(version)
        assert (entry["verdict"], entry["n_matured"]) == ("collecting", N_ROWS)
    with season(tmp_path / "all of it", at(9).astimezone(UTC).replace(tzinfo=None)) as (stage, version):
        entry = stage.entry(version)
        assert (entry["n_matured"], entry["n_void_buckets"]) == (0, N_DAYS)
        assert f"rows until {at(9).isoformat()} do not count" in entry["sentence"]


def test_a_bundle_and_sums_that_are_derived_again_leave_out_the_same(tmp_path: Path) -> None:
    with season(tmp_path / "store", at(2.25)) as (stage, version):
        before = stage.registry.closed_buckets("m", 1)
        bundled(stage.settings, stage.registry, Wanted("m", version=version), tmp_path / "bundle", at(9))
        checked = verified(tmp_path / "bundle")
        assert (checked.faults, checked.n_pairs) == ([], 3 * N_ROWS + 20)
        assert checked.again is not None
        assert checked.again["population"]["n_learned"] == 40
        table = pq.read_table(tmp_path / "bundle" / "pairs.parquet")
        assert len(table) == checked.n_pairs

        state = ReignState(stage.registry, stage.registry.model("m"), DAY)
        state.closed = [replace(bucket, sums={version: msgspec.msgpack.encode((3, "", ""))}) for bucket in before]
        assert Rereader(state, stage.reader, stage.ledger).derived_again() == []
        assert state.closed == before


def test_of_two_challengers_neither_is_preferred_for_what_it_learned_from(tmp_path: Path) -> None:
    found = []
    for name, until in (("control", (None, None)), ("a", (at(2.25), None)), ("b", (None, at(2.25)))):
        with staged(tmp_path / name) as stage:
            stage.declare(QUICK)
            stage.champion(logistic(WEAK))
            first, second = (
                stage.challenger(logistic(weights), training=TrainingReport(n_rows=100, trained_until=each))
                for weights, each in zip((TRUTH, LEFT), until, strict=True)
            )
            lives(stage, range(N_DAYS), {first: TRUTH, second: LEFT})
            ends(stage, N_DAYS)
            stage.close_all()
            state = ReignState(stage.registry, stage.registry.model("m"), DAY)
            corrections = Corrections(
                stage.reader, stage.ledger, model="m", first_generation=1, policy=QUICK, bucket_us=DAY_US
            )  # fmt: skip
            found.append(Rereader(state, stage.reader, stage.ledger).log_e_between(*judged(state, corrections)))
    assert found[1] == found[2] != found[0]
