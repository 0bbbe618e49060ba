"""What the gateway's tests share: a registry with a real champion."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from gateway.lineup import Lineups
from registry.onnx_model import OnnxModel
from registry.signature import ModelFacts, signature_of
from registry.store import Registry
from registry.types import Principal
from tests.models import fraud


@pytest.fixture(scope="session")
def lineups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineups]:
    """What a worker serves where `fraud`, with the classes 0 and 1, has a champion and `idle` has none."""
    made, me = fraud(n_trees=2), Principal.local_operator()
    store = tmp_path_factory.mktemp("lineups") / "store"
    with Registry.open(store, now=lambda: datetime(2026, 1, 1, tzinfo=UTC)) as registry:
        facts = ModelFacts(*OnnxModel(made.onnx).declared())
        registry.create_model("fraud", made.schema, "binary", by=me)
        registry.create_model("idle", made.schema, "binary", by=me)
        registry.add_version("fraud", made.onnx, signature_of(facts, made.schema, made.task), by=me)
        registry.appoint("fraud", 1, reason="the first", by=me)
        served = Lineups(registry, max_rows=100)
        served.refresh()
        yield served
