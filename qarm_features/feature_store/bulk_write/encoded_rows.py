"""The facts about a view that executors need, and the encoding of its rows for an online store, column by column.

In: Arrow batches of a view's latest rows. Out: keys, values and timestamps as Feast's online stores keep them. This module
uses no Feast object, because importing Feast takes a Python worker seconds.
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
    """A view as the online store keeps it.

    Attributes:
        project: Name of the Feast project.
        name: Name of the view in the online store, with its version if Feast's registry keeps versions.
        keys: Name and Feast value type of each join key.
        features: Name and Feast value type of each feature.
        timestamp_field: Column of event times.
        created_timestamp_field: Column of creation times; None if the source has none.
        key_version: Setting ``entity_key_serialization_version`` of feature_store.yaml.
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
        """Names of the columns to read, without repetition."""
        times = [self.timestamp_field, self.created_timestamp_field]
        names = [name for name, _ in (*self.keys, *self.features)] + [name for name in times if name]
        return list(dict.fromkeys(names))


class EncodedRows(NamedTuple):
    """B encoded rows.

    Attributes:
        keys: (B,) serialized entity keys.
        values: For each feature in the view's order, (B,) serialized values.
        texts: For each feature, B texts that the store keeps beside the values; an empty list if it keeps none.
        timestamps: (B,) int64, event times in microseconds since 1970.
        created: B creation times in microseconds since 1970, None where unknown; an empty list if the source has none.
    """

    keys: pa.LargeBinaryArray
    values: list[pa.LargeBinaryArray]
    texts: list[list[str | None]]
    timestamps: np.ndarray
    created: list[int | None]


def encode_rows(batch: pa.RecordBatch, view: OnlineView, *, with_texts: bool = False) -> EncodedRows:
    """Encode a batch of rows.

    Args:
        batch: B rows with the columns of the view.
        view: View of the rows.
        with_texts: True to encode also the texts that SQL stores keep beside values.

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
    """Return times (B,) as microseconds since 1970; null stays null."""
    if not pa.types.is_timestamp(column.type):  # dates or text, which Feast reads by pandas
        column = pa.array(pd.to_datetime(column.to_numpy(zero_copy_only=False)), from_pandas=True)
    if column.type.unit == "us":
        return column.cast(pa.int64())
    return pc.cast(column, pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
