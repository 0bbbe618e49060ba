"""What a stream does with the rows of a file: which train the first versions, and which are sent.

    rows in order of time     |-- champion --|-- challenger --|------------ sent ------------>
                              0%            20%              40%                          100%

No version learns from a row that is sent, nor from an outcome that is not known yet when the first row is sent. Whether
a model that is there was made this way is told by its versions: each keeps the digest of the rows that it learned from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from gateway.cli.file_rows import NEVER, FileRows, Told, range_of, rows_of
from gateway.cli.first_versions import FirstRole, Learned, Lesson, declare, learned, upload
from gateway.cli.midnight import Span
from gateway.cli.moments import DAY_US
from gateway.cli.progress import Progress
from gateway.cli.table import Table
from gateway.cli.typed import TableRefused
from gateway.client import Client
from gateway.errors import Conflict
from gateway.records import moment
from registry.recipe import Recipe
from registry.types import Feature, InputSchema, Policy, Task
from retrain.training.rows import Rows

CHAMPION_SHARE = "20%"
DAY_S = 86_400
MATURED_SHARE = 0.99


class Shares(Struct, frozen=True):
    """What the first versions learn from, as the caller says it, their model's maturity window, and how it is trained.

    Where it is trained again, any number of challengers may come in one reign.
    """

    champion: str | None
    challengers: tuple[str, ...]
    maturity_us: int | None
    recipe: Recipe | None = None

    @property
    def n_slots(self) -> int:
        """As the policy has them."""
        return 0 if self.recipe is not None else max(Policy().n_slots, len(self.challengers))


class Found(Struct, frozen=True):
    """What is there already: the model as `GET /admin/models/{m}` tells it, why its first champion came, the clock."""

    document: dict[str, Any] | None = None
    reason: str = ""
    now: datetime | None = None


class Plan(Struct, frozen=True, eq=False):
    """What is to be sent, and what has to be made before."""

    model: str
    rows: FileRows
    live: range
    task: Task
    policy: Policy
    declares: bool
    versions: Sequence[Learned]
    recipe: Recipe | None

    @property
    def start(self) -> datetime:
        """When the first row is sent."""
        return moment(int(self.rows.at_us[self.live.start]))

    @property
    def span(self) -> Span:
        """From the first row to the last row or outcome."""
        known_us = self.rows.known_us[self.live.start :]
        last_us = max(int(self.rows.at_us[-1]), int(known_us[known_us != NEVER].max(initial=0)))
        return Span.over(self.start, moment(last_us))

    def carry_out(self, client: Client) -> None:
        """Set the clock, where it was never set, and make the model."""
        if client.clock()["now"] is None or self.declares:
            client.set_clock(self.start)
        if self.declares:
            declare(client, self.model, self.rows.inputs.schema, self.task, self.policy)
        for version in self.versions:
            upload(client, self.model, version)
        if self.recipe is not None:
            client.set_recipe(self.model, msgspec.to_builtins(self.recipe))


def plan(source: str, table: Table, told: Told, shares: Shares, model: str, found: Found, progress: Progress) -> Plan:
    """Read the rows, and train what has to be trained; nothing is made anywhere yet.

    Args:
        source: the name of the file, for the audit.
        table: what is in it.
        told: what the caller says of its columns and times.
        shares: what the first versions learn from.
        model: the model's name.
        found: what is there already.
        progress: where it is said.

    Raises:
        TableRefused, TrainingRefused: it cannot be done with this file.
        Conflict: it cannot be done with this store.
    """
    schema = None
    if found.document is not None:
        schema = _schema(found.document)
        told = replace(told, task=found.document["task"])
    rows, sentences = rows_of(table, told, schema)
    for sentence in sentences:
        progress.say(sentence)
    lessons = _Lessons(source, table.digest, rows, found)
    wanted = lessons.wanted(shares)
    last = max((part.stop for _, part in wanted), default=0)
    if last >= len(rows):
        raise TableRefused(f"no row is left to send: {last:,} of {len(rows):,} are learned from")
    live = range(last, len(rows))
    start = moment(int(rows.at_us[last]))
    if found.document is None and found.now is not None and start < found.now:
        raise Conflict(
            f"the first row is of {start:%Y-%m-%d %H:%M}, and the store's clock is at {found.now:%Y-%m-%d %H:%M} "
            "already and never goes back: use another --data-dir"
        )
    versions = []
    for role, part in wanted:
        lesson = lessons.lesson(role, part, live)
        if not lessons.is_learned(lesson):
            if (n_late := len(part) - len(lesson.target)) > 0:
                progress.say(
                    f"{n_late:,} of {len(part):,} rows for the {role} are not learned from: their outcome is not known "
                    "when the first row is sent"
                )
            versions.append(learned(lesson, rows.inputs.schema, rows.outcomes.task, progress))
    policy = Policy(maturity_s=_maturity_s(rows, live, shares), n_slots=shares.n_slots)
    return Plan(model, rows, live, rows.outcomes.task, policy, found.document is None, versions, shares.recipe)


class _Lessons:
    """What versions of one model are to learn from one file, and whether some have."""

    def __init__(self, source: str, digest: str, rows: FileRows, found: Found) -> None:
        self._source, self._digest, self._rows, self._found = source, digest, rows, found
        versions = [] if found.document is None else found.document["versions"]
        reports = [version["training"] for version in versions if version["training"] is not None]
        self._learned = {report["dataset_digest"] for report in reports}
        self._has_champion = found.document is not None and found.document["lineup"] is not None

    def wanted(self, shares: Shares) -> list[tuple[FirstRole, range]]:
        """Which rows the first versions learn from; no champion where there is one that did not come from here.

        Raises:
            Conflict: so it is, and the caller wants another.
        """
        n = len(self._rows)
        champion: tuple[FirstRole, range] = "champion", _part(shares.champion or CHAMPION_SHARE, n)
        challengers: list[tuple[FirstRole, range]] = [("challenger", _part(text, n)) for text in shares.challengers]
        if self._has_champion and self._digest not in self._found.reason:
            if shares.champion is not None:
                raise Conflict("the model has a champion that did not come from this file: leave out --champion-rows")
            return challengers
        return [champion, *challengers]

    def lesson(self, role: FirstRole, part: range, live: range) -> Lesson:
        """The rows of a part whose outcome is known when the first row is sent; raises TableRefused for none."""
        rows = self._rows
        which = rows.known_by(part, int(rows.at_us[live.start]))
        if len(which) == 0:
            raise TableRefused(f"the {role} has nothing to learn from: no outcome of its rows is known by then")
        reason = f"trained on rows {part.start + 1:,} to {part.stop:,} of {self._source} ({self._digest})"
        return Lesson(
            role, reason, rows.inputs.trainable(which), rows.outcomes.trainable(which),
            rows.at_us[which].astype("datetime64[us]"),
        )  # fmt: skip

    def is_learned(self, lesson: Lesson) -> bool:
        """Whether a version has learned from these very rows.

        Raises:
            Conflict: the champion has learned from others of this file.
        """
        if not self._has_champion:
            return False
        rows = self._rows
        schema, task = rows.inputs.schema, rows.outcomes.task
        if Rows.checked(lesson.columns, lesson.target, schema, task, lesson.at).digest() in self._learned:
            return True
        if lesson.role == "champion":
            raise Conflict(
                "the model's champion was trained on other rows of this file, or with other options: go on with those "
                "that it began with, or name another model"
            )
        return False


def _part(text: str, n_rows: int) -> range:
    try:
        return range_of(text, n_rows)
    except ValueError as error:
        raise TableRefused(str(error)) from None


def _schema(document: dict[str, Any]) -> InputSchema:
    return InputSchema(tuple(msgspec.convert(document["schema"]["features"], list[Feature])))


def _maturity_s(rows: FileRows, live: range, shares: Shares) -> float:
    """What nearly all outcomes need, in whole days."""
    if shares.maturity_us is not None:
        return shares.maturity_us / 1e6
    known_us, at_us = rows.known_us[live.start :], rows.at_us[live.start :]
    waits_us = (known_us - at_us)[known_us != NEVER]
    if len(waits_us) == 0:
        return float(DAY_S)
    return float(DAY_S * max(1, math.ceil(np.quantile(waits_us, MATURED_SHARE) / DAY_US)))
