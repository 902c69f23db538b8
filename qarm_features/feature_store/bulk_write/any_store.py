"""Writes rows to any online store through its own ``online_write_batch``, from executors, in bounded batches."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from feast.infra.common.serde import SerializedArtifacts
from feast.utils import _convert_arrow_to_proto


@dataclass(frozen=True)
class StoreTarget:
    """What to write with; travels to executors.

    Attributes:
        artifacts: The view and the repo's configuration, as Feast's own engine sends them.
    """

    artifacts: SerializedArtifacts

    def open(self) -> StoreWriter:
        """Opens the store, once for a Spark task."""
        return StoreWriter(self.artifacts)


class StoreWriter:
    """Writes chunks with one store object, so that it keeps its connections."""

    def __init__(self, artifacts: SerializedArtifacts):
        self._view, self._store, _, self._config = artifacts.unserialize()
        self._keys = {entity.name: entity.dtype.to_value_type() for entity in self._view.entity_columns}

    def write(self, batch: pa.RecordBatch) -> int:
        """Writes a chunk, and returns how many rows the store was given."""
        rows = _convert_arrow_to_proto(batch, self._view, self._keys)
        self._store.online_write_batch(config=self._config, table=self._view, data=rows, progress=lambda _: None)
        return batch.num_rows

    def close(self) -> None:
        """Leaves the store to be collected: Feast's stores have no close."""
