"""Prediction ids, addresses and times."""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from gateway.records import (
    ID_LENGTH,
    Address,
    address_of,
    association_hash,
    is_genuine,
    micros,
    moment,
    prediction_id,
)

ADDRESSES = st.builds(Address, st.integers(0, 2**40 - 1), st.integers(0, 2**48 - 1), st.integers(0, 2**32 - 1))
SECRETS = st.binary(min_size=16, max_size=16)


@given(ADDRESSES, SECRETS)
def test_a_prediction_id_is_40_lower_case_letters_that_name_an_address_and_prove_it(
    address: Address, secret: bytes
) -> None:
    text = prediction_id(address.writer, address.seq, address.row, secret)
    assert re.fullmatch("[a-z2-7]{40}", text)
    parsed = address_of(text)
    assert parsed is not None
    assert parsed[0] == address
    assert is_genuine(*parsed, secret)


@given(ADDRESSES, SECRETS, SECRETS)
def test_an_id_proves_nothing_under_another_secret(address: Address, secret: bytes, other: bytes) -> None:
    parsed = address_of(prediction_id(address.writer, address.seq, address.row, secret))
    assert parsed is not None
    assert is_genuine(*parsed, other) == (secret == other)


def test_an_id_with_any_altered_character_is_not_genuine() -> None:
    secret = bytes(range(16))
    text = prediction_id(3, 4_711, 12, secret)
    n_parsed = 0
    for i in range(ID_LENGTH):
        for letter in set(string.printable + "ſıü") - {text[i]}:
            parsed = address_of(text[:i] + letter + text[i + 1 :])
            if parsed is not None:
                n_parsed += 1
                assert not is_genuine(*parsed, secret)
    assert n_parsed == ID_LENGTH * 31


def test_an_id_that_is_longer_or_shorter_is_none() -> None:
    text = prediction_id(3, 4_711, 12, bytes(16))
    for altered in ("", text[:-1], text + "a", " " + text[1:], text.upper(), text[:-1] + "=", "=" * ID_LENGTH):
        assert address_of(altered) is None


@given(st.text() | st.text(string.ascii_lowercase + string.digits + "=", min_size=ID_LENGTH, max_size=ID_LENGTH))
def test_rubbish_is_no_id_or_one_that_is_not_genuine(text: str) -> None:
    parsed = address_of(text)
    assert parsed is None or not is_genuine(*parsed, bytes(16))


def test_the_tags_of_neighbours_and_of_other_chunks_have_nothing_in_common() -> None:
    ids = [prediction_id(1, seq, row, bytes([seq]) * 16) for seq in range(8) for row in range(8)]
    tags = [int.from_bytes(parsed[1], "big") for text in ids if (parsed := address_of(text)) is not None]
    differing = [(a ^ b).bit_count() for a, b in combinations(tags, 2)]
    assert len(differing) == 64 * 63 // 2
    assert min(differing) > 15  # of 80 bits, 40 on average; 15 or less: one pair in 10 million
    assert 39 < sum(differing) / len(differing) < 41


@given(st.text())
def test_an_association_hash_fits_a_signed_64_bit_column(text: str) -> None:
    assert -(2**63) <= association_hash(text) < 2**63
    assert association_hash(text) == association_hash(text)


def test_the_association_hash_is_the_one_that_files_are_indexed_by() -> None:
    assert [association_hash(text) for text in ("", "loan-1")] == STORED_HASHES


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11)), timezone(timedelta(hours=14))])))
def test_a_time_is_whole_microseconds_and_comes_back_exactly(at: datetime) -> None:
    at_us = micros(at)
    if datetime.min.replace(tzinfo=UTC) <= at <= datetime.max.replace(tzinfo=UTC):
        assert moment(at_us) == at
    assert micros(at + timedelta(0)) == at_us


def test_times_are_counted_from_1970_in_utc() -> None:
    assert micros(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert micros(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert micros(datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)) == 1_767_225_600_000_001
    assert moment(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


STORED_HASHES = [-1970711489451281740, -248751116431984900]
