"""Redis commands that write encoded rows in Feast's layout, a whole chunk in one buffer.

In: ``EncodedRows``. Out: the bytes that a Redis server reads. A row is one hash in Redis. Its key is the entity key and the
name of the project. It has a field per feature, named by the hash of ``view:feature``, and the field ``_ts:view`` with the
event time.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

import mmh3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.feature_store.bulk_write.byte_columns import byte_sizes, joined, varints
from qarm_features.feature_store.bulk_write.encoded_rows import EncodedRows, OnlineView

_Piece: TypeAlias = bytes | pa.LargeBinaryArray


class Hashes(NamedTuple):
    """Rows as Redis hashes.

    Attributes:
        keys: (B,) keys of the hashes.
        fields: Names of the fields, the one of the event time first.
        values: For each field, (B,) values.
    """

    keys: pa.LargeBinaryArray
    fields: list[bytes]
    values: list[pa.LargeBinaryArray]


def timestamp_field(view: OnlineView) -> bytes:
    """Return the name of the field that holds the event time."""
    return f"_ts:{view.name}".encode()


def hashes(rows: EncodedRows, view: OnlineView) -> Hashes:
    """Return rows as the hashes that Feast's Redis store keeps.

    Source: feast/infra/online_stores/redis.py, ``online_write_batch``.
    """
    names = [struct.pack("<I", mmh3.hash(f"{view.name}:{name}", signed=False)) for name, _ in view.features]
    return Hashes(
        keys=joined(rows.keys, view.project.encode()),
        fields=[timestamp_field(view), *names],
        values=[timestamp_bytes(rows.timestamps), *rows.values],
    )


def timestamp_bytes(microseconds: np.ndarray) -> pa.LargeBinaryArray:
    r"""Serialize times as protobuf's ``Timestamp``: seconds and nanoseconds, each left out where it is 0.

    Args:
        microseconds: (B,) int64, microseconds since 1970.

    Example:
        >>> import numpy as np
        >>> timestamp_bytes(np.array([0, 1_000_000])).to_pylist()
        [b'', b'\x08\x01']
    """
    seconds, nanos = microseconds // 1_000_000, microseconds % 1_000_000 * 1000
    return joined(_number(b"\x08", seconds), _number(b"\x10", nanos))


def hset_commands(rows: Hashes, ttl_seconds: int | None) -> pa.LargeBinaryArray:
    """Return the HSET of each row, followed by its EXPIRE if hashes expire.

    Args:
        rows: B hashes.
        ttl_seconds: Seconds after which a hash expires; None or 0 for never.
    """
    key = _argument(rows.keys)
    pieces: list[_Piece] = [b"*%d\r\n" % (2 + 2 * len(rows.fields)) + _plain(b"HSET"), *key]
    for name, value in zip(rows.fields, rows.values):
        pieces += [_plain(name), *_argument(value)]
    if ttl_seconds:
        pieces += [b"*3\r\n" + _plain(b"EXPIRE"), *key, _plain(b"%d" % ttl_seconds)]
    return joined(*_merged(pieces))


def hget_commands(keys: pa.LargeBinaryArray, field: bytes) -> pa.LargeBinaryArray:
    """Return the HGET of one field for each row."""
    return joined(*_merged([b"*3\r\n" + _plain(b"HGET"), *_argument(keys), _plain(field)]))


def _number(tag: bytes, values: np.ndarray) -> pa.LargeBinaryArray:
    return pc.if_else(pa.array(values == 0), pa.scalar(b"", pa.large_binary()), joined(tag, varints(values)))


def _plain(argument: bytes) -> bytes:
    """Return an argument that is the same in every row, in Redis' protocol."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def _argument(column: pa.LargeBinaryArray) -> list[_Piece]:
    """Return the pieces of an argument of each row: its size and its bytes, in Redis' protocol."""
    sizes = pa.array(byte_sizes(column)).cast(pa.large_string()).cast(pa.large_binary())
    return [b"$", sizes, b"\r\n", column, b"\r\n"]


def _merged(pieces: list[_Piece]) -> list[_Piece]:
    """Join neighboring pieces of plain bytes, so that each row is joined from as few pieces as possible."""
    merged: list[_Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, bytes) and isinstance(last, bytes):
            merged[-1] = last + piece
        else:
            merged.append(piece)
    return merged
