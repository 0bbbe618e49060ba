"""What runs a champion: the answers of the version itself, and an honest word on how long they take."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.backends import LocalBackend
from gateway.columns import Columns
from registry.errors import ArtifactRefused, ModelRaised
from registry.onnx_model import OnnxModel
from registry.types import Signature, Version
from tests.actors import POISON, SCHEMA, hostile, logistic, signature
from tests.seasons import rows_of


def backend(model_bytes: bytes, said: Signature | None = None) -> LocalBackend:
    said = said or signature(model_bytes)
    return LocalBackend(
        Version("m", 1, "sha256:0", 0, said, datetime(2024, 1, 1, tzinfo=UTC), "me"), model_bytes, SCHEMA
    )


def columns(n: int) -> Columns:
    return Columns(n, {"float64": rows_of(0, n)[0]}, {})


def test_it_answers_as_the_version_does_bit_for_bit_in_one_run() -> None:
    model_bytes = logistic((1.0, -2.0))
    asked = columns(17)
    outputs, runs = backend(model_bytes).run(asked)
    block = asked.blocks["float64"]
    expected = OnnxModel(model_bytes, signature(model_bytes)).run({"a": block[:, 0], "b": block[:, 1]})
    assert runs == (0,)
    for name, values in expected.items():
        np.testing.assert_array_equal(outputs[name], values)


def test_a_version_that_is_not_batchable_is_run_row_by_row_and_every_run_is_named() -> None:
    model_bytes = logistic((1.0, -2.0))
    whole, _ = backend(model_bytes).run(columns(5))
    outputs, runs = backend(model_bytes, replace(signature(model_bytes), batchable=False)).run(columns(5))
    assert runs == (0, 1, 2, 3, 4)
    assert {name: values.shape for name, values in outputs.items()} == {n: v.shape for n, v in whole.items()}


def test_a_slow_version_leaves_the_loop_for_one_row_and_a_quick_one_for_many() -> None:
    slow, quick = backend(hostile("is slow", n_slow=2)), backend(logistic((1.0, 0.0)))
    assert slow.leaves_the_loop(1)
    assert not quick.leaves_the_loop(1)
    assert quick.leaves_the_loop(10_000_000)


def test_a_run_that_takes_too_long_makes_the_next_ones_smaller_and_a_quick_one_larger_again() -> None:
    slow = backend(hostile("is slow", n_slow=2))
    slow.learn(1_000, 1.0)
    assert 1 <= slow.most_rows < 1_000
    least = slow.most_rows
    slow.learn(least, 0.0)
    assert slow.most_rows == 2 * least
    slow.learn(1, 0.0)
    assert slow.most_rows == 2 * least  # one that was smaller than it had to be says nothing


def test_what_the_version_raises_is_raised() -> None:
    raising = backend(hostile("raises"))
    with pytest.raises(ModelRaised):
        raising.run(Columns(1, {"float64": np.array([[0.0, POISON]])}, {}))
    assert raising.run(columns(2))[1] == (0,)


def test_a_file_that_is_no_model_is_refused() -> None:
    with pytest.raises(ArtifactRefused):
        backend(b"nothing", signature(logistic((1.0, 0.0))))
