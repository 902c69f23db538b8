"""Serialized entity keys of whole columns, with the bytes that Feast's ``serialize_entity_key`` gives for each row.

In: Arrow columns of the join keys and their Feast value types. Out: one key per row, without the name of the project.
"""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa

from qarm_features.feature_store.bulk_write.byte_columns import as_bytes, byte_sizes, fixed_width, joined
from qarm_features.feature_store.bulk_write.value_bytes import integers, timestamp_seconds

_STRING = 2  # number of the value type in feast/types/Value.proto, as below
_NUMBER_OF = {"BYTES": 1, "STRING": _STRING, "INT32": 3, "INT64": 4, "UNIX_TIMESTAMP": 8}


def entity_key_bytes(columns: dict[str, pa.Array], value_types: dict[str, str], version: int) -> pa.LargeBinaryArray:
    """Serialize the join keys of B rows as Feast's online stores do.

    Args:
        columns: (B,) Arrow array of each join key, by name.
        value_types: Name of the Feast ``ValueType`` of each join key, by name.
        version: Setting ``entity_key_serialization_version`` of feature_store.yaml.

    Raises:
        ValueError: A key is null, so that no reader could ask for its row.

    Source: feast/infra/key_encoding_utils.py, version 3.

    Example:
        >>> import pyarrow as pa
        >>> entity_key_bytes({"id": pa.array([7])}, {"id": "INT64"}, version=3)[0].as_py().hex()
        '010000000200000002000000696404000000080000000700000000000000'
    """
    for name, column in columns.items():
        if column.null_count:
            raise ValueError(
                f"{name} is null in {column.null_count:,} rows, must be set. Remove these rows from the source."
            )
    names = sorted(columns)
    values = [_value(columns[name], value_types[name]) for name in names]
    encoded_values = [value for value in values if value is not None]
    if version != 3 or len(encoded_values) < len(names):
        return _keys_by_feast(columns, value_types, version)
    head = struct.pack("<I", len(names))
    for name in names:
        encoded = name.encode()
        head += struct.pack("<II", _STRING, len(encoded)) + encoded
    return joined(head, *encoded_values)


def _value(column: pa.Array, value_type: str) -> pa.LargeBinaryArray | None:
    """Return type, size and bytes of each value; None if this module does not encode the type."""
    if value_type in ("STRING", "BYTES"):
        has_type = pa.types.is_string if value_type == "STRING" else pa.types.is_binary
        if not has_type(column.type):
            return None
        content = as_bytes(column)
        sizes = fixed_width(byte_sizes(content).astype(np.uint32))
        return joined(struct.pack("<I", _NUMBER_OF[value_type]), sizes, content)
    numbers = timestamp_seconds(column) if value_type == "UNIX_TIMESTAMP" else None
    if value_type in ("INT32", "INT64"):
        numbers = integers(column, value_type)
    if numbers is None:
        return None
    numbers = numbers.astype(np.int32 if value_type == "INT32" else np.int64)
    return joined(struct.pack("<II", _NUMBER_OF[value_type], numbers.dtype.itemsize), fixed_width(numbers))


def _keys_by_feast(columns: dict[str, pa.Array], value_types: dict[str, str], version: int) -> pa.LargeBinaryArray:
    """Serialize the join keys by Feast's own code, row by row."""
    from feast import ValueType
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.type_map import python_values_to_proto_values

    protos = [
        python_values_to_proto_values(column.to_numpy(zero_copy_only=False), ValueType[value_types[name]])
        for name, column in columns.items()
    ]
    keys = [EntityKey(join_keys=list(columns), entity_values=row) for row in zip(*protos)]
    return pa.array([serialize_entity_key(key, version) for key in keys], pa.large_binary())
