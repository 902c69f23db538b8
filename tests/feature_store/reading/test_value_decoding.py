"""Decoding of Feast's bytes, compared with Feast's own message classes."""

from __future__ import annotations

import numpy as np
import pytest
from feast.protos.feast.types.Value_pb2 import FloatList, Int32List, Int64List, StringList, Value
from google.protobuf.message import DecodeError

from qarm_features.feature_store.reading import value_decoding
from qarm_features.feature_store.reading.value_decoding import decode_float_lists, decode_integer_lists, decode_lists


def ints(numbers) -> bytes:
    return Value(int32_list_val=Int32List(val=numbers)).SerializeToString()


def longs(numbers) -> bytes:
    return Value(int64_list_val=Int64List(val=numbers)).SerializeToString()


@pytest.mark.parametrize(
    ("serialize", "least", "most"),
    [(ints, 0, 2**7), (ints, 0, 2**14), (ints, -(2**31), 2**31), (longs, 0, 2**40), (longs, -(2**63), 2**63 - 1)],
)
def test_random_lists_of_any_length_are_decoded_without_feasts_parser(serialize, least, most, monkeypatch):
    monkeypatch.setattr(value_decoding, "_decode_with_feast", None)
    random = np.random.default_rng(0)
    lists = [random.integers(least, most, size).tolist() for size in [*range(150), 500, 5_000, 0, 1]]

    flat, counts = decode_integer_lists([serialize(one) for one in lists])

    assert flat.tolist() == [number for one in lists for number in one]
    assert counts.tolist() == [len(one) for one in lists]
    assert flat.dtype == counts.dtype == np.int64


@pytest.mark.parametrize(
    "odd",
    [
        b"\x6a\x04\x08\x01\x08\x02",  # not packed: each number with a tag of its own
        b"\x6a\x04\x0a\x00\x0a\x00",  # packed in two pieces
        b"\x6a\x08\x0a\x06\xff\xff\xff\xff\xff\x01",  # more than 32 bits
        b"",  # no value at all
        longs([1, 2]),  # another type among them
    ],
)
def test_bytes_that_feast_would_not_write_are_read_as_feast_reads_them(odd):
    def by_feast(value):
        message = Value.FromString(value)
        return list(getattr(message, message.WhichOneof("val") or "int32_list_val").val)

    assert decode_lists([ints([1, 300]), odd]) == [[1, 300], by_feast(odd)]
    assert decode_lists([odd, ints([1, 300])]) == [by_feast(odd), [1, 300]]


@pytest.mark.parametrize(
    "broken", [b"\x6a\x03\x0a\x01\x80", b"\x6a\x7f\x0a\x01\x01", b"\x6a\x0d\x0a\x0b" + b"\xff" * 10 + b"\x01"]
)
def test_broken_bytes_are_refused_by_feasts_parser(broken):
    with pytest.raises(DecodeError):
        decode_integer_lists([ints([1]), broken])


def test_strings_and_no_values_are_lists_too():
    words = Value(string_list_val=StringList(val=["a", "é"])).SerializeToString()

    assert decode_lists([words, words]) == [["a", "é"], ["a", "é"]]
    assert decode_lists([]) == []


def test_lists_of_floats_keep_every_bit_whether_or_not_feast_wrote_them():
    lists = [np.random.default_rng(0).normal(size=size).astype(np.float32) for size in (1, 31, 32, 5000, 0, 4095, 4096)]
    odd = b"\x82\x01\x05\x0d" + np.float32(0.1).tobytes()  # not packed: a number with a tag of its own

    flat, counts = decode_float_lists([Value(float_list_val=FloatList(val=one)).SerializeToString() for one in lists])

    assert flat.tobytes() == np.concatenate(lists).tobytes()
    assert counts.tolist() == [len(one) for one in lists]
    assert decode_float_lists([odd])[0].tolist() == [np.float32(0.1)]
    assert decode_float_lists([])[0].shape == (0,)
