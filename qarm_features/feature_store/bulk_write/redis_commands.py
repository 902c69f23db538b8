"""Encoded rows as Redis commands in Feast's layout, a whole chunk in one buffer.

In: ``EncodedRows``. Out: the bytes that a Redis server reads. A row is one hash: its key is the entity key and the project,
a field per feature is named by the hash of ``view:feature``, and ``_ts:view`` holds the event time.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import mmh3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.feature_store.bulk_write.byte_columns import byte_sizes, joined, varints
from qarm_features.feature_store.bulk_write.encoded_rows import EncodedRows, OnlineView


class Hashes(NamedTuple):
    """Rows as Redis hashes.

    Attributes:
        keys: (B,) keys of the hashes.
        fields: Names of the fields, the event time's first.
        values: (B,) values of each field.
    """

    keys: pa.LargeBinaryArray
    fields: list[bytes]
    values: list[pa.LargeBinaryArray]


def timestamp_field(view: OnlineView) -> bytes:
    """Returns the name of the field that holds the event time."""
    return f"_ts:{view.name}".encode()


def hashes(rows: EncodedRows, view: OnlineView) -> Hashes:
    """Returns rows as the hashes that Feast's Redis store keeps.

    Source: feast/infra/online_stores/redis.py, ``online_write_batch``.
    """
    names = [struct.pack("<I", mmh3.hash(f"{view.name}:{name}", signed=False)) for name, _ in view.features]
    return Hashes(
        keys=joined(rows.keys, view.project.encode()),
        fields=[timestamp_field(view), *names],
        values=[timestamp_bytes(rows.timestamps), *rows.values],
    )


def timestamp_bytes(microseconds: np.ndarray) -> pa.LargeBinaryArray:
    """Serializes times (B,) int64 as protobuf's ``Timestamp``: seconds and nanoseconds, each left out where 0."""
    seconds, nanos = microseconds // 1_000_000, microseconds % 1_000_000 * 1000
    return joined(_field(b"\x08", seconds), _field(b"\x10", nanos))


def hset_commands(rows: Hashes, ttl_seconds: int | None) -> pa.LargeBinaryArray:
    """Returns each row's HSET, followed by its EXPIRE where hashes expire.

    Args:
        rows: B hashes.
        ttl_seconds: When hashes expire; None or 0 for never.
    """
    key = _argument(rows.keys)
    pieces: list = [b"*%d\r\n" % (2 + 2 * len(rows.fields)) + _plain(b"HSET"), *key]
    for name, value in zip(rows.fields, rows.values):
        pieces += [_plain(name), *_argument(value)]
    if ttl_seconds:
        pieces += [b"*3\r\n" + _plain(b"EXPIRE"), *key, _plain(b"%d" % ttl_seconds)]
    return joined(*_merged(pieces))


def hget_commands(keys: pa.LargeBinaryArray, field: bytes) -> pa.LargeBinaryArray:
    """Returns each row's HGET of one field."""
    return joined(*_merged([b"*3\r\n" + _plain(b"HGET"), *_argument(keys), _plain(field)]))


def _field(tag: bytes, values: np.ndarray) -> pa.LargeBinaryArray:
    return pc.if_else(pa.array(values == 0), pa.scalar(b"", pa.large_binary()), joined(tag, varints(values)))


def _plain(argument: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def _argument(column: pa.LargeBinaryArray) -> list:
    sizes = pa.array(byte_sizes(column)).cast(pa.large_string()).cast(pa.large_binary())
    return [b"$", sizes, b"\r\n", column, b"\r\n"]


def _merged(pieces: list) -> list:
    """Joins neighboring plain pieces, so that each row is joined from as few as can be."""
    merged: list = []
    for piece in pieces:
        if merged and isinstance(piece, bytes) and isinstance(merged[-1], bytes):
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
