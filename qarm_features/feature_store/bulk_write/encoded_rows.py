"""What executors know of a view, and a batch of its rows encoded column by column for an online store.

In: Arrow batches of a view's latest rows. Out: keys, values and timestamps as Feast's online stores keep them. Nothing here
holds a Feast object: importing Feast takes a Python worker seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.feature_store.bulk_write.entity_key_bytes import entity_key_bytes
from qarm_features.feature_store.bulk_write.value_bytes import value_bytes, value_texts


@dataclass(frozen=True)
class OnlineView:
    """A view as the online store sees it.

    Attributes:
        project: Feast's project.
        name: The view's name, with its version where Feast's registry keeps versions apart.
        keys: Name and Feast value type of each join key.
        features: Name and Feast value type of each feature.
        timestamp_field: Column of event times.
        created_timestamp_field: Column of the times rows were made at; None where the source has none.
        key_version: ``entity_key_serialization_version``.
    """

    project: str
    name: str
    keys: tuple[tuple[str, str], ...]
    features: tuple[tuple[str, str], ...]
    timestamp_field: str
    created_timestamp_field: str | None
    key_version: int

    @property
    def columns(self) -> list[str]:
        """The columns to read, each once."""
        times = [self.timestamp_field, self.created_timestamp_field]
        names = [name for name, _ in (*self.keys, *self.features)] + [name for name in times if name]
        return list(dict.fromkeys(names))


class EncodedRows(NamedTuple):
    """B encoded rows.

    Attributes:
        keys: (B,) serialized entity keys.
        values: (B,) serialized values of each feature, in the view's order.
        texts: (B,) text beside each value, by feature; only where a store keeps it, else empty.
        timestamps: (B,) int64, event times in microseconds since 1970.
        created: (B,) the same for the times rows were made at, None where unknown; empty where the source has none.
    """

    keys: pa.LargeBinaryArray
    values: list[pa.LargeBinaryArray]
    texts: list[list[str | None]]
    timestamps: np.ndarray
    created: list[int | None]


def encode_rows(batch: pa.RecordBatch, view: OnlineView, *, with_texts: bool = False) -> EncodedRows:
    """Encodes a batch of rows.

    Args:
        batch: B rows with the columns of the view.
        view: What to encode.
        with_texts: Also the texts that SQL stores keep beside values.

    Raises:
        ValueError: A join key or an event time is null.
    """
    keys = entity_key_bytes({name: batch.column(name) for name, _ in view.keys}, dict(view.keys), view.key_version)
    features = [(batch.column(name), value_type) for name, value_type in view.features]
    times = _microseconds(batch.column(view.timestamp_field))
    if times.null_count:
        raise ValueError(
            f"{view.timestamp_field} of {view.name} is null in {times.null_count:,} rows, must be set. "
            "Remove these rows from the source."
        )
    created = view.created_timestamp_field
    return EncodedRows(
        keys=keys,
        values=[value_bytes(column, value_type) for column, value_type in features],
        texts=[value_texts(column, value_type) for column, value_type in features] if with_texts else [],
        timestamps=times.to_numpy(),
        created=_microseconds(batch.column(created)).to_pylist() if created else [],
    )


def _microseconds(column: pa.Array) -> pa.Int64Array:
    if not pa.types.is_timestamp(column.type):  # dates, or text: as Feast reads them
        column = pa.array(pd.to_datetime(column.to_numpy(zero_copy_only=False)), from_pandas=True)
    if column.type.unit == "us":
        return column.cast(pa.int64())
    return pc.cast(column, pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
