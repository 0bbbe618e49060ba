"""Trainings: a model's recipe, and every time that it is used, from the trigger to the version that came of it.

    ask ─▶ asked ─claim─▶ running ─┬─ finish ─▶ registered   with the version's row and role, in one transaction
              ▲                    ├─ decline ▶ declined     it could not win, and takes no place: one sentence
              │                    ├─ fail ───▶ failed       nothing came of it: one sentence
              └ give back, release ┘                         its process, or its worker, has ended: it is tried again

A trigger has an id: the same one asks once, however often and by however many workers it is told. At most one training
of a store runs, by whoever holds the lease of it; a lease that was not renewed in time is anybody's. Leases are of the
machines' time, `at` and `ended_at` of the journal's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, func, or_, select

from registry.audit import append, canonical, digest_of_text
from registry.database import Database
from registry.errors import LeaseLost, SchemaRefused, UnknownTraining
from registry.lookup import find_lineup, find_model
from registry.recipe import Recipe
from registry.rows import AnyRow, to_document
from registry.tables import recipes, training_outlooks, trainings
from registry.types import Principal

TriggerKind = Literal["performance", "drift", "outcomes", "calendar", "person"]
MOST_ATTEMPTS = 3
"""Of one training whose process ends without a word, as one that is killed does."""


class Training(Struct, frozen=True):
    """One use of a recipe. `at`: when it was asked for, and as of when it learns."""

    model: str
    number: int
    trigger: str
    kind: TriggerKind
    reason: str
    by: str
    at: datetime
    recipe: Recipe
    state: Literal["asked", "running", "registered", "declined", "failed"]
    n_attempts: int = 0
    progress: str = ""
    version: int | None = None
    sentence: str | None = None
    ended_at: datetime | None = None
    holder: str | None = None
    leased_until: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state not in ("asked", "running")


class Trainings:
    """The recipes and trainings of every model of a store."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def recipe(self, model: str) -> Recipe | None:
        """How the model is trained; None where only people bring versions. Raises UnknownModel."""
        with self._database.read() as connection:
            find_model(connection, model)
            text = connection.scalar(select(recipes.c.recipe).where(recipes.c.model == model))
        return None if text is None else msgspec.json.decode(text, type=Recipe)

    def set_recipe(self, model: str, recipe: Recipe | None, *, by: Principal, reason: str = "") -> None:
        """Train the model so from now on; None: not at all. The one that it has already changes nothing.

        Raises:
            UnknownModel: there is no such model.
            SchemaRefused: the recipe contradicts itself.
        """
        if recipe is not None:
            _check(recipe)
        text = None if recipe is None else canonical(recipe)
        with self._database.write() as connection:
            find_model(connection, model)
            there = connection.scalar(select(recipes.c.recipe).where(recipes.c.model == model))
            if there == text:
                return
            connection.execute(recipes.delete().where(recipes.c.model == model))
            at = self._now()
            if text is not None:
                connection.execute(recipes.insert().values(model=model, recipe=text, principal=by.name, at=at))
            digest = None if text is None else digest_of_text(text)
            detail = {"recipe": recipe, "recipe_digest": digest, "reason": reason}
            append(connection, at=at, by=by, action="set_recipe", model=model, detail=detail)

    def ask(
        self, model: str, trigger: str, kind: TriggerKind, reason: str, *, by: Principal, at: datetime | None = None
    ) -> Training:
        """Ask for a training by the recipe of now; the one of this trigger, where it was asked for before.

        Raises:
            UnknownModel, NoChampion: there is nothing to learn from.
        """
        with self._database.write() as connection:
            find_lineup(connection, model)
            there = connection.execute(_of(model).where(trainings.c.trigger == trigger)).first()
            if there is not None:
                return _training(there)
            text = connection.scalar(select(recipes.c.recipe).where(recipes.c.model == model)) or canonical(Recipe())
            latest = select(func.max(trainings.c.number)).where(trainings.c.model == model)
            number, at = (connection.scalar(latest) or 0) + 1, at or self._now()
            connection.execute(
                trainings.insert().values(
                    model=model, number=number, trigger=trigger, kind=kind, reason=reason, principal=by.name, at=at,
                    recipe=text, state="asked", n_attempts=0, progress="",
                )
            )  # fmt: skip
            detail = {"training": number, "trigger": trigger, "kind": kind, "reason": reason}
            detail |= {"at": at, "recipe_digest": digest_of_text(text)}
            append(connection, at=self._now(), by=by, action="ask_training", model=model, detail=detail)
            return _found(connection, model, number)

    def all(self, model: str) -> list[Training]:
        """Every training of a model, oldest first; raises UnknownModel."""
        with self._database.read() as connection:
            find_model(connection, model)
            return [_training(row) for row in connection.execute(_of(model).order_by(trainings.c.number))]

    def one(self, model: str, number: int) -> Training:
        """The training of that number; raises UnknownModel or UnknownTraining."""
        with self._database.read() as connection:
            return _found(connection, model, number)

    def claim(self, holder: str, *, now: datetime, until: datetime) -> Training | None:
        """Take the training that has waited longest, if none runs; None where there is nothing to do.

        `now`, `until`: of the machine's time. One whose lease is over is taken from whoever held it, as is one whose
        lease is longer than any may be: the clock was ahead when it was given. One whose workers have ended
        `MOST_ATTEMPTS` times has failed.
        """
        with self._database.read() as connection:  # nearly always there is nothing, and nobody is kept from writing
            waiting = select(trainings.c.number).where(trainings.c.state.in_(("asked", "running")))
            if connection.execute(waiting).first() is None:
                return None
        leased_until, longest = trainings.c.leased_until, until + (until - now)
        lapsed = or_(leased_until.is_(None), leased_until <= now, leased_until > longest)
        with self._database.write() as connection:
            running = select(trainings).where(trainings.c.state == "running")
            held = connection.execute(running.where(~lapsed)).first()
            if held is not None:
                return None
            oldest = (trainings.c.at, trainings.c.model, trainings.c.number)
            for given_up in connection.execute(running.where(trainings.c.n_attempts >= MOST_ATTEMPTS)).all():
                said = f"whoever did it has ended before it was done, {given_up.n_attempts} times"
                end(connection, _training(given_up), "failed", at=self._now(), sentence=said)
            row = connection.execute(running.order_by(*oldest)).first()
            if row is None:
                asked = select(trainings).where(trainings.c.state == "asked")
                row = connection.execute(asked.order_by(*oldest)).first()
            if row is None:
                return None
            taken = {"state": "running", "holder": holder, "leased_until": until, "n_attempts": row.n_attempts + 1}
            connection.execute(trainings.update().where(_key(row.model, row.number)).values(taken))
            return _found(connection, row.model, row.number)

    def renew(self, training: Training, *, until: datetime, progress: str) -> None:
        """Keep the lease, and say how far it is; raises LeaseLost."""
        with self._database.write() as connection:
            check_lease(connection, training)
            values = {"leased_until": until, "progress": progress}
            connection.execute(trainings.update().where(_key(training.model, training.number)).values(values))

    def give_back(self, training: Training, sentence: str) -> None:
        """Its process has ended without a word: it is tried again, or after `MOST_ATTEMPTS` failed; raises LeaseLost.

        `sentence` says how it ended.
        """
        if training.n_attempts >= MOST_ATTEMPTS:
            self.fail(training, f"{sentence}, {training.n_attempts} times")
            return
        self._ask_again(training, {"progress": f"tried again: {sentence}"})

    def release(self, training: Training) -> None:
        """Whoever does it is to end: it is asked for again, and that was no attempt; raises LeaseLost."""
        self._ask_again(training, {"n_attempts": training.n_attempts - 1})

    def _ask_again(self, training: Training, values: Mapping[str, Any]) -> None:
        asked: dict[str, Any] = {"state": "asked", "holder": None, "leased_until": None, **values}
        with self._database.write() as connection:
            check_lease(connection, training)
            connection.execute(trainings.update().where(_key(training.model, training.number)).values(asked))

    def fail(self, training: Training, sentence: str) -> None:
        """Nothing comes of it, and that is said; raises LeaseLost."""
        with self._database.write() as connection:
            check_lease(connection, training)
            end(connection, training, "failed", at=self._now(), sentence=sentence)

    def decline(self, training: Training, sentence: str) -> None:
        """It was done, and what came of it is not worth a place among the challengers; raises LeaseLost."""
        with self._database.write() as connection:
            check_lease(connection, training)
            end(connection, training, "declined", at=self._now(), sentence=sentence)

    def outlook(self, model: str) -> dict[str, Any] | None:
        """What is said of the next training; None while nothing is. Raises UnknownModel."""
        with self._database.read() as connection:
            find_model(connection, model)
            query = select(training_outlooks.c.document).where(training_outlooks.c.model == model)
            return to_document(connection.scalar(query))

    def save_outlook(self, model: str, document: Mapping[str, Any]) -> None:
        """Say this in place of what was said; raises UnknownModel."""
        table, values = training_outlooks, {"document": canonical(dict(document)), "saved_at": self._now()}
        with self._database.write() as connection:
            find_model(connection, model)
            if connection.execute(table.update().where(table.c.model == model).values(values)).rowcount == 0:
                connection.execute(table.insert().values(values | {"model": model}))


