"""How a model, a version, a lineup, a proposal are found, or their absence is told: in reads and within changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, func, select

from registry.consent import Proposal
from registry.errors import NoChampion, UnknownModel, UnknownProposal, UnknownVersion
from registry.rows import to_lineup, to_model, to_proposal, to_version
from registry.tables import lineups, models, proposals, schemas, versions
from registry.types import Lineup, Model, Version


def model_query() -> Select[*tuple[Any, ...]]:
    """Models, each with the schema that it has now."""
    current = (schemas.c.model == models.c.name) & (schemas.c.version == models.c.schema_version)
    return select(models, schemas.c.version, schemas.c.features).join(schemas, current)


def find_model(connection: Connection, model: str) -> Model:
    """The model of that name with its current schema; raises UnknownModel."""
    row = connection.execute(model_query().where(models.c.name == model)).first()
    if row is None:
        raise UnknownModel(model)
    return to_model(row)


def find_version(connection: Connection, model: str, number: int) -> Version:
    """The version of that number; raises UnknownModel or UnknownVersion."""
    key = (versions.c.model == model) & (versions.c.number == number)
    row = connection.execute(select(versions).where(key)).first()
    if row is None:
        find_model(connection, model)
        raise UnknownVersion(model, number)
    return to_version(row)


def find_lineup(connection: Connection, model: str) -> Lineup:
    """The lineup of now; raises UnknownModel or NoChampion."""
    query = select(lineups).where(lineups.c.model == model).order_by(lineups.c.generation.desc()).limit(1)
    row = connection.execute(query).first()
    if row is None:
        find_model(connection, model)
        raise NoChampion(model)
    return to_lineup(row)


def generation_of(connection: Connection, model: str) -> int:
    """The generation of now, 0 before the first champion; raises UnknownModel."""
    latest: int | None = connection.scalar(select(func.max(lineups.c.generation)).where(lineups.c.model == model))
    if latest is None:
        find_model(connection, model)
    return latest or 0


def find_proposal(connection: Connection, model: str, number: int) -> Proposal:
    """The proposal of that number, as it stands at the generation of now; raises UnknownModel or UnknownProposal."""
    generation = generation_of(connection, model)
    row = connection.execute(select(proposals).where(proposals.c.model == model, proposals.c.number == number)).first()
    if row is None:
        raise UnknownProposal(model, number)
    return to_proposal(row, generation)
