"""The registry: what exists, who plays, who decided. Every call that changes something is one transaction.

    Registry        what exists, and what is derived: here
    Decider         who plays, under which terms, with whose consent
    RegistryReader  what is known, without changing it

    registry.db     models, versions, lineups, reigns, decisions, proposals, keys, audit: `tables`
    artifacts/      the bytes of versions, by digest: `artifacts`

Any number of processes open the same store. Calls are synchronous, may be made from any thread, and take some
milliseconds when they write, as the disk is waited for. When one raises, nothing was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from registry import audit, catalogue, decisions, derived, trainings
from registry.admission import AdmissionLimits, admit
from registry.artifacts import ArtifactStore, digest_of
from registry.database import Database
from registry.decider import Decider
from registry.drift import insert_reference
from registry.errors import ArtifactRefused
from registry.keys import Keys
from registry.lookup import find_lineup, find_model
from registry.replays import Replays
from registry.schemas import check_name, check_schema
from registry.trainings import Training, Trainings
from registry.types import (
    AuditRow,
    ClosedBucket,
    FirstRole,
    InputSchema,
    Model,
    Policy,
    Principal,
    Signature,
    Task,
    TrainingReport,
    Version,
)


class Registry(Decider):
    """Facts about models, kept in a folder, and how they change."""

    def __init__(self, database: Database, artifacts: ArtifactStore, now: Callable[[], datetime]) -> None:
        super().__init__(database, artifacts, now)
        self.keys = Keys(database, now)
        self.trainings = Trainings(database, now)
        self.replays = Replays(database, now)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        now: Callable[[], datetime],
        artifacts_url: str | None = None,
        busy_timeout_s: float = 5.0,
    ) -> Self:
        """Opens the registry of a store, and makes it where there is none.

        Args:
            folder: the store.
            now: stamps what is written; must give aware datetimes.
            artifacts_url: a bucket for the artifacts (`s3://…`); None keeps them in the folder.
            busy_timeout_s: how long a write waits for another process's.

        Raises:
            StoreNewer: a newer Understudy wrote it; it was not touched.
        """
        folder.mkdir(parents=True, exist_ok=True)
        database = Database.open(folder / "registry.db", busy_timeout_s=busy_timeout_s)
        at = folder / "artifacts" if artifacts_url is None else artifacts_url
        return cls(database, ArtifactStore.open(at), now)

    def create_model(
        self, name: str, schema: InputSchema, task: Task, policy: Policy | None = None, *, by: Principal
    ) -> Model:
        """Declares a model. The same schema and task again give the model that is there, with the policy it has by now.

        Raises:
            SchemaRefused: the name or the schema cannot be meant.
            ModelExists: the name is taken, with another schema or task.
        """
        check_name(name)
        check_schema(schema)
        with self._database.change() as connection:
            return catalogue.declare(connection, name, schema, task, policy or Policy(), by, self._now())

    def extend_schema(self, model: str, schema: InputSchema, *, by: Principal) -> Model:
        """Adds optional features at the end of a model's schema; the schema that is there already changes nothing.

        Raises:
            SchemaRefused: it changes a feature that is there, or adds a required one.
        """
        with self._database.change() as connection:
            return catalogue.extend(connection, model, schema, by, self._now())

    def delete_model(self, name: str, *, reason: str, by: Principal) -> None:
        """Takes back the declaration of a model that never had a version: its name is free again.

        Raises:
            ModelInUse: it has versions, and they are kept for ever.
        """
        with self._database.change() as connection:
            catalogue.withdraw(connection, name, reason, by, self._now())

    def add_version(
        self,
        model: str,
        model_bytes: bytes,
        signature: Signature,
        training: TrainingReport | None = None,
        *,
        by: Principal,
    ) -> Version:
        """Keeps a version with the signature that `admit` gave it; it is retired until it is enlisted.

        The same bytes again are the same version, with the training report that it had first.

        Raises:
            ArtifactRefused: its task, features, outputs or classes are not the model's; or the bytes are a version
                already, with another signature.
        """
        self._artifacts.put(model_bytes)
        with self._database.change() as connection:
            return catalogue.insert_version(connection, model, model_bytes, signature, training, by, self._now())

    def register(
        self,
        model: str,
        model_bytes: bytes,
        as_: FirstRole,
        *,
        by: Principal,
        reason: str = "",
        score: str | None = None,
        classes: tuple[int | str, ...] | None = None,
        features: tuple[str, ...] | None = None,
        training: TrainingReport | None = None,
        reference: bytes | None = None,
        of: Training | None = None,
        leaving: Mapping[int, str] = MappingProxyType({}),
        limits: AdmissionLimits | None = None,
    ) -> Version:
        """Admits the bytes, keeps them as a version, and gives it its first role: version and role in one transaction.

        A version that has the role already keeps it, and nothing changes; as `retired` it plays nowhere yet. In the
        same transaction a `reference` is what its drift is measured against, the training that it came `of` is over,
        and those `leaving` are retired by the rule, each for its reason, if they are challengers still.

        Raises:
            LeaseLost: somebody else does that training by now.
            ArtifactRefused: one sentence; the refusal itself is in the audit.
            NoChampion: a challenger needs a champion to challenge.
            TransitionRefused: there is a champion already, or the version has another role.
        """
        declared = self.model(model)
        try:
            admitted = admit(
                model_bytes, declared.schema, declared.task, score=score, classes=classes, features=features,
                limits=limits or AdmissionLimits(),
            )  # fmt: skip
        except ArtifactRefused as refused:
            detail = {"digest": digest_of(model_bytes), "n_bytes": len(model_bytes), "sentence": str(refused)}
            self.record("refuse_version", by=by, model=model, detail=detail)
            raise
        self._artifacts.put(model_bytes)
        grounds, signature = self._grounds(by, reason), admitted.signature
        with self._database.change() as connection:
            if of is not None:
                trainings.check_lease(connection, of)
            for number, why in leaving.items():
                if find_lineup(connection, model).role(number) == "challenger":
                    leaves = self._grounds(Principal.the_rule(), why)
                    decisions.change(connection, "retire", model, number, leaves)
            version = catalogue.insert_version(connection, model, model_bytes, signature, training, by, grounds.at)
            if as_ == "champion":
                decisions.appoint(connection, model, version.number, grounds)
            elif as_ == "challenger" and find_lineup(connection, model).role(version.number) != "challenger":
                decisions.change(connection, "enlist", model, version.number, grounds)
            if reference is not None:
                insert_reference(connection, model, version.number, reference)
            if of is not None:
                trainings.end(connection, of, "registered", at=grounds.at, version=version.number, sentence=reason)
            return version

    def record(self, action: str, *, by: Principal, model: str = "", detail: dict[str, Any]) -> AuditRow:
        """Adds a line to the audit for what happens outside of the registry: erasures, refused uploads."""
        with self._database.write() as connection:
            return audit.append(connection, at=self._now(), by=by, action=action, model=model, detail=detail)

    def set_clock(self, to: datetime, *, by: Principal) -> None:
        """Moves the caller's clock, durably; setting it to what it shows changes nothing.

        The first setting is in the audit, as it says whose clock counts from then on; a year of ticks is not.

        Raises:
            ClockRefused: `to` is before what it shows, or does not say its time zone.
        """
        if (shown := self.clock()) == to:
            return
        with self._database.change() as connection:
            derived.advance_clock(connection, to)
            if shown is None:
                audit.append(connection, at=self._now(), by=by, action="set_clock", detail={"to": to})

    def close_bucket(
        self,
        model: str,
        reign: int,
        bucket: int,
        *,
        closed_at: datetime,
        prediction_cursor: dict[str, int],
        outcome_cursor: dict[str, int],
        sums: dict[int, bytes],
    ) -> bool:
        """Keeps a closed bucket; returns False, and changes nothing, where it was closed before.

        Raises:
            UnknownReign: the model has had no such reign.
        """
        closed = ClosedBucket(model, reign, bucket, closed_at, prediction_cursor, outcome_cursor, sums)
        with self._database.write() as connection:
            return derived.insert_bucket(connection, closed)

    def save_evidence(self, model: str, document: dict[str, Any]) -> None:
        """Keeps the latest evidence of a model in place of the one before; raises UnknownModel."""
        with self._database.write() as connection:
            derived.replace_evidence(connection, find_model(connection, model).name, document, self._now())
