"""What the stores say at a scrape, and how it is told: as Prometheus reads it, whatever can be read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.config import JournalSettings
from gateway.desk import JournalDesk
from gateway.journal import open_ledger, open_reader
from gateway.metrics import Tally, TallyPool
from gateway.metrics.exposition import Exposition, counted
from gateway.metrics.facts import FactFinder, journal_parts
from gateway.records import Receipt
from tests.actors import logistic
from tests.gateway.test_metrics import Samples, of, samples
from tests.seasons import TRUTH, WEAK
from tests.stage import ME, Stage, staged


@contextmanager
def scraped(stage: Stage, *, ready: bool = True) -> Iterator[Exposition]:
    """The metrics of a store that nobody serves."""
    clock = stage.new_clock()
    clock.refresh(stage.registry)
    desk = JournalDesk(
        lambda: open_ledger(stage.folder, JournalSettings()), lambda: open_reader(stage.folder), 1, stage.lineups, clock
    )
    with closing(desk):
        facts = FactFinder(stage.registry, desk, clock, stage.folder)
        yield Exposition(
            TallyPool(Tally(), None, 1, lambda: 0), facts, ready=lambda: ready, release="1.2.3", wal_limit_bytes=4_096
        )


def read(exposition: Exposition) -> Samples:
    text, content_type = asyncio.run(exposition.text(""))
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    return samples(text_string_to_metric_families(text.decode()))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Champion 1 and challenger 2; three days of predictions, two of which are mirrored and closed."""
    with staged(tmp_path / "store") as made:
        made.declare()
        made.registry.create_model("idle", made.registry.model("m").schema, "binary", by=ME)
        made.champion(logistic(WEAK))
        made.challenger(logistic(TRUTH))
        rows = np.random.default_rng(1).normal(size=(40, 2))
        made.clock(0)
        for day in (0, 1):
            made.outcomes(made.predict(day + 0.5, rows), [0, 1] * 20, day + 0.6)
        made.mirrored()
        made.clock(4)
        made.beat(4)
        made.close_all()
        yield made


def test_the_stores_facts_are_told_as_they_are(stage: Stage) -> None:
    stage.predict(4.25, np.zeros((7, 2)))
    stage.clock(4.5)
    entry = stage.entry(2)
    assert entry["low"] is None  # two days say nothing of days yet: what is not known is not told
    with scraped(stage) as exposition:
        found = read(exposition)
    assert found["understudy_champion_info"] == {(("model", "m"), ("version", "1")): 1}
    assert found["understudy_generation"] == {(("model", "m"),): 2}
    assert found["understudy_decisions_total"] == {
        (("kind", "register"), ("model", "m")): 1,
        (("kind", "enlist"), ("model", "m")): 1,
    }
    who = {"model": "m", "version": "2"}
    assert of(found, "understudy_mirror_eligible_rows_total", **who) == 80
    assert of(found, "understudy_mirror_rows_total", **who, status="scored") == 80
    assert of(found, "understudy_mirror_rows_total", **who, status="failed") == 0
    assert of(found, "understudy_mirror_lag_seconds", **who) == 0.25 * 86_400
    assert of(found, "understudy_mirror_waiting_chunks", **who) == 1
    assert of(found, "understudy_evidence_outcomes", **who) == entry["n_matured"] == 80
    assert of(found, "understudy_evidence_log_e", **who) == pytest.approx(entry["log_e"])
    assert "understudy_evidence_lower_bound" not in found
    assert of(found, "understudy_journal_wal_limit_bytes") == 4_096
    assert of(found, "understudy_ready") == 1
    assert of(found, "understudy_build_info", version="1.2.3") == 1


