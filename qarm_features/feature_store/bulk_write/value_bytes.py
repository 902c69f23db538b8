"""Serialized ``Value`` messages of whole feature columns, with the bytes that Feast's own conversion and protobuf give.

In: an Arrow column and the name of its Feast value type. Out: one serialized ``Value`` per row, an empty message for a null.
Other value types and Arrow types are converted by Feast's own ``python_values_to_proto_values``. There is one intended
difference: in a column with nulls, Feast converts integers by way of float64 and so rounds those beyond 2^53. Here they stay
exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.feature_store.bulk_write.byte_columns import (
    as_bytes,
    delimited,
    fixed_width,
    grouped,
    joined,
    varints,
)

_NO_TIMESTAMP = np.iinfo(np.int64).min
_INT32 = np.iinfo(np.int32)
_NULL = pa.scalar(None, pa.large_binary())

_Payload: TypeAlias = Callable[[pa.Array], pa.LargeBinaryArray | None]


class _Encoding(NamedTuple):
    """The encoding of a value type.

    Attributes:
        field: Number of its field in ``Value``.
        payload: Function that encodes a column; it returns None for a column that Feast must convert.
        is_delimited: True if the size of the payload stands before it.
    """

    field: int
    payload: _Payload
    is_delimited: bool


def value_bytes(column: pa.Array, value_type: str) -> pa.LargeBinaryArray:
    r"""Serialize a column as Feast's ``Value`` messages.

    Args:
        column: (B,) Arrow array with Spark's Arrow types.
        value_type: Name of a Feast ``ValueType``, such as ``"INT32_LIST"``.

    Returns:
        (B,) bytes, without nulls.

    Source: feast/types/Value.proto; protobuf's encoding guide.

    Example:
        >>> import pyarrow as pa
        >>> value_bytes(pa.array([5, None]), "INT64").to_pylist()
        [b' \x05', b'']
    """
    encoding = _ENCODINGS.get(value_type)
    payload = encoding.payload(column) if encoding else None
    if encoding is None or payload is None:
        return _bytes_by_feast(column, value_type)
    wire_type = {"FLOAT": 5, "DOUBLE": 1}.get(value_type, 2 if encoding.is_delimited else 0)
    tag = varints(np.array([encoding.field << 3 | wire_type]))[0].as_py()
    return pc.fill_null(joined(tag, delimited(payload) if encoding.is_delimited else payload), b"")


def value_texts(column: pa.Array, value_type: str) -> list[str | None]:
    """Return the texts that Feast's SQL stores keep beside strings, numbers and booleans; None for other types.

    Args:
        column: (B,) Arrow array.
        value_type: Name of a Feast ``ValueType``.
    """
    values = column
    if value_type in ("FLOAT", "DOUBLE"):
        values = _nan_as_null(column)
    elif value_type not in ("STRING", "INT32", "INT64", "BOOL"):
        return [None] * len(column)
    return [None if value is None else str(value) for value in values.to_pylist()]


def _bytes_by_feast(column: pa.Array, value_type: str) -> pa.LargeBinaryArray:
    """Serialize a column by Feast's own code, row by row."""
    from feast import ValueType
    from feast.type_map import python_values_to_proto_values

    protos = python_values_to_proto_values(column.to_numpy(zero_copy_only=False), ValueType[value_type])
    return pa.array([proto.SerializeToString() for proto in protos], pa.large_binary())


def integers(column: pa.Array, value_type: str) -> np.ndarray | None:
    """Return integers (B,) int64, 0 where null; None if the column has another type or an integer out of range."""
    if not pa.types.is_signed_integer(column.type):
        return None
    values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    if (
        value_type.startswith("INT32")
        and len(values)
        and not (_INT32.min <= values.min() <= values.max() <= _INT32.max)
    ):
        return None
    return values


