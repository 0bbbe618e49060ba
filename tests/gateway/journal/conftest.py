"""The one fixture through which every journal implementation is tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journals import Journal, journal_in


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal in a store of its own."""
    with journal_in(tmp_path / "store") as opened:
        yield opened
