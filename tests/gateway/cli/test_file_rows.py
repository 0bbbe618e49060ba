"""From a file to rows: which columns are features and why not, what happened, when, and under which key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.cli.file_rows import NEVER, FileRows, Told, range_of, rows_of
from gateway.cli.moments import DAY_US
from gateway.cli.table import Table, read
from gateway.cli.typed import TableRefused
from gateway.records import micros, moment
from registry.schemas import check_schema
from registry.types import Feature, InputSchema

N = 60
START = datetime(2013, 6, 1, tzinfo=UTC)


def table(tmp_path: Path, **columns: Any) -> Table:
    """A CSV of N rows: each column a list, or a function of the row's number."""
    values = {name: [say(n) for n in range(N)] if callable(say) else say for name, say in columns.items()}
    lines = [",".join(values)] + [",".join(str(of[n]) for of in values.values()) for n in range(N)]
    path = tmp_path / "file.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read(path)


def day(n: int) -> str:
    return f"{START + timedelta(days=n):%Y-%m-%d}"


def told(**more: Any) -> Told:
    said: dict[str, Any] = {"target": "y", "rows_per_day": 10.0, "start_us": micros(START)}
    return Told(**(said | more))


def made(found: Table, **more: Any) -> tuple[FileRows, str]:
    rows, sentences = rows_of(found, told(**more), None)
    check_schema(rows.inputs.schema)
    return rows, "\n".join(sentences)


def y(n: int) -> int:
    return n * 7 % 3 % 2


def test_mixed_columns_become_features_or_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    rows, said = made(
        table(
            tmp_path,
            row=lambda n: n + 5,
            age=lambda n: 20 + n % 7,
            income=lambda n: "" if n % 9 == 0 else n * 1.5,
            visits=lambda n: "NA" if n == 3 else n % 4,
            member=lambda n: ["true", "false"][n % 2],
            asked=lambda n: ["", "true", "false"][n % 3],
            town=lambda n: ["Rome", "", "Oslo"][n % 3],
            zip=lambda n: ["00501", "10001"][n % 2],
            note=lambda n: f"dear customer number {n * 7919 % 61}",
            plan=lambda _: "basic",
            nothing=lambda _: "",
            born=lambda n: f"{1950 + n % 40}-03-0{1 + n % 9}",
            refunded=lambda n: day(300 + n),
            y=y,
        )
    )
    expected = (
        Feature("age", "int64"),
        Feature("income", "float64", required=False),
        Feature("visits", "float64", required=False),
        Feature("member", "bool"),
        Feature("asked", "float64", required=False),
        Feature("town", "string", required=False),
        Feature("zip", "string"),
        Feature("born", "float64"),
    )
    assert rows.inputs.schema.features == expected
    for sentence in (
        "row is left out: it counts up from row to row",
        "note is left out: it has 60 different texts in 60 rows, as ids and free text have",
        "plan is left out: it is always 'basic'",
        "nothing is left out: it is always empty",
        "born becomes a number: days from it to the row's time",
        "refunded is left out: it lies after the row's own time in 60 rows, so that it was not known then",
        "y has 0 and 1: binary",
    ):
        assert sentence in said
    assert rows.row(0).inputs == {
        "age": 20, "income": None, "visits": 0.0, "member": True, "asked": None, "town": "Rome", "zip": "00501",
        "born": (START - datetime(1950, 3, 1, tzinfo=UTC)).days,
    }  # fmt: skip
    assert all(type(value) in (int, float, bool, str, type(None)) for value in rows.row(1).inputs.values())


def test_the_same_columns_come_out_under_the_schema_that_was_made(tmp_path: Path) -> None:
    found = table(
        tmp_path, a=lambda n: n % 5, b=lambda n: n / 7, c=lambda n: ["x", ""][n % 2], d=lambda n: day(-n), y=y
    )
    rows, _ = made(found)
    again, _ = rows_of(found, told(), rows.inputs.schema)
    assert [again.row(n) for n in range(N)] == [rows.row(n) for n in range(N)]


