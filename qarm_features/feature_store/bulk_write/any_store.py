"""Writes to any online store through its own ``online_write_batch``, from executors and in bounded batches.

In: Arrow batches of a view's latest rows. Out: rows in the online store, written by Feast's own code.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from feast.infra.common.serde import SerializedArtifacts

from qarm_features.feature_store.feast_internals import rows_for_store


@dataclass(frozen=True)
class StoreTarget:
    """A description of the store to write to, which Spark sends to executors.

    Attributes:
        artifacts: The view and the repo's configuration, serialized as Feast's own engine sends them.
    """

    artifacts: SerializedArtifacts

    def open(self) -> StoreWriter:
        """Open the store, once per Spark task."""
        return StoreWriter(self.artifacts)


class StoreWriter:
    """Writes chunks with one store object, which keeps its connections between chunks.

    Args:
        artifacts: The view and the repo's configuration.
    """

    def __init__(self, artifacts: SerializedArtifacts) -> None:
        self._view, self._store, _, self._config = artifacts.unserialize()
        self._key_types = {entity.name: entity.dtype.to_value_type() for entity in self._view.entity_columns}

    def write(self, batch: pa.RecordBatch) -> int:
        """Write a chunk and return the number of rows that the store was given."""
        rows = rows_for_store(batch, self._view, self._key_types)
        self._store.online_write_batch(config=self._config, table=self._view, data=rows, progress=lambda _: None)
        return batch.num_rows

    def close(self) -> None:
        """Do nothing, because Feast has no way to close a store."""
