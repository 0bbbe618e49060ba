"""The registry over a real file: what is written is read again alike, and what is refused changed nothing."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest

from registry.audit import verify
from registry.errors import (
    ArtifactDamaged,
    ArtifactRefused,
    ClockRefused,
    GenerationMoved,
    ModelExists,
    NoChampion,
    NoChampionYet,
    SchemaRefused,
    TransitionRefused,
    UnknownGeneration,
    UnknownModel,
    UnknownReign,
    UnknownVersion,
)
from registry.store import Registry
from registry.types import (
    ClosedBucket,
    Feature,
    InputSchema,
    Lineup,
    OutputTensor,
    Policy,
    Principal,
    ScoreColumn,
    Signature,
    TrainingReport,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def loans(registry: Registry, schema: InputSchema, signature: Signature, me: Principal) -> Registry:
    """A model with versions 1 to 4; 1 is champion, 2 is a challenger."""
    registry.create_model("loans", schema, "binary", by=me)
    for number in range(1, 5):
        registry.add_version("loans", f"bytes {number}".encode(), signature, by=me)
    registry.appoint("loans", 1, reason="first", by=me)
    registry.enlist("loans", 2, reason="try it", by=me)
    return registry


def test_a_model_is_declared_once_and_again_only_alike(registry: Registry, schema: InputSchema, me: Principal) -> None:
    made = registry.create_model("loans", schema, "binary", Policy(alpha=0.1), by=me)
    assert registry.create_model("loans", schema, "binary", by=me) == made == registry.model("loans")
    assert registry.models() == [made]
    assert made.policy.alpha == 0.1
    with pytest.raises(ModelExists, match="another task"):
        registry.create_model("loans", schema, "regression", by=me)
    with pytest.raises(ModelExists, match="another input schema"):
        registry.create_model("loans", InputSchema(schema.features[:2]), "binary", by=me)
    with pytest.raises(SchemaRefused):
        registry.create_model("../loans", schema, "binary", by=me)
    assert [line.action for line in registry.audit()] == ["create_model"]


def test_what_does_not_exist_is_named(registry: Registry, schema: InputSchema, me: Principal) -> None:
    for read in (registry.model, registry.versions, registry.lineup, registry.reign, registry.decisions):
        with pytest.raises(UnknownModel, match="Request for unknown model: 'nothing' is not found"):
            read("nothing")
    registry.create_model("loans", schema, "binary", by=me)
    for read in (registry.lineup, registry.reign):
        with pytest.raises(NoChampion):
            read("loans")
    assert not registry.lineups("loans")
    assert not registry.decisions("loans")
    assert not registry.reigns("loans")
    assert registry.evidence("loans") is None
    with pytest.raises(UnknownVersion):
        registry.version("loans", 1)
    with pytest.raises(UnknownGeneration):
        registry.lineup_in("loans", 1)


def test_a_schema_grows_and_every_one_is_kept(registry: Registry, schema: InputSchema, me: Principal) -> None:
    registry.create_model("loans", schema, "binary", by=me)
    grown = InputSchema((*schema.features, Feature("e", "string", required=False)))
    before = registry.change_stamp()
    assert registry.extend_schema("loans", grown, by=me).schema.version == 2
    assert registry.change_stamp() > before
    assert registry.extend_schema("loans", grown, by=me).schema.version == 2
    assert [kept.digest for kept in registry.schemas("loans")] == [schema.digest, grown.digest]
    assert registry.model("loans").schema.names == ("a", "b", "c", "d", "e")
    with pytest.raises(SchemaRefused):
        registry.extend_schema("loans", schema, by=me)


def test_the_same_bytes_are_the_same_version(
    registry: Registry, schema: InputSchema, signature: Signature, me: Principal, tmp_path: Path
) -> None:
    report = TrainingReport(1_000, trained_until=START, base_rate=0.2, parity={"max": 1e-6}, recipe="boosted")
    registry.create_model("loans", schema, "binary", by=me)
    first = registry.add_version("loans", b"one", signature, report, by=me)
    assert registry.add_version("loans", b"one", signature, by=me) == first
    second = registry.add_version("loans", b"two", signature, by=me)
    assert registry.versions("loans") == [first, second]
    assert (first.number, second.number, first.training) == (1, 2, report)
    assert registry.artifact(first) == b"one"
    assert registry.lineups("loans") == []
    (artifact,) = (path for path in tmp_path.rglob(first.digest.removeprefix("sha256:")))
    artifact.write_bytes(b"0ne")
    with pytest.raises(ArtifactDamaged):
        registry.artifact(first)


def test_every_version_answers_alike(
    registry: Registry, schema: InputSchema, signature: Signature, me: Principal
) -> None:
    registry.create_model("loans", schema, "binary", by=me)
    registry.add_version("loans", b"one", signature, by=me)
    change = msgspec.structs.replace
    for other, sentence in (
        (change(signature, task="regression"), "the version's task is regression"),
        (
            change(signature, inputs=(change(signature.inputs[0], features=("a", "z")),)),
            "takes 'z', which is no feature",
        ),
        (change(signature, outputs=(*signature.outputs, OutputTensor("more", "float32"))), "the same outputs"),
        (change(signature, score=ScoreColumn("probabilities", 0)), "the same score and classes"),
        (change(signature, classes=(1, 0)), "the same score and classes"),
    ):
        with pytest.raises(ArtifactRefused, match=sentence):
            registry.add_version("loans", b"two", other, by=me)
    with pytest.raises(ArtifactRefused, match="are version 1 of 'loans' already"):
        registry.add_version("loans", b"one", change(signature, batchable=False), by=me)
    assert len(registry.versions("loans")) == 1


def test_a_promotion_is_one_change_of_everything(loans: Registry, me: Principal) -> None:
    evidence, cursors = {"log_e": 7.5, "verdict": "better"}, {"predictions": {"3": 17}}
    lineup = loans.promote(
        "loans", 2, reason="better", by=Principal.the_rule(), expected_generation=2, evidence=evidence, cursors=cursors
    )
    assert lineup == loans.lineup("loans") == loans.lineup_in("loans", 3) == loans.lineups("loans")[-1]
    assert (lineup.generation, lineup.champion, lineup.challengers, lineup.previous) == (3, 2, (), 1)
    decision = loans.decisions("loans")[-1]
    assert (decision.kind, decision.version, decision.by) == ("promote", 2, "rule")
    assert (decision.from_generation, decision.to_generation) == (2, 3)
    assert (decision.evidence, decision.cursors, decision.at) == (evidence, cursors, lineup.since)
    line = loans.audit()[-1]
    assert (line.action, line.principal) == ("promote", "rule")
    assert set(line.detail) >= {"evidence_digest", "cursors_digest", "from_generation", "to_generation"}
    reign = loans.reign("loans")
    assert (reign.number, reign.champion, reign.first_generation, reign.since) == (2, 2, 3, lineup.since)


def test_a_rollback_is_one_call_and_there_is_one_only(loans: Registry, me: Principal) -> None:
    with pytest.raises(TransitionRefused, match="no previous champion"):
        loans.rollback("loans", reason="oops", by=me)
    loans.promote("loans", 2, reason="better", by=me)
    lineup = loans.rollback("loans", reason="complaints", by=me, expected_generation=3)
    assert (lineup.generation, lineup.champion, lineup.previous) == (4, 1, None)
    assert lineup.role(2) == "retired"
    assert [(reign.number, reign.champion) for reign in loans.reigns("loans")] == [(1, 1), (2, 2), (3, 1)]
    with pytest.raises(TransitionRefused, match="no previous champion"):
        loans.rollback("loans", reason="again", by=me)


def test_whoever_decides_upon_a_generation_that_moved_changes_nothing(loans: Registry, me: Principal) -> None:
    before = (loans.lineups("loans"), loans.audit(), loans.change_stamp())
    moved: list[Callable[[], object]] = [
        lambda: loans.promote("loans", 2, reason="", by=me, expected_generation=1),
        lambda: loans.rollback("loans", reason="", by=me, expected_generation=1),
        lambda: loans.retire("loans", 2, reason="", by=me, expected_generation=1),
        lambda: loans.enlist("loans", 3, reason="", by=me, expected_generation=9),
        lambda: loans.set_policy("loans", Policy(alpha=0.2), by=me, expected_generation=1),
    ]
    for change in moved:
        with pytest.raises(GenerationMoved, match="is at generation 2, not"):
            change()
    refused: list[Callable[[], object]] = [
        lambda: loans.promote("loans", 3, reason="", by=me),
        lambda: loans.retire("loans", 1, reason="", by=me),
        lambda: loans.enlist("loans", 2, reason="", by=me),
        lambda: loans.appoint("loans", 2, reason="", by=me),
    ]
    for change in refused:
        with pytest.raises(TransitionRefused):
            change()
    with pytest.raises(UnknownVersion):
        loans.promote("loans", 99, reason="", by=me)
    assert (loans.lineups("loans"), loans.audit(), loans.change_stamp()) == before


def test_another_policy_begins_another_reign_with_the_same_members(
    loans: Registry, schema: InputSchema, me: Principal
) -> None:
    model = loans.set_policy("loans", Policy(n_slots=5), by=me)
    assert model.policy.n_slots == loans.reign("loans").policy.n_slots == 5
    assert loans.reigns("loans")[0].policy.n_slots == 2
    assert [lineup.challengers for lineup in loans.lineups("loans")] == [(), (2,), (2,)]
    assert (loans.reign("loans").number, loans.reign("loans").first_generation) == (2, 3)
    assert loans.set_policy("loans", Policy(n_slots=5), by=me) == model
    assert len(loans.lineups("loans")) == 3
    loans.create_model("empty", schema, "binary", by=me)
    assert loans.set_policy("empty", Policy(alpha=0.01), by=me).policy.alpha == 0.01
    assert loans.lineups("empty") == []


def test_who_was_champion_at_any_moment(loans: Registry, me: Principal) -> None:
    loans.promote("loans", 2, reason="better", by=me)
    since = [lineup.since for lineup in loans.lineups("loans")]
    tick = timedelta(microseconds=1)
    assert since[0] is not None
    assert since[2] is not None
    with pytest.raises(NoChampionYet, match="had no champion yet at 2026-01-01T00:00:0"):
        loans.lineup_at("loans", since[0] - tick)
    assert loans.lineup_at("loans", since[0]) == loans.lineup_in("loans", 1)
    assert loans.lineup_at("loans", since[2] - tick) == loans.lineup_in("loans", 2)
    assert loans.lineup_at("loans", since[2].astimezone(timezone(timedelta(hours=9)))) == loans.lineup_in("loans", 3)
    with pytest.raises(UnknownModel):
        loans.lineup_at("nothing", since[0])


def test_a_clock_that_is_set_back_does_not_turn_generations_round(
    tmp_path: Path, schema: InputSchema, signature: Signature, me: Principal
) -> None:
    moments = iter([START] * 3 + [START - timedelta(hours=h) for h in range(20)])
    with Registry.open(tmp_path, now=lambda: next(moments)) as registry:
        registry.create_model("loans", schema, "binary", by=me)
        for number in (1, 2):
            registry.add_version("loans", bytes([number]), signature, by=me)
        registry.appoint("loans", 1, reason="", by=me)
        registry.enlist("loans", 2, reason="", by=me)
        registry.promote("loans", 2, reason="", by=me)
        since = [lineup.since for lineup in registry.lineups("loans") if lineup.since is not None]
        assert since == sorted(since)
        assert registry.lineup_at("loans", since[-1]).champion == 2


def test_the_stamp_moves_with_what_a_worker_must_notice_and_with_nothing_else(loans: Registry, me: Principal) -> None:
    def moved(change: Callable[[], object]) -> bool:
        before = loans.change_stamp()
        change()
        return loans.change_stamp() > before

    assert moved(lambda: loans.enlist("loans", 3, reason="", by=me))
    assert moved(lambda: loans.set_policy("loans", Policy(alpha=0.2), by=me))
    assert moved(lambda: loans.set_clock(START, by=me))
    assert not moved(lambda: loans.set_clock(START, by=me))
    assert not moved(lambda: loans.save_evidence("loans", {}))
    assert not moved(lambda: loans.record("create_key", by=me, detail={}))
    assert not moved(lambda: loans.lineups("loans"))


def test_the_callers_clock_never_goes_back_and_is_kept(registry: Registry, me: Principal, tmp_path: Path) -> None:
    assert registry.clock() is None
    registry.set_clock(START, by=me)
    registry.set_clock(START + timedelta(days=1), by=me)
    with pytest.raises(ClockRefused, match="never goes back"):
        registry.set_clock(START, by=me)
    with pytest.raises(ClockRefused, match="goes to 9000-01-01T00:00:00"):
        registry.set_clock(datetime(9999, 12, 31, tzinfo=UTC), by=me)
    with pytest.raises(ClockRefused, match="time zone"):
        registry.set_clock(datetime(2027, 1, 1), by=me)  # noqa: DTZ001  # that is the point
    with Registry.open(tmp_path / "store", now=lambda: START) as again:
        assert again.clock() == START + timedelta(days=1)
    assert [line.action for line in registry.audit()] == ["set_clock"]


def test_a_bucket_closes_once(loans: Registry) -> None:
    def close(bucket: int, sums: dict[int, bytes], reign: int = 1) -> bool:
        return loans.close_bucket(
            "loans", reign, bucket, closed_at=START, prediction_cursor={"1": 7}, outcome_cursor={"2": 9}, sums=sums
        )

    assert close(5, {2: b"\0\xff"})
    assert close(-3, {})
    assert not close(5, {2: b"other"})
    assert loans.closed_buckets("loans", 1) == [
        ClosedBucket("loans", 1, -3, START, {"1": 7}, {"2": 9}, {}),
        ClosedBucket("loans", 1, 5, START, {"1": 7}, {"2": 9}, {2: b"\0\xff"}),
    ]
    with pytest.raises(UnknownReign):
        close(5, {}, reign=2)


def test_the_latest_evidence_is_kept(loans: Registry) -> None:
    loans.save_evidence("loans", {"reign": 1, "challengers": [{"version": 2, "log_e": 0.5}]})
    loans.save_evidence("loans", {"reign": 1, "challengers": []})
    assert loans.evidence("loans") == {"reign": 1, "challengers": []}
    with pytest.raises(UnknownModel):
        loans.save_evidence("nothing", {})


def test_registering_admits_adds_and_gives_the_role(
    registry: Registry, schema: InputSchema, signature: Signature, trained: Mapping[str, bytes], me: Principal
) -> None:
    registry.create_model("loans", schema, "binary", by=me)
    with pytest.raises(NoChampion):
        registry.register("loans", trained["linear"], "challenger", by=me)
    assert registry.versions("loans") == []
    first = registry.register("loans", trained["linear"], "champion", by=me, reason="the one we have")
    assert (first.number, first.signature) == (1, signature)
    second = registry.register("loans", trained["forest"], "challenger", by=me)
    stamp, lineup = registry.change_stamp(), registry.lineup("loans")
    assert lineup == Lineup("loans", 2, 1, (2,), None, lineup.since)
    assert registry.register("loans", trained["linear"], "champion", by=me) == first
    assert registry.register("loans", trained["forest"], "challenger", by=me) == second
    assert registry.lineup("loans") == lineup
    assert registry.change_stamp() >= stamp
    with pytest.raises(TransitionRefused):
        registry.register("loans", trained["forest"], "champion", by=me)
    with pytest.raises(TransitionRefused):
        registry.register("loans", trained["linear"], "challenger", by=me)
    with pytest.raises(ArtifactRefused):
        registry.register("loans", b"no model", "challenger", by=me)
    refused = registry.audit()[-1]
    assert refused.action == "refuse_version"
    assert "is not an ONNX model" in refused.detail["sentence"]
    assert len(registry.versions("loans")) == 2


def test_what_is_written_is_read_by_another_process_of_the_same_store(
    loans: Registry, tmp_path: Path, me: Principal
) -> None:
    with Registry.open(tmp_path / "store", now=lambda: START) as other:
        stamp = other.change_stamp()
        loans.promote("loans", 2, reason="better", by=me)
        assert other.change_stamp() > stamp
        assert other.lineup("loans") == loans.lineup("loans")
        assert other.audit() == loans.audit()
        assert verify(other.audit()) is None