@pytest.mark.parametrize(
    ("feature", "sentence"),
    [
        (Feature("z", "int64"), "the model's feature 'z' is no column of the file; the columns are a, b, c, y"),
        (Feature("b", "int64"), "b: the model takes int64, and the column holds numbers"),
        (Feature("c", "float64"), "c: the model takes float64, and the column holds texts"),
        (Feature("c", "string"), "c: the model requires it, and it is missing in 30 rows"),
    ],
)
def test_a_file_that_does_not_fit_the_model_is_one_sentence(tmp_path: Path, feature: Feature, sentence: str) -> None:
    found = table(tmp_path, a=lambda n: n % 5, b=lambda n: n / 7, c=lambda n: ["x", ""][n % 2], y=y)
    with pytest.raises(TableRefused, match=f"^{sentence}$"):
        rows_of(found, told(), InputSchema((feature,)))


@pytest.mark.parametrize(
    ("say", "task", "expected"),
    [
        (y, None, ("binary", {0, 1})),
        (lambda n: ["no", "yes"][y(n)], None, ("binary", {"no", "yes"})),
        (lambda n: ["true", "false"][y(n)], None, ("binary", {0, 1})),
        (lambda n: f"{y(n)}.0", None, ("binary", {0, 1})),
        (lambda n: n % 3, "multiclass", ("multiclass", {0, 1, 2})),
        (lambda n: "abc"[n % 3], None, ("multiclass", {"a", "b", "c"})),
        (lambda n: n % 3, None, ("regression", {0.0, 1.0, 2.0})),
        (lambda n: n / 4, None, ("regression", {n / 4 for n in range(N)})),
    ],
)
def test_the_task_follows_from_the_target(tmp_path: Path, say: Any, task: str | None, expected: Any) -> None:
    rows, _ = made(table(tmp_path, a=lambda n: n % 5, y=say), task=task)
    assert (rows.outcomes.task, set(rows.outcomes.values.tolist())) == expected
    assert {type(value) for value in rows.outcomes.values.tolist()} == {type(value) for value in expected[1]}
    rows.outcomes.trainable(np.arange(N))


@pytest.mark.parametrize(
    ("say", "task", "sentence"),
    [
        (lambda _: 1, None, "expected outcomes that differ, got 1 in every row"),
        (lambda _: "", None, "every row is empty"),
        (lambda n: "abc"[n % 3], "binary", "binary expects two classes, got 3"),
        (lambda n: "abc"[n % 3], "regression", "regression expects numbers, got 'a'"),
        (lambda n: n / 4, "multiclass", r"multiclass expects classes, as whole numbers or texts; got 0\.25"),
        (lambda n: "" if n < 5 else f"ticket {n}", None, "expected at most 50 classes, got 55"),
        (lambda n: "soon" if n == 7 else n, None, "expected numbers, got 'soon' among them, in 1 rows"),
    ],
)
def test_a_target_that_is_none_is_one_sentence(tmp_path: Path, say: Any, task: str | None, sentence: str) -> None:
    with pytest.raises(TableRefused, match=f"^--target y: {sentence}$"):
        made(table(tmp_path, a=lambda n: n % 5, y=say), task=task)


def test_rows_without_an_outcome_are_sent_and_never_get_one(tmp_path: Path) -> None:
    rows, said = made(table(tmp_path, a=lambda n: n % 5, y=lambda n: "" if n % 4 == 0 else y(n)))
    assert "y is empty in 15 rows: they are sent, and never get an outcome" in said
    assert [rows.row(n).outcome is None for n in range(8)] == [True, False, False, False] * 2
    assert len(rows.known_by(range(N), NEVER - 1)) == 45


def test_rows_are_sent_in_order_of_their_time_and_keep_their_number(tmp_path: Path) -> None:
    place = [n * 7 % N for n in range(N)]
    found = table(tmp_path, a=lambda n: n % 5, at=lambda n: day(place[n]) + "T12:00", y=y)
    rows, said = made(found, time="at", rows_per_day=None, start_us=None)
    assert "the rows are sent in order of at, which is not that of the file" in said
    for n in range(N):
        sent = rows.row(n)
        number = place.index(n)
        assert sent.predicted_at == START + timedelta(days=n, hours=12)
        assert sent.association_id == f"{found.digest}:{number}"
        assert sent.outcome == y(number)