def timestamp_seconds(column: pa.Array) -> np.ndarray | None:
    """Return whole seconds since 1970 (B,) int64, rounded down, with Feast's mark for nulls; None for other columns."""
    if not pa.types.is_timestamp(column.type) or column.type.unit != "us":
        return None
    microseconds = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    return np.where(pc.is_null(column).to_numpy(zero_copy_only=False), _NO_TIMESTAMP, microseconds // 1_000_000)


def _with_nulls(column: pa.Array, encoded: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Set the rows of an encoded column to null where ``column`` is null."""
    return pc.if_else(pc.is_valid(column), encoded, _NULL) if column.null_count else encoded


def _nan_as_null(column: pa.Array) -> pa.Array:
    """Replace NaN by null, as Feast does outside of lists."""
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)


def _integer(value_type: str) -> _Payload:
    def payload(column: pa.Array) -> pa.LargeBinaryArray | None:
        values = integers(column, value_type)
        return None if values is None else _with_nulls(column, varints(values))

    return payload


def _floating(arrow_type: pa.DataType) -> _Payload:
    def payload(column: pa.Array) -> pa.LargeBinaryArray | None:
        if column.type != arrow_type:
            return None
        values = fixed_width(pc.fill_null(column, 0).to_numpy())
        return _with_nulls(_nan_as_null(column), values)

    return payload


def _boolean(column: pa.Array) -> pa.LargeBinaryArray | None:
    if not pa.types.is_boolean(column.type):
        return None
    return _with_nulls(column, fixed_width(pc.fill_null(column, False).to_numpy(zero_copy_only=False).astype(np.uint8)))


def _timestamp(column: pa.Array) -> pa.LargeBinaryArray | None:
    seconds = timestamp_seconds(column)
    return None if seconds is None else varints(seconds)


def _text(has_type: Callable[[pa.DataType], bool]) -> _Payload:
    return lambda column: as_bytes(column) if has_type(column.type) else None


def _list_of(element: _Payload) -> _Payload:
    """Return the payload of lists: the encoded elements one after the other, null for a null list."""

    def payload(column: pa.Array) -> pa.LargeBinaryArray | None:
        if not pa.types.is_list(column.type):
            return None
        inner = element(column.flatten())
        if inner is None:
            return None
        ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(), dtype=np.int64)
        return _with_nulls(column, grouped(inner, ends))

    return payload


def _packed(elements: _Payload) -> _Payload:
    """Return the payload of lists of numbers: the bytes of all elements, with one tag and one size before them."""

    def payload(column: pa.Array) -> pa.LargeBinaryArray | None:
        runs = _list_of(elements)(column)
        if runs is None:
            return None
        return pc.if_else(pc.equal(pc.binary_length(runs), 0), runs, joined(b"\x0a", delimited(runs)))

    return payload


def _without_nulls(elements: _Payload) -> _Payload:
    return lambda flat: None if flat.null_count else elements(flat)  # Feast converts numbers with nulls among them


def _floats(arrow_type: pa.DataType) -> _Payload:
    return lambda flat: fixed_width(flat.to_numpy()) if flat.type == arrow_type else None


def _timestamps(flat: pa.Array) -> pa.LargeBinaryArray | None:
    if not pa.types.is_timestamp(flat.type) or flat.type.unit != "us":
        return None
    microseconds = flat.cast(pa.int64()).to_numpy()
    seconds = np.abs(microseconds) // 1_000_000 * np.sign(microseconds)  # Feast rounds toward zero inside lists
    return varints(seconds)


def _strings(has_type: Callable[[pa.DataType], bool]) -> _Payload:
    def element(flat: pa.Array) -> pa.LargeBinaryArray | None:
        return joined(b"\x0a", delimited(pc.fill_null(as_bytes(flat), b""))) if has_type(flat.type) else None

    return element


_ENCODINGS = {
    "BYTES": _Encoding(1, _text(pa.types.is_binary), True),
    "PDF_BYTES": _Encoding(1, _text(pa.types.is_binary), True),
    "IMAGE_BYTES": _Encoding(1, _text(pa.types.is_binary), True),
    "STRING": _Encoding(2, _text(pa.types.is_string), True),
    "INT32": _Encoding(3, _integer("INT32"), False),
    "INT64": _Encoding(4, _integer("INT64"), False),
    "DOUBLE": _Encoding(5, _floating(pa.float64()), False),
    "FLOAT": _Encoding(6, _floating(pa.float32()), False),
    "BOOL": _Encoding(7, _boolean, False),
    "UNIX_TIMESTAMP": _Encoding(8, _timestamp, False),
    "BYTES_LIST": _Encoding(11, _list_of(_strings(pa.types.is_binary)), True),
    "STRING_LIST": _Encoding(12, _list_of(_strings(pa.types.is_string)), True),
    "INT32_LIST": _Encoding(13, _packed(_without_nulls(_integer("INT32"))), True),
    "INT64_LIST": _Encoding(14, _packed(_without_nulls(_integer("INT64"))), True),
    "DOUBLE_LIST": _Encoding(15, _packed(_without_nulls(_floats(pa.float64()))), True),
    "FLOAT_LIST": _Encoding(16, _packed(_without_nulls(_floats(pa.float32()))), True),
    "BOOL_LIST": _Encoding(17, _packed(_without_nulls(_boolean)), True),
    "UNIX_TIMESTAMP_LIST": _Encoding(18, _packed(_without_nulls(_timestamps)), True),
}
