"""A file as a small lender might have it, and what a journal holds of it."""

from __future__ import annotations

import csv
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from gateway.config import JournalSettings
from gateway.journal import open_ledger, open_reader

N_ROWS = 1_500
ROWS_A_DAY = 60
START = datetime(2013, 6, 1, tzinfo=UTC)
COLUMNS = ("age", "income", "branch", "country", "asked", "defaulted_at", "late")


def loans(path: Path, n_rows: int = N_ROWS) -> Path:
    """Loans in order of time: a blank here and there, a category, a constant, and an outcome some days later."""
    generator = np.random.default_rng(7)
    age = generator.integers(18, 80, n_rows)
    income = generator.lognormal(3, 0.4, n_rows).round(2)
    late = generator.random(n_rows) < 1 / (1 + np.exp((age - 45) / 9 + (income - 22) / 9))
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for n in range(n_rows):
            asked = START + timedelta(days=n / ROWS_A_DAY)
            paid = "" if not late[n] else f"{asked + timedelta(days=1 + n % 3):%Y-%m-%d %H:%M}"
            known = "" if n % 11 == 0 else income[n]
            branch = ("Lisboa", "Porto", "Faro", "")[n % 4]
            rows.writerow([age[n], known, branch, "PT", f"{asked:%Y-%m-%d %H:%M:%S}", paid, int(late[n])])
    return path


def predictions_of(store: Path) -> Counter[str]:
    """How often each association id stands in the journal's live predictions."""
    with closing(open_reader(store)) as reader:
        found: Counter[str] = Counter()
        for state in reader.writers():
            for head in reader.heads(state.writer, 0, 1_000_000):
                if head.purpose == "live":
                    keys = reader.chunk(state.writer, head.seq).requests.associations or ()
                    found.update(key for key in keys if key is not None)
    return found


def outcomes_of(store: Path, model: str, keys: list[str]) -> dict[str, int]:
    """How many outcomes are stored of each association id."""
    with closing(open_ledger(store, JournalSettings())) as ledger:
        return {key: len(ledger.outcomes_of_association(model, key)) for key in keys}