def test_rows_of_a_day_are_spread_over_it(tmp_path: Path) -> None:
    found = table(tmp_path, a=lambda n: n % 5, at=lambda n: day(n // 4), y=y)
    rows, said = made(found, time="at", rows_per_day=None, start_us=None)
    assert "at says no time of day: the rows of a day are spread evenly over it" in said
    assert [moment(int(at)).hour for at in rows.at_us[:8]] == [0, 6, 12, 18] * 2
    evenly, _ = made(found, rows_per_day=4.0)
    assert (evenly.at_us == rows.at_us).all()


def test_an_outcome_is_known_when_its_column_says_so(tmp_path: Path) -> None:
    found = table(
        tmp_path, a=lambda n: n % 5, at=lambda n: day(n) + "T12:00",
        paid=lambda n: ["", day(n + 10), day(n + 10) + "T18:00", day(n - 3)][n % 4], y=y,
    )  # fmt: skip
    timed: dict[str, Any] = {"time": "at", "rows_per_day": None, "start_us": None, "outcome_time": "paid"}
    rows, said = made(found, **timed)
    assert "paid is empty in 15 rows: their outcome never becomes known; with --outcome-delay it does" in said
    assert "paid lies before the prediction in 15 rows: their outcome is known at once" in said
    assert rows.row(0).outcome is None
    # a file that says some times of day says midnight where it says none
    waits = [(rows.known_us[n] - rows.at_us[n]) / DAY_US for n in range(1, 4)]
    assert waits == [9.5, 10.25, 0.0]
    shorter, _ = made(found, **timed, shorten=10.0, outcome_delay_us=2 * DAY_US)
    waits = [(shorter.known_us[n] - shorter.at_us[n]) / DAY_US for n in range(4)]
    assert waits == [2.0, 0.95, 1.025, 0.0]


def test_a_day_as_a_whole_is_known_of_when_it_is_over(tmp_path: Path) -> None:
    found = table(tmp_path, a=lambda n: n % 5, at=day, paid=day, y=y)
    rows, said = made(found, time="at", rows_per_day=None, start_us=None, outcome_time="paid")
    assert ((rows.known_us - rows.at_us) == DAY_US).all()
    assert "at once" not in said


def test_a_class_that_the_champion_does_not_know_is_no_outcome(tmp_path: Path) -> None:
    rows, _ = made(table(tmp_path, a=lambda n: n % 5, y=lambda n: "abc"[n % 3]))
    known, n_strange = rows.with_classes(("a", "b"))
    assert n_strange == 20
    assert [known.row(n).outcome for n in range(3)] == ["a", "b", None]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"target": "z"}, "--target z: no such column; the columns are a, id, at, y"),
        ({"time": "when"}, "--time when: no such column"),
        ({"time": "id"}, "--time id: expected a time, such as .* got 'k1' in row 2"),
        ({"time": "at"}, "--time at: expected a time in every row, got none in row 8 and 0 others"),
        ({"outcome_time": "id"}, "--outcome-time id: expected a time, such as .* got 'k1' in row 2"),
        ({"drop": ("b",)}, "--drop b: no such column"),
        ({"drop": ("a", "at", "id")}, "no column is left to predict from: "),
        ({"association": "key"}, "--association key: no such column"),
        ({"association": "a"}, "--association a: .* 60 rows have 5 different ones"),
        ({"association": "id"}, "--association id: .* 1 are empty"),
    ],
)
def test_a_wrong_column_is_one_sentence(tmp_path: Path, more: dict[str, Any], sentence: str) -> None:
    found = table(
        tmp_path, a=lambda n: n % 5, id=lambda n: f"k{n}" if n else "", at=lambda n: "" if n == 7 else day(n), y=y
    )
    with pytest.raises(TableRefused, match=f"^{sentence}") as refused:
        made(found, **more)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20%", range(200)), ("20%-40%", range(200, 400)), ("50", range(50)), ("50-70", range(50, 70)), ("0", range(0))],
)
def test_a_range_of_rows_is_a_share_or_a_number(text: str, expected: range) -> None:
    assert range_of(text, 1000) == expected


@pytest.mark.parametrize("text", ["", "half", "40%-20%", "101%", "2000", "-5", "1-2-3"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        range_of(text, 1000)
