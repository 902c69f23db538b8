"""Decoding of Feast's serialized lists into numpy arrays, all lists of a batch in a few array operations.

In: bytes of ``feast.types.Value`` messages, as every online store keeps them. Out: the numbers of all lists, one list after
the other, and the number of elements of each list. Bytes with another layout than Feast's writer gives them are decoded by
Feast's own parser.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from feast.protos.feast.types.Value_pb2 import FloatList, Value

_WIRE_BYTES = 2  # protobuf: a field whose length comes first
_FIELD_OF = {name: Value.DESCRIPTOR.fields_by_name[name].number for name in ("int32_list_val", "int64_list_val")}
_TAG_OF = {name: number << 3 | _WIRE_BYTES for name, number in _FIELD_OF.items()}
_FIELD_BY_TAG = {tag: name for name, tag in _TAG_OF.items()}
_INNER_TAG = 1 << 3 | _WIRE_BYTES  # `repeated int val = 1`, packed
_INT32 = np.iinfo(np.int32)
_MOST_BYTES = 10  # length of the longest varint of 64 bits
_NO_HEADER = b"no writer lays out a list in this many bytes"


def decode_integer_lists(values: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Decode n serialized lists of integers.

    Args:
        values: n serialized ``Value`` messages, all with an ``Int32List`` or all with an ``Int64List``.

    Returns:
        Numbers of all lists in their order, int64 (sum of counts,); number of elements of each list, int64 (n,).

    Raises:
        google.protobuf.message.DecodeError: A value is not a ``Value`` message.

    Source: protobuf's wire format, https://protobuf.dev/programming-guides/encoding.

    Example:
        >>> from feast.protos.feast.types.Value_pb2 import Int64List, Value
        >>> rows = [Value(int64_list_val=Int64List(val=codes)).SerializeToString() for codes in ([3, 7], [5])]
        >>> numbers, counts = decode_integer_lists(rows)
        >>> numbers.tolist(), counts.tolist()
        ([3, 7, 5], [2, 1])
    """
    if not values:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    decoded = _decode_as_written(values)
    return decoded if decoded is not None else _decode_with_feast(values)


def decode_lists(values: Sequence[bytes]) -> list[list[Any]]:
    """Decode n serialized lists into Python lists of integers or of strings."""
    if values and values[0][:1] and values[0][0] not in _FIELD_BY_TAG:
        return [list(_list_of(Value.FromString(value))) for value in values]
    numbers, counts = decode_integer_lists(values)
    flat, stops = numbers.tolist(), counts.cumsum().tolist()
    return [flat[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def decode_float_lists(values: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Decode n serialized lists of floats.

    Args:
        values: n serialized ``Value`` messages with a ``FloatList``.

    Returns:
        Numbers of all lists in their order, float32 (sum of counts,); number of elements of each list, int64 (n,).

    Raises:
        google.protobuf.message.DecodeError: A value is not a ``Value`` message.
    """
    headers = [_float_header(len(value)) for value in values]
    if all(map(bytes.startswith, values, headers)):
        packed = [value[len(header) :] for value, header in zip(values, headers, strict=True)]
    else:
        packed = [np.array(_list_of(Value.FromString(value)), "<f4").tobytes() for value in values]
    counts = np.fromiter(map(len, packed), np.int64, len(packed)) // 4
    return np.frombuffer(b"".join(packed), "<f4").astype(np.float32, copy=False), counts


def _decode_with_feast(values: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    lists = [_list_of(Value.FromString(value)) for value in values]
    counts = np.array([len(one) for one in lists], np.int64)
    return np.array([number for one in lists for number in one], np.int64), counts


def _list_of(value: Value) -> Sequence[Any]:
    kind = value.WhichOneof("val")
    return getattr(value, kind).val if kind else ()


def _decode_as_written(values: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray] | None:
    """Decode lists with the layout of Feast's writer; return None if one of them has another layout."""
    tag = values[0][0] if values[0] else 0
    if tag not in _FIELD_BY_TAG:
        return None
    headers = [_header(tag, len(value)) for value in values]
    if not all(map(bytes.startswith, values, headers)):
        return None
    packed = [value[len(header) :] for value, header in zip(values, headers, strict=True)]
    data = np.frombuffer(b"".join(packed), np.uint8)
    row_stops = np.cumsum(np.fromiter(map(len, packed), np.int64, len(packed)))
    last = np.flatnonzero(data < 0x80)  # the last byte of each number has its high bit clear
    counts = np.diff(np.searchsorted(last, row_stops), prepend=0)
    filled = row_stops[np.diff(row_stops, prepend=0) > 0]
    if filled.size and (data[filled - 1] >= 0x80).any():  # the list ends within a number
        return None
    numbers = _varints(data, last)
    if numbers is None:
        return None
    is_int32 = tag == _TAG_OF["int32_list_val"]
    if is_int32 and numbers.size and not (_INT32.min <= numbers.min() and numbers.max() <= _INT32.max):
        return None
    return numbers, counts


def _varints(data: np.ndarray, last: np.ndarray) -> np.ndarray | None:
    """Return the varints whose last bytes are at ``last`` as int64; None if one is longer than 64 bits."""
    first = np.concatenate(([0], last[:-1] + 1)) if last.size else last
    width = last - first + 1
    longest = int(width.max(initial=1))
    if longest > _MOST_BYTES:
        return None
    numbers = (data[first] & 0x7F).astype(np.uint64)
    for byte in range(1, longest):
        more = np.flatnonzero(width > byte)
        numbers[more] |= (data[first[more] + byte] & np.uint64(0x7F)) << np.uint64(7 * byte)
    return numbers.view(np.int64)


@cache
def _float_header(length: int) -> bytes:
    """Return the bytes that Feast writes before the numbers in a serialized ``FloatList`` of ``length`` bytes."""
    for count in range(max(0, length // 4 - 4), length // 4 + 1):
        whole = Value(float_list_val=FloatList(val=np.zeros(count, np.float32))).SerializeToString()
        if len(whole) == length:
            return whole[: length - 4 * count]
    return _NO_HEADER


@cache
def _header(tag: int, length: int) -> bytes:
    """Return the bytes before the numbers in a serialized list of ``length`` bytes, as a protobuf writer lays it out."""
    if length == 2:  # an empty list
        return bytes([tag, 0])
    for size in (1, 2, 3, 4, 5):
        outer = _varint(length - 1 - size)
        for inner_size in range(1, size + 1):
            inner = _varint(length - 1 - size - 1 - inner_size)
            if len(outer) == size and len(inner) == inner_size:
                return bytes([tag, *outer, _INNER_TAG, *inner])
    return _NO_HEADER


def _varint(number: int) -> bytes:
    rest, groups = max(0, number), []
    while rest >= 0x80:
        groups.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*groups, rest])
