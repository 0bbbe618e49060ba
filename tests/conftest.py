"""What all tests share: trained models, and gateways that serve them, each made once a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.models import Made, made_models
from tests.servers import Running, running


@pytest.fixture(scope="session")
def models() -> Mapping[str, Made]:
    """`fraud`, `loan`, `price` and `species`: see `tests.models`."""
    return made_models()


@pytest.fixture(scope="session")
def server(models: Mapping[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway on the server's clock that serves every model; tests share it, and change no champion of these."""
    settings = {"server.max_rows": 100, "server.max_body_bytes": 262_144, "server.max_model_bytes": 300_000}
    with running(tmp_path_factory.mktemp("served") / "store", settings, models.values()) as started:
        yield started
        assert '"unexpected"' not in started.log.read_text()  # whatever was sent, nothing was a fault of the server's


@pytest.fixture(scope="session")
def caller_server(models: Mapping[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway on the caller's clock that serves `price`; its clock was never set."""
    settings = {"clock.source": "caller"}
    with running(tmp_path_factory.mktemp("caller") / "store", settings, [models["price"]]) as started:
        yield started
