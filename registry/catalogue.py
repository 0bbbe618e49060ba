"""How models, schemas and versions come to be: checks, row and audit row, in the transaction of the caller."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, func, select

from registry.artifacts import digest_of
from registry.audit import append, canonical, digest_of_text
from registry.errors import ArtifactRefused, ModelExists, ModelInUse, SchemaRefused, UnknownModel
from registry.lookup import find_model, find_version
from registry.rows import to_training, to_version
from registry.schemas import check_extension, check_policy
from registry.tables import evidence, models, proposals, recipes, schemas, versions
from registry.types import InputSchema, Model, Policy, Principal, Signature, Task, TrainingReport, Version


def declare(
    connection: Connection, name: str, schema: InputSchema, task: Task, policy: Policy, by: Principal, at: datetime
) -> Model:
    """The model of that name, new or as it is there; raises ModelExists where it was declared otherwise."""
    check_policy(policy, task, None, schema)
    try:
        there = find_model(connection, name)
    except UnknownModel:
        connection.execute(
            models.insert().values(
                name=name, task=task, schema_version=schema.version, policy=canonical(policy), created_at=at
            )
        )
        _insert_schema(connection, name, schema, at)
        detail = {
            "task": task, "schema_digest": schema.digest, "schema_version": schema.version, "policy": policy,
        }  # fmt: skip
        append(connection, at=at, by=by, action="create_model", model=name, detail=detail)
        return find_model(connection, name)
    if there.schema.digest != schema.digest:
        raise ModelExists(name, "input schema") from None
    if there.task != task:
        raise ModelExists(name, "task") from None
    return there


def extend(connection: Connection, name: str, schema: InputSchema, by: Principal, at: datetime) -> Model:
    """The model with optional features added; raises SchemaRefused where more than that was changed."""
    there = find_model(connection, name)
    if there.schema.digest == schema.digest:
        return there
    check_extension(there.schema, schema)
    numbered = InputSchema(schema.features, there.schema.version + 1)
    _insert_schema(connection, name, numbered, at)
    connection.execute(models.update().where(models.c.name == name).values(schema_version=numbered.version))
    detail = {"schema_digest": schema.digest, "version": numbered.version}
    append(connection, at=at, by=by, action="extend_schema", model=name, detail=detail)
    return find_model(connection, name)


def withdraw(connection: Connection, name: str, reason: str, by: Principal, at: datetime) -> None:
    """Deletes a model that never had a version, and what was declared of it; raises ModelInUse."""
    find_model(connection, name)
    if connection.scalar(select(func.count()).select_from(versions).where(versions.c.model == name)):
        raise ModelInUse(f"model '{name}' has versions, and what answered is kept for ever: it cannot be deleted")
    for table in (proposals, evidence, recipes, schemas):
        connection.execute(table.delete().where(table.c.model == name))
    connection.execute(models.delete().where(models.c.name == name))
    append(connection, at=at, by=by, action="delete_model", model=name, detail={"reason": reason})


def insert_version(
    connection: Connection,
    model: str,
    model_bytes: bytes,
    signature: Signature,
    training: TrainingReport | None,
    by: Principal,
    at: datetime,
) -> Version:
    """The version of these bytes, new or as it is there; raises ArtifactRefused where it does not suit the model."""
    declared = find_model(connection, model)
    digest = digest_of(model_bytes)
    row = connection.execute(select(versions).where(versions.c.model == model, versions.c.digest == digest)).first()
    if row is not None:
        there = to_version(row)
        if there.signature != signature:
            raise ArtifactRefused(
                f"these bytes are version {there.number} of '{model}' already, with another signature"
            )
        return there
    latest = connection.scalar(select(func.max(versions.c.number)).where(versions.c.model == model)) or 0
    _check_suits(connection, declared, signature, latest)
    # as it will be read: a count that stands for a number is written as one, and reigns repeat what they read
    training = None if training is None else to_training(canonical(training))
    connection.execute(
        versions.insert().values(
            model=model,
            number=latest + 1,
            digest=digest,
            n_bytes=len(model_bytes),
            signature=canonical(signature),
            training=None if training is None else canonical(training),
            created_at=at,
            created_by=by.name,
        )
    )
    detail = {"version": latest + 1, "digest": digest, "n_bytes": len(model_bytes)}
    detail |= {"signature_digest": digest_of_text(canonical(signature))}
    if training is not None:
        detail |= {"training_digest": digest_of_text(canonical(training))}
    append(connection, at=at, by=by, action="add_version", model=model, detail=detail)
    return find_version(connection, model, latest + 1)


def check_terms(connection: Connection, model: str, policy: Policy) -> None:
    """Refuses terms that the model cannot have, given the classes of its versions; raises SchemaRefused."""
    declared = find_model(connection, model)
    latest = connection.scalar(select(func.max(versions.c.number)).where(versions.c.model == model))
    classes = find_version(connection, model, latest).signature.classes if latest else None
    check_policy(policy, declared.task, classes, declared.schema)


def _insert_schema(connection: Connection, model: str, schema: InputSchema, at: datetime) -> None:
    features = msgspec.json.encode(schema.features).decode()
    connection.execute(
        schemas.insert().values(model=model, version=schema.version, digest=schema.digest, features=features, since=at)
    )


def _check_suits(connection: Connection, declared: Model, signature: Signature, latest: int) -> None:
    """Callers see one model: whichever version answers, the same outputs come, and mean the same."""
    name = declared.name
    if signature.task != declared.task:
        raise ArtifactRefused(f"the version's task is {signature.task}, and that of '{name}' is {declared.task}")
    known = set(declared.schema.names)
    for binding in signature.inputs:
        for feature in binding.features:
            if feature not in known:
                raise ArtifactRefused(f"the version takes '{feature}', which is no feature of '{name}'")
    try:
        check_policy(declared.policy, declared.task, signature.classes, declared.schema)
    except SchemaRefused as refused:
        raise ArtifactRefused(f"the version's classes do not suit the model's terms: {refused}") from None
    if latest == 0:
        return
    settled = find_version(connection, name, latest).signature
    if signature.outputs != settled.outputs:
        raise ArtifactRefused(
            f"every version of '{name}' must answer with the same outputs: "
            f"expected {_outputs(settled)}, got {_outputs(signature)}"
        )
    if signature.score != settled.score or signature.classes != settled.classes:
        raise ArtifactRefused(
            f"every version of '{name}' must have the same score and classes: expected {_meaning(settled)}, "
            f"got {_meaning(signature)}"
        )


def _outputs(signature: Signature) -> str:
    return ", ".join(
        f"{output.name} ({output.dtype}{'' if output.width is None else f' of width {output.width}'})"
        for output in signature.outputs
    )


def _meaning(signature: Signature) -> str:
    score = signature.score
    column = "" if score.column is None else f":{score.column}"
    return f"{score.output}{column} with classes {list(signature.classes)}"
