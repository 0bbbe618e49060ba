"""`understudy stream` on what cannot be streamed: one sentence, exit code 1 or 2, and nothing half made."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from gateway.cli.commands import main
from gateway.config import KEY
from tests.models import Made
from tests.servers import Running, running
from tests.streams import loans

BY_DAY = ("--rows-per-day", "60", "--start", "2013-06-01")


@pytest.fixture(autouse=True)
def signals_and_logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands are run in this process; a stream would set up its signals and logs."""
    monkeypatch.delenv(KEY, raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loans(tmp_path_factory.mktemp("files") / "loans.csv")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("stream", *arguments), prog_name="understudy")


def refused(code: int, store: Path, *arguments: str) -> str:
    """What is said; nothing is on standard output, no store is made, and no traceback is shown."""
    ran = run(*arguments, "--data-dir", str(store), "--exit")
    assert ran.exit_code == code, ran.output
    assert isinstance(ran.exception, SystemExit)
    assert ran.stdout == ""
    assert not store.exists()
    if code == 1:
        assert ran.stderr.splitlines()[-1].startswith("understudy: ")
    return " ".join(ran.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--target", "defaulted", *BY_DAY), "--target defaulted: no such column; the columns are age, income,"),
        (("--target", "branch", "--task", "binary", *BY_DAY), "--target branch: binary expects two classes, got 3"),
        (("--target", "country", *BY_DAY), "expected outcomes that differ, got 'PT' in every row"),
        (("--target", "late", "--time", "branch"), "--time branch: expected a time, such as 2013-06-30,"),
        (("--target", "late", "--time", "asked", "--drop", "agee"), "--drop agee: no such column"),
        (("--target", "late", "--time", "asked", "--association", "age"), "expected a key of its own in every row"),
        (("--target", "late", *BY_DAY, "--model", "No Name"), "'No Name' cannot name a model"),
        (("--target", "late", *BY_DAY, "--champion-rows", "100"), "too few rows: expected at least 200, got"),
        (("--target", "late", *BY_DAY, "--champion-rows", "100%"), "no row is left to send"),
        (("--target", "late", *BY_DAY, "--champion-rows", "40%-20%"), "expected rows between the first and the last"),
        (
            ("--target", "late", "--time", "asked", "--outcome-time", "defaulted_at", "--champion-rows", "60%"),
            "target: expected outcomes that differ, got 1.0 in all of",
        ),
        (
            ("--target", "late", *BY_DAY, "--outcome-delay", "99w"),
            "the champion has nothing to learn from: no outcome of its rows is known by then",
        ),
    ],
)
def test_what_cannot_be_streamed_is_one_sentence_and_nothing_is_made(
    file: Path, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused(1, tmp_path / "store", str(file), "--model", "loans", *options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "expected either --time COLUMN, or --rows-per-day N with --start DATE"),
        (("--time", "asked", *BY_DAY), "expected either --time COLUMN, or --rows-per-day N with --start DATE"),
        (("--rows-per-day", "60"), "expected --rows-per-day and --start together"),
        (("--rows-per-day", "0", "--start", "2013-06-01"), "Invalid value for '--rows-per-day'"),
        (("--rows-per-day", "60", "--start", "June"), "expected a date such as 2024-01-31, got 'June'"),
        (
            (*BY_DAY, "--outcome-delay", "3 moons"),
            "expected a duration such as 90s, 15min, 3h, 2d or 6w; got '3 moons'",
        ),
        ((*BY_DAY, "--champion-rows", "half"), "expected a share such as 20% or 20%-40%"),
        ((*BY_DAY, "--shorten-delays", "60"), "expected --shorten-delays beside --outcome-time only"),
        ((*BY_DAY, "--key", "us_x"), "expected --key beside --url only"),
        ((*BY_DAY, "--url", "http://127.0.0.1:1"), "expected either --url or a store"),
    ],
)
def test_what_is_not_understood_is_exit_code_2(
    file: Path, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    said = refused(2, tmp_path / "store", str(file), "--model", "loans", "--target", "late", *options)
    assert sentence in said


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    said = refused(1, tmp_path / "store", str(tmp_path / "no.csv"), "--model", "m", "--target", "y", *BY_DAY)
    assert said.endswith("no.csv: no such file or directory")


def test_nobody_at_the_url_is_one_sentence(file: Path) -> None:
    ran = run(str(file), "--model", "m", "--target", "late", *BY_DAY, "--url", "http://127.0.0.1:9")
    assert ran.exit_code == 1
    assert "understudy: nobody answers at http://127.0.0.1:9" in ran.stderr


def test_a_server_whose_clock_is_its_own_is_one_sentence_and_gets_no_model(server: Running, file: Path) -> None:
    before = server.registered()
    ran = run(str(file), "--model", "m", "--target", "late", *BY_DAY, "--url", server.url)
    assert ran.exit_code == 1
    assert "is the server's own" in ran.stderr
    assert "UNDERSTUDY__CLOCK__SOURCE=caller" in ran.stderr
    assert server.registered() == before


def test_a_clock_that_is_further_on_already_is_one_sentence(
    models: Mapping[str, Made], file: Path, tmp_path: Path
) -> None:
    with running(tmp_path / "store", {"clock.source": "caller"}, [models["price"]]) as late:
        assert late.http.post("/admin/clock", json={"now": "2020-01-01T00:00:00Z"}).status_code == 200
        before = late.registered()
        ran = run(str(file), "--model", "m", "--target", "late", *BY_DAY, "--url", late.url)
        assert ran.exit_code == 1
        assert "the store's clock is at 2020-01-01 00:00 already and never goes back" in ran.stderr
        ran = run(str(file), "--model", "price", "--target", "income", *BY_DAY, "--url", late.url)
        assert ran.exit_code == 1
        assert "the model's feature 'area' is no column of the file" in ran.stderr
        assert late.registered() == before