def test_bounds_are_told_as_soon_as_there_are_some(stage: Stage) -> None:
    document = stage.registry.evidence("m")
    assert document is not None
    document["challengers"][0] |= {"low": -0.5, "high": 0.25}
    stage.registry.save_evidence("m", document)
    with scraped(stage) as exposition:
        found = read(exposition)
    assert of(found, "understudy_evidence_lower_bound", model="m", version="2") == -0.5
    assert of(found, "understudy_evidence_upper_bound", model="m", version="2") == 0.25


def test_a_decision_is_seen_by_the_next_scrape(stage: Stage) -> None:
    with scraped(stage) as exposition:
        assert of(read(exposition), "understudy_generation", model="m") == 2
        stage.registry.promote("m", 2, reason="better", by=ME)
        found = read(exposition)
    assert found["understudy_champion_info"] == {(("model", "m"), ("version", "2")): 1}
    assert of(found, "understudy_decisions_total", model="m", kind="promote") == 1
    assert "understudy_evidence_log_e" not in found  # a new reign knows nothing yet


def test_the_journal_is_measured_file_by_file(stage: Stage) -> None:
    parts = {part.name: part for part in journal_parts(stage.folder)}
    for name, pattern in (("predictions", "predictions/*.db"), ("ledger", "journal.db")):
        files = list(stage.folder.glob(pattern))
        logs = [path.stat().st_size for path in stage.folder.glob(f"{pattern}-wal")]
        assert parts[name].n_files == len(files) == 1
        assert parts[name].largest_wal_bytes == max(logs) > 0
        assert parts[name].n_bytes == sum(path.stat().st_size for path in files) + sum(logs)


def test_a_registry_that_cannot_be_read_leaves_what_was_counted_and_ready_0(stage: Stage) -> None:
    with scraped(stage) as exposition:
        stage.registry.close()
        at = stage.folder / "registry.db"
        kept = at.read_bytes()
        at.write_bytes(b"no database at all".ljust(len(kept)))
        found = read(exposition)
        assert of(found, "understudy_ready") == 0
        assert of(found, "understudy_requests_in_flight") == 0
        assert "understudy_champion_info" not in found
        at.write_bytes(kept)
        stage.registry.close()
        assert of(read(exposition), "understudy_ready") == 1


def test_a_worker_that_would_not_answer_is_not_ready(stage: Stage) -> None:
    with scraped(stage, ready=False) as exposition:
        assert of(read(exposition), "understudy_ready") == 0


def test_names_units_and_labels_follow_the_rules_of_prometheus(stage: Stage) -> None:
    tally = Tally()
    tally.count("m", 1, 200, 0.5, 2)
    tally.count_outcomes("m", Receipt(accepted=1, rejected=[]))
    tally.count_refused("overloaded")
    tally.count_unlogged("m", 1)
    with scraped(stage) as exposition:
        text, _ = asyncio.run(exposition.text(""))
    families = [*text_string_to_metric_families(text.decode()), *counted(tally)]
    assert len(families) > 20
    for family in families:
        assert re.fullmatch(r"understudy_[a-z0-9_]*[a-z0-9]", family.name)
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|us|milliseconds|kb|mb|percent)(_|$)", family.name)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert set(sample.labels) <= {"model", "version", "code", "status", "reason", "kind", "part", "le"}


def test_openmetrics_is_told_to_who_asks_for_it(stage: Stage) -> None:
    accepts: Mapping[str, str] = {
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2": "application/openmetrics-text",
        "*/*": "text/plain",
        "text/plain; version=no-version-at-all": "text/plain",
    }
    with scraped(stage) as exposition:
        for accept, expected in accepts.items():
            text, content_type = asyncio.run(exposition.text(accept))
            assert content_type.partition(";")[0] == expected
            plain = expected == "text/plain"
            parse = text_string_to_metric_families if plain else openmetrics.text_string_to_metric_families
            assert of(samples(parse(text.decode())), "understudy_build_info", version="1.2.3") == 1


def test_two_in_one_process_do_not_collide(stage: Stage) -> None:
    with scraped(stage) as one, scraped(stage) as other:
        assert read(one) == read(other)
