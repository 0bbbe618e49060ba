"""JSON as it is read here: one meaning or none, and complaints that name the place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput, NotJson
from gateway.wire.oip import InferDecoder
from gateway.wire.own import RequestDecoder
from gateway.wire.strict_json import decode_json, instant, refuse_duplicate_keys
from registry.types import Feature, InputSchema

DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(':\\"ab{},', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(':\\"ab', max_size=2), inner, max_size=3),
    max_leaves=10,
)


def colons(document: Any) -> int:
    """How many colons the text of a document has, but for those of escapes and keys."""
    if isinstance(document, str):
        return document.count(":")
    if isinstance(document, list):
        return sum(map(colons, document))
    return sum(1 + colons(value) for value in document.values()) if isinstance(document, dict) else 0


def has_a_key_twice(text: str) -> bool:
    """The plain way to find out."""
    found = False

    def pairs(items: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({key for key, _ in items}) < len(items)

    json.loads(text, object_pairs_hook=pairs)
    return found


@given(st.lists(st.tuples(st.sampled_from(["a", "b", ":", "\\", "a:"]), DOCUMENTS), max_size=4), st.booleans())
def test_a_key_given_twice_is_found_and_nothing_else_is(pairs: list[tuple[str, Any]], ascii_only: bool) -> None:
    """Whatever colons the strings and keys of a body have, the count never hides a key."""
    members = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=ascii_only)}" for key, value in pairs]
    text = "{" + ", ".join(members) + "}"
    counted = colons(json.loads(text))
    for n_colons in (counted, None):
        if has_a_key_twice(text):
            with pytest.raises(NotJson, match="is given twice in one object"):
                refuse_duplicate_keys(text.encode(), n_colons=n_colons)
        else:
            refuse_duplicate_keys(text.encode(), n_colons=n_colons)


def test_a_complaint_names_the_place_what_is_expected_and_what_came() -> None:
    odd = msgspec.field(name="a - at `$x", default=0)
    row = msgspec.defstruct("row", [("age", float), ("odd", int, odd)], forbid_unknown_fields=True)
    decode = msgspec.json.Decoder(msgspec.defstruct("body", [("rows", list[row])])).decode  # type: ignore[valid-type]
    for body, sentence in (
        (b"[]", "the body: expected object, got array"),
        (b"{}", "rows: expected a value, got none"),
        (b'{"rows": [{"age": 1}, {"age": "x"}]}', "rows[1].age: expected float, got str"),
        (b'{"rows": [{"agee": 1}]}', "rows[0].agee: expected no such field"),
        (b'{"rows": [{"age": 1, "a - at `$x": "x"}]}', "rows[0].a - at `$x: expected int, got str"),
        (b'{"rows": [{"age": 1e999}]}', "rows[0].age: expected a number in range, got one beyond it"),
    ):
        with pytest.raises(InvalidInput) as refused:
            decode_json(decode, body)
        assert str(refused.value) == sentence


def test_a_time_has_a_zone_and_lies_within_the_calendar() -> None:
    assert instant("at", "2026-01-31T12:00:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert instant("at", "0002-01-01T00:00:00Z") == datetime(2, 1, 1, tzinfo=UTC)
    for said in ("9999-01-01T00:00:00Z", "0001-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "now", "", 5, None):
        with pytest.raises(InvalidInput, match=r"^at: expected a time"):
            instant("at", said)


def test_features_may_have_any_names() -> None:
    """Names are the model's own: with dots, quotes, colons, keywords, or in any script."""
    names = ("a.b", "x:y", "class", "ширина", "inputs", "$", "a b", "`", "a - at `$x", "f0", "'", "\u2028")
    schema = InputSchema(tuple(Feature(name, "float64") for name in names))
    row = {name: float(i) for i, name in enumerate(names)}
    columns = RequestDecoder(schema, 10).decode(json.dumps({"inputs": [row]}).encode()).columns
    assert columns.blocks["float64"].tolist() == [[float(i) for i in range(len(names))]]
    tensors = [{"name": name, "shape": [1], "datatype": "FP64", "data": [row[name]]} for name in names]
    inferred = InferDecoder(schema, 10).decode(json.dumps({"inputs": tensors}).encode())
    assert inferred.asked.columns.blocks["float64"].tolist() == columns.blocks["float64"].tolist()
    twice = json.dumps({"inputs": row})[:-2] + ', "x:y": 1}}'
    with pytest.raises(NotJson, match="'x:y' is given twice"):
        RequestDecoder(schema, 10).decode(twice.encode())
