"""The half of the registry that only reads: what a gateway worker needs. Every call is one snapshot."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import select, text

from registry import bars, derived, tables, verification
from registry.artifacts import ArtifactStore
from registry.consent import Bar, Proposal
from registry.database import Database
from registry.drift import DriftShelf
from registry.errors import NoChampion, NoChampionYet, UnknownGeneration
from registry.lookup import find_lineup, find_model, find_proposal, find_version, generation_of, model_query
from registry.rows import (
    to_audit_row,
    to_bar,
    to_decision,
    to_lineup,
    to_model,
    to_proposal,
    to_reign,
    to_schema,
    to_version,
)
from registry.types import AuditRow, ClosedBucket, Decision, InputSchema, Lineup, Model, Reign, Version
from registry.verification import Verified


class RegistryReader:
    """Facts about models; reading them changes nothing."""

    def __init__(self, database: Database, artifacts: ArtifactStore) -> None:
        self._database = database
        self._artifacts = artifacts
        self.drift = DriftShelf(database)

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def change_stamp(self) -> int:
        """One number that moves with every change of a lineup, policy, schema, key or clock: a tenth of a millisecond.

        It can wait for a commit under way (the disk's time), so an event loop calls it in a thread.
        """
        with self._database.read() as connection:
            stamp: int = connection.execute(select(tables.state.c.change_stamp)).scalar_one()
            return stamp

    def written(self) -> tuple[int, int] | None:
        """What moves with every write of anybody, for some microseconds and never a wait; None: do not rely on it."""
        return self._database.written()

    def damage(self) -> list[str]:
        """What the database finds wrong with its own file, page by page; nothing where it is whole."""
        with self._database.read() as connection:
            return [line for line in connection.scalars(text("PRAGMA integrity_check(20)")) if line != "ok"]

    def models(self) -> list[Model]:
        """Every model, by name."""
        with self._database.read() as connection:
            return [to_model(row) for row in connection.execute(model_query().order_by(tables.models.c.name))]

    def model(self, name: str) -> Model:
        """The model of that name; raises UnknownModel."""
        with self._database.read() as connection:
            return find_model(connection, name)

    def schemas(self, model: str) -> list[InputSchema]:
        """Every input schema that the model had, oldest first: chunks name theirs by digest; raises UnknownModel."""
        query = select(tables.schemas).where(tables.schemas.c.model == model).order_by(tables.schemas.c.version)
        with self._database.read() as connection:
            find_model(connection, model)
            return [to_schema(row) for row in connection.execute(query)]

    def versions(self, model: str) -> list[Version]:
        """Every version of the model, oldest first; raises UnknownModel."""
        query = select(tables.versions).where(tables.versions.c.model == model).order_by(tables.versions.c.number)
        with self._database.read() as connection:
            find_model(connection, model)
            return [to_version(row) for row in connection.execute(query)]

    def version(self, model: str, number: int) -> Version:
        """The version of that number; raises UnknownModel or UnknownVersion."""
        with self._database.read() as connection:
            return find_version(connection, model, number)

    def artifact(self, version: Version) -> bytes:
        """The version's bytes, hashed again.

        Raises:
            ArtifactMissing: the store does not have them.
            ArtifactDamaged: the store has others under their name.
        """
        return self._artifacts.get(version.digest)

    def lineup(self, model: str) -> Lineup:
        """Who plays now; raises UnknownModel or NoChampion."""
        with self._database.read() as connection:
            return find_lineup(connection, model)

    def lineup_in(self, model: str, generation: int) -> Lineup:
        """Who played in that generation; raises UnknownModel or UnknownGeneration."""
        key = (tables.lineups.c.model == model) & (tables.lineups.c.generation == generation)
        with self._database.read() as connection:
            row = connection.execute(select(tables.lineups).where(key)).first()
            if row is None:
                find_model(connection, model)
                raise UnknownGeneration(model, generation)
            return to_lineup(row)

    def lineups(self, model: str) -> list[Lineup]:
        """Every generation, oldest first, without a gap; raises UnknownModel."""
        query = select(tables.lineups).where(tables.lineups.c.model == model).order_by(tables.lineups.c.generation)
        with self._database.read() as connection:
            find_model(connection, model)
            return [to_lineup(row) for row in connection.execute(query)]

    def lineup_at(self, model: str, moment: datetime) -> Lineup:
        """Who played at that moment, to the microsecond: a lineup is in play from its `since` on.

        Raises:
            UnknownModel: there is no such model.
            NoChampionYet: it had no champion at that moment.
        """
        query = (
            select(tables.lineups)
            .where(tables.lineups.c.model == model, tables.lineups.c.since <= moment)
            .order_by(tables.lineups.c.generation.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
            if row is None:
                find_model(connection, model)
                raise NoChampionYet(model, moment)
            return to_lineup(row)

    def reign(self, model: str) -> Reign:
        """The reign of now; raises UnknownModel or NoChampion."""
        reigns = self.reigns(model)
        if not reigns:
            raise NoChampion(model)
        return reigns[-1]

    def reigns(self, model: str) -> list[Reign]:
        """Every reign, oldest first; raises UnknownModel."""
        query = select(tables.reigns).where(tables.reigns.c.model == model).order_by(tables.reigns.c.number)
        with self._database.read() as connection:
            find_model(connection, model)
            return [to_reign(row) for row in connection.execute(query)]

    def decisions(self, model: str) -> list[Decision]:
        """Every decision with what was known then, oldest first; raises UnknownModel."""
        table = tables.decisions
        with self._database.read() as connection:
            find_model(connection, model)
            rows = connection.execute(select(table).where(table.c.model == model).order_by(table.c.to_generation))
            return [to_decision(row) for row in rows]

    def proposals(self, model: str) -> list[Proposal]:
        """Every proposal as it stands, oldest first; raises UnknownModel."""
        query = select(tables.proposals).where(tables.proposals.c.model == model).order_by(tables.proposals.c.number)
        with self._database.read() as connection:
            generation = generation_of(connection, model)
            return [to_proposal(row, generation) for row in connection.execute(query)]

    def proposal(self, model: str, number: int) -> Proposal:
        """The proposal of that number as it stands; raises UnknownModel or UnknownProposal."""
        with self._database.read() as connection:
            return find_proposal(connection, model, number)

    def bars(self, model: str) -> list[Bar]:
        """Every version that a rollback deposed, also those whose bar was lifted, oldest first; raises UnknownModel."""
        query = select(tables.bars).where(tables.bars.c.model == model).order_by(tables.bars.c.generation)
        with self._database.read() as connection:
            find_model(connection, model)
            return [to_bar(row) for row in connection.execute(query)]

    def barred(self, model: str) -> frozenset[int]:
        """The versions that may not play, because a rollback deposed them; raises UnknownModel."""
        return frozenset(bar.version for bar in self.bars(model) if bar.lifted_at is None)

    def rests_until(self, model: str) -> datetime | None:
        """Until when the rule promotes nothing of itself, after the last rollback; None where there never was one."""
        with self._database.read() as connection:
            return bars.rests_until(connection, find_model(connection, model))

    def audit(self, model: str | None = None, *, after: int = 0, limit: int | None = None) -> list[AuditRow]:
        """Lines of the audit in order, from the one that follows number `after`; `model` keeps those of one model.

        Only the whole audit, from the first line, can be verified.
        """
        query = select(tables.audit).where(tables.audit.c.seq > after).order_by(tables.audit.c.seq).limit(limit)
        if model is not None:
            query = query.where(tables.audit.c.model == model)
        with self._database.read() as connection:
            return [to_audit_row(row) for row in connection.execute(query)]

    def verified(self, head: str | None = None) -> Verified:
        """Whether the audit is whole, and everything it speaks of is as it says; `head` is a hash kept elsewhere."""
        with self._database.read() as connection:
            return verification.verified(connection, head)

    def clock(self) -> datetime | None:
        """What the caller's clock shows, None while it was never set."""
        with self._database.read() as connection:
            return connection.scalar(select(tables.state.c.clock))

    def closed_buckets(self, model: str, reign: int) -> list[ClosedBucket]:
        """The closed buckets of a reign, by bucket number."""
        with self._database.read() as connection:
            return derived.list_buckets(connection, model, reign)

    def evidence(self, model: str) -> dict[str, Any] | None:
        """The evidence that was saved last, None while there is none."""
        with self._database.read() as connection:
            return derived.latest_evidence(connection, model)
