"""What all tests share: trained models, and gateways that serve them, each made once a session."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

if platform.machine() == "x86_64":  # before numpy: BLAS chooses kernels by the processor, and on some virtual machines
    os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")  # that is another one from process to process

from tests.faults import Faults
from tests.models import Made, made_models
from tests.servers import Running, running


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make chaos` says how often, and where the table of results is kept."""
    parser.addoption("--chaos-times", type=int, default=50, help="how often the long forms do each thing to a worker")
    parser.addoption("--chaos-results", type=Path, help="a folder where faults and their counts are written")


@pytest.fixture
def chaos_times(request: pytest.FixtureRequest) -> int:
    """How often the long forms of faults do each thing."""
    times: int = request.config.getoption("--chaos-times")
    return times


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Faults:
    """Where the long forms of faults write what came of them."""
    return Faults(request.config.getoption("--chaos-results"))


@pytest.fixture(scope="session")
def models() -> Mapping[str, Made]:
    """`fraud`, `loan`, `price` and `species`: see `tests.models`."""
    return made_models()


SETTINGS = {"server.max_rows": 100, "server.max_body_bytes": 262_144, "server.max_model_bytes": 300_000}


@contextmanager
def shared(models: Mapping[str, Made], folder: Path, **more: str) -> Iterator[Running]:
    """A gateway on the server's clock that serves every model; tests share it, and change no champion of these."""
    with running(folder / "store", {**SETTINGS, **more}, models.values()) as started:
        yield started
        assert '"unexpected"' not in started.log.read_text()  # whatever was sent, nothing was a fault of the server's


@pytest.fixture(scope="session")
def with_lane(models: Mapping[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The shared gateway as it is served by default."""
    with shared(models, tmp_path_factory.mktemp("served")) as started:
        yield started


@pytest.fixture(scope="session")
def without_lane(models: Mapping[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The same, where every request goes through Litestar."""
    with shared(models, tmp_path_factory.mktemp("served"), **{"server.lane": "false"}) as started:
        yield started


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Running:
    """The shared gateway; tests of the data plane ask for it `BOTH_WAYS` (`tests/servers.py`)."""
    found: Running = request.getfixturevalue(getattr(request, "param", "with_lane"))
    return found


@pytest.fixture(scope="session")
def caller_server(models: Mapping[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway on the caller's clock that serves `price`; its clock was never set."""
    settings = {"clock.source": "caller"}
    with running(tmp_path_factory.mktemp("caller") / "store", settings, [models["price"]]) as started:
        yield started