def _check(recipe: Recipe) -> None:
    if (recipe.estimator == "function") != (recipe.function is not None):
        raise SchemaRefused("recipe: expected `function` beside the estimator `function`, and beside no other")
    n_rows, needed = recipe.window.n_rows, recipe.triggers.min_outcomes
    if n_rows is not None and n_rows < needed:
        raise SchemaRefused(
            f"recipe: window.n_rows: expected {needed:,} or more, as triggers.min_outcomes has it, got {n_rows:,}: no "
            "training would ever have rows enough"
        )


def check_lease(connection: Connection, training: Training) -> None:
    """Refuses whoever is not the one that does it; raises LeaseLost."""
    row = _found(connection, training.model, training.number)
    if row.state != "running" or (row.holder, row.n_attempts) != (training.holder, training.n_attempts):
        who = training.holder or "nobody"
        raise LeaseLost(f"training {training.number} of '{training.model}' is not, or no longer, done by {who}")


def end(
    connection: Connection,
    training: Training,
    state: Literal["registered", "declined", "failed"],
    *,
    at: datetime,
    version: int | None = None,
    sentence: str,
) -> None:
    """Write down what came of a training, in the transaction of the caller.

    What was said of the next one was said while this one was under way: nothing is, until a worker looks again.
    """
    ended: dict[str, Any] = {
        "state": state, "version": version, "sentence": sentence, "n_attempts": training.n_attempts,
    }  # fmt: skip
    connection.execute(training_outlooks.delete().where(training_outlooks.c.model == training.model))
    over = {"ended_at": at, "progress": "", "holder": None, "leased_until": None}
    connection.execute(trainings.update().where(_key(training.model, training.number)).values(ended | over))
    by, detail = Principal(training.by), ended | {"training": training.number}
    append(connection, at=at, by=by, action="end_training", model=training.model, detail=detail)


def _key(model: str, number: int) -> Any:
    return (trainings.c.model == model) & (trainings.c.number == number)


def _of(model: str) -> Any:
    return select(trainings).where(trainings.c.model == model)


def _found(connection: Connection, model: str, number: int) -> Training:
    row = connection.execute(select(trainings).where(_key(model, number))).first()
    if row is None:
        find_model(connection, model)
        raise UnknownTraining(model, number)
    return _training(row)


def _training(row: AnyRow) -> Training:
    return Training(
        row.model, row.number, row.trigger, row.kind, row.reason, row.principal, row.at,
        msgspec.json.decode(row.recipe, type=Recipe), row.state, row.n_attempts, row.progress, row.version,
        row.sentence, row.ended_at, row.holder, row.leased_until,
    )  # fmt: skip
