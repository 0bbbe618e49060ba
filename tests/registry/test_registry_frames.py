"""What crosses between parent and child comes out as it went in; what is no frame is refused, whatever it is."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from registry.frames import PREFIX, Array, BrokenFrame, Done, Load, Message, Run, decode, encode, lengths
from registry.signature import ModelFacts, TensorFact

texts = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.sampled_from([np.float32, np.float64, np.int64, np.bool_]).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=6))
)
strings = st.lists(texts, max_size=6).map(lambda values: np.array([*values, None], object)[:-1])
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
columns = st.dictionaries(texts, numbers | strings, max_size=4)


def decoded(frame: bytes) -> tuple[Message, dict[str, Array]]:
    header, body = lengths(frame, 2**20)
    if PREFIX.size + header + body != len(frame):
        raise BrokenFrame("the lengths are others")
    at = PREFIX.size + header
    return decode(frame[PREFIX.size : at], memoryview(frame[at:]))


@given(columns)
@unhurried
def test_columns_come_out_as_they_went_in(given_columns: dict[str, Array]) -> None:
    message, got = decoded(b"".join(encode(Run(), given_columns)))
    assert message == Run()
    assert list(got) == list(given_columns)
    for name, array in given_columns.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


def test_messages_come_out_as_they_went_in() -> None:
    facts = ModelFacts((TensorFact("X", "tensor(float)", (None, 4)),), (), 3, (("a", "b"), (0, 1)))
    for message in (Done(facts), Load(None, None), Run()):
        assert decoded(b"".join(encode(message)))[0] == message


@given(columns, st.data())
@unhurried
def test_a_changed_frame_is_refused_or_is_another_frame(given_columns: dict[str, Array], data: st.DataObject) -> None:
    frame = bytearray(b"".join(encode(Done(), given_columns)))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, got = decoded(bytes(frame))
    except BrokenFrame:
        return
    for array in got.values():
        assert array.dtype.name in {"float32", "float64", "int64", "bool", "object"}
        assert array.ndim in (1, 2)
        assert array.dtype != bool or set(array.view(np.uint8).ravel()) <= {0, 1}


@given(st.binary(min_size=PREFIX.size, max_size=100))
@unhurried
def test_any_bytes_are_refused(noise: bytes) -> None:
    with pytest.raises(BrokenFrame):
        decoded(noise)


def test_a_frame_beyond_the_limit_is_refused_by_its_first_twelve_bytes() -> None:
    with pytest.raises(BrokenFrame, match="beyond the limit of 10"):
        lengths(PREFIX.pack(5, 11), 10)


@pytest.mark.parametrize("values", [[1, "a"], [None], ["\ud800"]])
def test_objects_that_are_no_text_do_not_leave(values: list[object]) -> None:
    with pytest.raises(TypeError, match="holds what is not text"):
        encode(Run(), {"c": np.array(values, object)})
