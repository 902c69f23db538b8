"""Bytes of whole columns equal the bytes that Feast's own conversion and protobuf give row by row."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from feast import ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values

from qarm_features.feature_store.bulk_write.byte_columns import varints
from qarm_features.feature_store.bulk_write.entity_key_bytes import entity_key_bytes
from qarm_features.feature_store.bulk_write.value_bytes import value_bytes, value_texts

NOON, OLD = datetime(2024, 1, 2, 12, 0, 0, 678901, UTC), datetime(1969, 12, 31, 23, 59, 59, 500000, UTC)
BERLIN = pa.timestamp("us", tz="Europe/Berlin")
NAN, INF = float("nan"), float("inf")
COLUMNS = [
    ("INT32", pa.array([0, 1, -1, 127, 128, 2**31 - 1, -(2**31), None], pa.int32())),
    ("INT32", pa.array([0, 1, -300, None], pa.int64())),
    ("INT64", pa.array([0, 1, -1, 2**40, -(2**63), 2**63 - 1], pa.int64())),
    ("INT64", pa.array([5, None, -7], pa.int32())),
    ("FLOAT", pa.array([0, 1.5, -2.5, None, NAN, INF], pa.float32())),
    ("DOUBLE", pa.array([0, 1.5, -2.5, None, NAN, 0.1], pa.float64())),
    ("BOOL", pa.array([True, False, None])),
    ("STRING", pa.array(["", "a", None, "æøå日本", "x" * 200])),
    ("BYTES", pa.array([b"", b"\x00\xff", None, b"x" * 20_000])),
    ("UNIX_TIMESTAMP", pa.array([NOON, None, OLD], BERLIN)),
    ("UNIX_TIMESTAMP", pa.array([NOON.replace(tzinfo=None), None], pa.timestamp("us"))),
    ("INT32_LIST", pa.array([[1, 2, 300], [], None, [-1, 2**31 - 1], [5]], pa.list_(pa.int32()))),
    ("INT32_LIST", pa.array([[1, 2], [], None], pa.list_(pa.int64()))),
    ("INT64_LIST", pa.array([[1], [], None, [-1, 2**63 - 1], list(range(1000))], pa.list_(pa.int64()))),
    ("FLOAT_LIST", pa.array([[1, 2.5], [], None, [NAN, -0.0]], pa.list_(pa.float32()))),
    ("FLOAT_LIST", pa.array([[1, 2.5], [], None, [NAN, -0.1]], pa.list_(pa.float64()))),
    ("DOUBLE_LIST", pa.array([[1, 2.5], [], None, [NAN, -0.1]], pa.list_(pa.float64()))),
    ("BOOL_LIST", pa.array([[True, False], [], None], pa.list_(pa.bool_()))),
    ("STRING_LIST", pa.array([["a", "", "日"], [], None, ["x" * 300, None]], pa.list_(pa.string()))),
    ("BYTES_LIST", pa.array([[b"a", b""], [], None, [b"\x00", None]], pa.list_(pa.binary()))),
    ("UNIX_TIMESTAMP_LIST", pa.array([[NOON, OLD], [], None], pa.list_(BERLIN))),
    ("UNIX_TIMESTAMP_LIST", pa.array([[NOON, None], []], pa.list_(BERLIN))),
    ("STRING_SET", pa.array([["a"], [], None], pa.list_(pa.string()))),
    ("JSON", pa.array(['{"a": 1}', None])),
    ("UUID", pa.array(["12345678-1234-5678-1234-567812345678", None])),
    ("INT32", pa.array([None, None], pa.int32())),
    ("STRING", pa.array([None, None], pa.string())),
    ("INT32_LIST", pa.array([None, []], pa.list_(pa.int32()))),
    ("INT32_LIST", pa.array([], pa.list_(pa.int32()))),
]


@pytest.mark.parametrize(("value_type", "column"), COLUMNS, ids=lambda given: given if isinstance(given, str) else "")
def test_values_and_their_texts_are_those_of_feast_also_in_a_slice(value_type, column):
    for rows in (column, pa.concat_arrays([column.slice(0, 1), column, column.slice(0, 2)]).slice(1, len(column))):
        protos = python_values_to_proto_values(rows.to_numpy(zero_copy_only=False), ValueType[value_type])

        assert value_bytes(rows, value_type).to_pylist() == [proto.SerializeToString() for proto in protos]
        assert value_texts(rows, value_type) == [extract_text_and_num(proto, False)[0] for proto in protos]


def test_random_lists_of_codes_are_those_of_feast():
    random = np.random.default_rng(0)
    rows = [random.integers(-(2**bits), 2**bits, size=random.integers(0, 9)).tolist() for bits in range(1, 31)]
    column = pa.array(rows * 20, pa.list_(pa.int32()))

    protos = python_values_to_proto_values(column.to_numpy(zero_copy_only=False), ValueType.INT32_LIST)

    assert value_bytes(column, "INT32_LIST").to_pylist() == [proto.SerializeToString() for proto in protos]


@pytest.mark.parametrize(
    ("value_type", "column"),
    [
        ("INT32", pa.array([2**31], pa.int64())),
        ("INT32_LIST", pa.array([[1, None]], pa.list_(pa.int32()))),
        ("DOUBLE", pa.array([1.5], pa.float32())),
    ],
)
def test_what_feast_refuses_is_refused_by_feast(value_type, column):
    with pytest.raises((ValueError, TypeError, AssertionError), match=r"out of range|is of type|not in"):
        value_bytes(column, value_type)


def test_an_integer_beyond_2_to_the_53_stays_exact_beside_a_null_where_feast_rounds_it():
    column = pa.array([2**53 + 1, None], pa.int64())

    assert value_texts(column, "INT64") == ["9007199254740993", None]
    assert value_bytes(column, "INT64").to_pylist() == [b"\x20\x81\x80\x80\x80\x80\x80\x80\x10", b""]


def test_varints_hold_seven_bits_a_byte():
    assert varints(np.array([0, 127, 128, 300, -1])).to_pylist() == [
        b"\x00",
        b"\x7f",
        b"\x80\x01",
        b"\xac\x02",
        b"\xff" * 9 + b"\x01",
    ]


KEYS = [
    ({"item_id": ("INT64", pa.array([0, -1, 2**63 - 1], pa.int64()))}, 3),
    ({"item_id": ("STRING", pa.array(["", "æ", "x" * 300]))}, 3),
    ({"zone": ("INT32", pa.array([1, -1], pa.int32())), "day": ("UNIX_TIMESTAMP", pa.array([NOON, OLD], BERLIN))}, 3),
    ({"b": ("BYTES", pa.array([b"", b"\xff"])), "a": ("INT64", pa.array([1, 2], pa.int32()))}, 3),
]


@pytest.mark.parametrize(("given", "version"), KEYS)
def test_keys_are_those_of_feast(given, version):
    types, columns = {k: t for k, (t, _) in given.items()}, {k: c for k, (_, c) in given.items()}
    protos = [
        python_values_to_proto_values(c.to_numpy(zero_copy_only=False), ValueType[types[k]]) for k, c in columns.items()
    ]

    keys = entity_key_bytes(columns, types, version)

    expected = [EntityKey(join_keys=list(columns), entity_values=row) for row in zip(*protos)]
    assert keys.to_pylist() == [serialize_entity_key(key, version) for key in expected]


def test_a_key_of_a_type_without_a_fast_way_goes_through_feast():
    columns = {"item_id": pa.array([5], pa.timestamp("s"))}

    keys = entity_key_bytes(columns, {"item_id": "UNIX_TIMESTAMP"}, 3)

    assert keys.to_pylist() == [b"\1\0\0\0\2\0\0\0\7\0\0\0item_id\10\0\0\0\10\0\0\0\5\0\0\0\0\0\0\0"]


def test_a_null_key_is_refused():
    with pytest.raises(ValueError, match=r"item_id is null in 1 rows, must be set\. Remove these rows from the source"):
        entity_key_bytes({"item_id": pa.array([1, None])}, {"item_id": "INT64"}, 3)


def test_what_executors_load_imports_no_feast():
    code = (
        "import sys, qarm_features.feature_store.bulk_write.redis, qarm_features.feature_store.bulk_write.sqlite\n"
        "import qarm_features.feature_store.bulk_write.write_rows\n"
        "print([name for name in ('feast', 'pyspark', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
